"""A web server for the tests; a request's path names how the photo is served: well, badly, slowly or not at all."""

import contextlib
import threading
import time
from collections import Counter
from collections.abc import Iterator
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from photo_samples import jpeg

PHOTO = jpeg(80, 60)


class Handler(BaseHTTPRequestHandler):
    """`/good/...` is a photo; each other first part of a path names what goes wrong."""

    protocol_version = "HTTP/1.1"
    server: "PhotoServer"

    def do_GET(self):
        kind = self.path.split("/")[1]
        self.server.asked[self.path] += 1
        with contextlib.suppress(OSError):  # the client may leave in the middle
            getattr(self, f"answer_{kind}")(self.server.asked[self.path])

    def send(self, body: bytes, status: int = 200, length: int | None = None, **headers: str) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body) if length is None else length))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)

    def drip(self, beginning: bytes, piece: bytes) -> None:
        """Send a piece again and again, each before the client would call it silence."""
        self.wfile.write(beginning)
        while not self.server.closing.wait(0.2):
            self.wfile.write(piece)

    def answer_good(self, _):
        self.send(PHOTO, Content_Type="image/jpeg")

    def answer_chunked(self, _):
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        self.wfile.write(b"".join(b"1\r\n%c\r\n" % byte for byte in PHOTO) + b"0\r\n\r\n")

    def answer_slow(self, _):
        time.sleep(0.05)
        self.send(PHOTO)

    def answer_missing(self, _):
        self.send(b"<html>not here</html>", status=404, Content_Type="text/html")

    def answer_recovering(self, times: int):
        self.send(b"oh", status=500) if times <= 2 else self.send(PHOTO)

    def answer_busy(self, times: int):
        """Asks for a pause, and on a new request before its end for another one."""
        now = time.time()
        if times == 1:
            self.server.free_at = int(now) + 2
        if now < self.server.free_at:
            self.send(b"", status=503, Retry_After=formatdate(self.server.free_at, usegmt=True))
        else:
            self.send(PHOTO)

    def answer_later(self, _):
        self.send(b"", status=429, Retry_After="3600")

    def answer_never(self, _):
        self.send(b"", status=503, Retry_After="Wed, 21 Oct 99999999999999999999 07:28:00 GMT")

    def answer_headers(self, _):
        self.send(PHOTO, **{f"X-{number}": "" for number in range(150)})

    def answer_gzip(self, _):
        self.send(PHOTO, Content_Encoding="gzip")

    def answer_down(self, _):
        self.send(b"", status=500)

    def answer_moved(self, _):
        self.send(b"", status=302, Location="../good/moved.jpg")

    def answer_loop(self, _):
        self.send(b"", status=302, Location=self.path)

    def answer_tofile(self, _):
        self.send(b"", status=302, Location="file:///etc/hostname")

    def answer_truncated(self, _):
        self.send(PHOTO[:-200], length=len(PHOTO))
        self.close_connection = True

    def answer_page(self, _):
        self.send(b"<!DOCTYPE html><html><body>Please log in.</body></html>", Content_Type="image/jpeg")

    def answer_empty(self, _):
        self.send(b"", Content_Type="image/jpeg")

    def answer_endless(self, _):
        """Begins as a photo does, and does not say how long it is: up to a gigabyte."""
        self.send_response(200)
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(PHOTO[:100])
        for _ in range(1000):
            self.wfile.write(bytes(1_000_000))
            self.server.sent += 1_000_000

    def answer_silent(self, _):
        self.server.closing.wait(30)

    def answer_dripping(self, _):
        self.send(PHOTO[:100], length=len(PHOTO) + 10_000)
        self.drip(b"", b"\0")

    def answer_drippingheaders(self, _):
        self.drip(b"HTTP/1.1 200 OK\r\nX-Slow: ", b"x")

    def answer_drippingchunks(self, _):
        self.drip(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1;", b"x")

    def log_message(self, *_):
        """Nothing: the tests look at what arrives."""


class PhotoServer(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked: Counter = Counter()
        self.sent = 0
        self.free_at = 0
        self.closing = threading.Event()

    def link(self, path: str) -> str:
        return f"http://127.0.0.1:{self.server_port}/{path}"

    def handle_error(self, request, client_address):
        """Nothing: clients that leave are part of the tests."""


@contextlib.contextmanager
def photo_server() -> Iterator[PhotoServer]:
    with PhotoServer() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        try:
            yield server
        finally:
            server.closing.set()
            server.shutdown()
            thread.join()
