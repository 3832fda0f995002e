"""TLS before a PostgreSQL server that was built without it, with an authority made for the test.

The proxy does what a server with TLS does: it answers the client's SSLRequest with `S`, ends TLS, and hands the rest to
the server in plain. Protocol: https://www.postgresql.org/docs/current/protocol-flow.html#PROTOCOL-FLOW-SSL
"""

import contextlib
import datetime
import ipaddress
import socket
import ssl
import struct
import threading
from collections.abc import Iterator
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

SSL_REQUEST = struct.pack("!ii", 8, 80877103)
GSS_REQUEST = struct.pack("!ii", 8, 80877104)


class Authority:
    """A certificate authority of one day; `certificate` is its file, for SSLROOTCERT."""

    def __init__(self, folder: Path, name: str):
        self.folder = folder
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
        extension = x509.BasicConstraints(ca=True, path_length=0)
        self.certificate = folder / f"{name}.crt"
        self.certificate.write_bytes(self._signed(self.name, self.key, extension))

    def _signed(self, name: x509.Name, key: ec.EllipticCurvePrivateKey, extension: x509.ExtensionType) -> bytes:
        now = datetime.datetime.now(datetime.UTC)
        builder = x509.CertificateBuilder(
            issuer_name=self.name,
            subject_name=name,
            public_key=key.public_key(),
            serial_number=x509.random_serial_number(),
            not_valid_before=now - datetime.timedelta(hours=1),
            not_valid_after=now + datetime.timedelta(days=1),
        )
        certificate = builder.add_extension(extension, critical=False).sign(self.key, hashes.SHA256())
        return certificate.public_bytes(serialization.Encoding.PEM)

    def server_context(self, address: str) -> ssl.SSLContext:
        """TLS of a server whose certificate, signed by this authority, is for the IP address `address`."""
        key = ec.generate_private_key(ec.SECP256R1())
        names = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(address))])
        subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "server")])
        file = self.folder / f"server-{address}.pem"
        private = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        file.write_bytes(private + self._signed(subject, key, names))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(file)
        return context


def _pump(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
    for end in (source, target):
        with contextlib.suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)


def _serve(client: socket.socket, context: ssl.SSLContext, server_port: int) -> None:
    with contextlib.suppress(OSError), client:
        request = client.recv(8, socket.MSG_WAITALL)
        if request == GSS_REQUEST:  # a client with Kerberos asks for that first
            client.sendall(b"N")
            request = client.recv(8, socket.MSG_WAITALL)
        if request != SSL_REQUEST:
            return
        client.sendall(b"S")
        server_end = socket.create_connection(("127.0.0.1", server_port))
        with server_end as server, context.wrap_socket(client, server_side=True) as secure:
            back = threading.Thread(target=_pump, args=(server, secure), daemon=True)
            back.start()
            _pump(secure, server)
            back.join()


@contextlib.contextmanager
def tls_proxy(context: ssl.SSLContext, server_port: int) -> Iterator[int]:
    """Give the port of 127.0.0.1 on which PostgreSQL clients find `server_port` behind TLS."""
    listener = socket.create_server(("127.0.0.1", 0))

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = listener.accept()
                threading.Thread(target=_serve, args=(client, context, server_port), daemon=True).start()

    thread = threading.Thread(target=accept, daemon=True)
    thread.start()
    try:
        yield listener.getsockname()[1]
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join()
