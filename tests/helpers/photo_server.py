"""A web server for the tests; a request's path names how the photo is served: well, badly, slowly or not at all."""

import contextlib
import io
import threading
import time
from collections import Counter
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from PIL import Image

GIGABYTE = 1_000_000_000


def picture(kind: str = "JPEG") -> bytes:
    """A small photo's file."""
    file = io.BytesIO()
    Image.linear_gradient("L").convert("RGB").resize((80, 60)).save(file, kind)
    return file.getvalue()


class Handler(BaseHTTPRequestHandler):
    """`/good/...` is a photo; each other first part of a path names what goes wrong."""

    protocol_version = "HTTP/1.1"
    server: "PhotoServer"

    def do_GET(self):
        kind = self.path.split("/")[1]
        self.server.asked[self.path] += 1
        with contextlib.suppress(OSError):  # the client may leave in the middle
            getattr(self, f"answer_{kind}")(self.server.asked[self.path])

    def send(self, body: bytes, status: int = 200, length: int | str | None = None, **headers: str) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body) if length is None else length))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)

    def send_endlessly(self, beginning: bytes) -> None:
        """Up to a gigabyte; the server counts how much of it was taken."""
        self.wfile.write(beginning)
        block = bytes(1_000_000)
        for _ in range(GIGABYTE // len(block)):
            self.wfile.write(block)
            self.server.sent += len(block)

    def answer_good(self, _):
        self.send(picture(), Content_Type="image/jpeg")

    def answer_twolengths(self, _):
        self.send(picture(), Content_length=str(len(picture())))

    def answer_listedlengths(self, _):
        self.send(picture(), length=f"{len(picture())}, {len(picture())}")

    def answer_differinglengths(self, _):
        self.send(picture(), Content_length="5")

    def answer_secondhand(self, _):
        self.send(picture(), status=203)

    def answer_chunked(self, _):
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.send_header("Content-Length", "5")  # to be ignored then
        self.end_headers()
        self.wfile.write(b"".join(b"1;x=y\r\n%c\r\n" % byte for byte in picture()) + b"0\r\nTrailer: x\r\n\r\n")

    def answer_spoilt(self, _):
        """Whole by its length, but no photo that could be decoded."""
        self.send(picture()[:-200])

    def answer_png(self, _):
        self.send(picture("PNG"), Content_Type="application/octet-stream")

    def answer_webp(self, _):
        self.send(picture("WEBP"))

    def answer_gif(self, _):
        self.send(picture("GIF"))

    def answer_slow(self, _):
        time.sleep(0.05)
        self.send(picture())

    def answer_missing(self, _):
        self.send(b"<html>not here</html>", status=404, Content_Type="text/html")

    def answer_recovering(self, times: int):
        self.send(b"oh", status=500) if times <= 2 else self.send(picture())

    def answer_busy(self, times: int):
        self.send(b"", status=503, Retry_After="1") if times == 1 else self.send(picture())

    def answer_down(self, _):
        self.send(b"", status=500)

    def answer_moved(self, _):
        self.send(b"", status=302, Location="../good/moved.jpg")

    def answer_loop(self, _):
        self.send(b"", status=302, Location=self.path)

    def answer_tofile(self, _):
        self.send(b"", status=302, Location="file:///etc/hostname")

    def answer_truncated(self, _):
        self.send(picture()[:-200], length=len(picture()))
        self.close_connection = True

    def answer_cutonce(self, times: int):
        self.answer_truncated(times) if times == 1 else self.send(picture())

    def answer_page(self, _):
        self.send(
            b"<!DOCTYPE html><html><body>Please log in to see this photo.</body></html>", Content_Type="image/jpeg"
        )

    def answer_empty(self, _):
        self.send(b"", Content_Type="image/jpeg")

    def answer_zeros(self, _):
        self.send(b"", length=GIGABYTE)
        self.send_endlessly(b"")

    def answer_endless(self, _):
        """Begins as a photo does, and does not say how long it is."""
        self.send_response(200)
        self.send_header("Connection", "close")
        self.end_headers()
        self.send_endlessly(picture()[:100])
        self.close_connection = True

    def answer_redirectbody(self, _):
        self.send(b"", status=302, length=GIGABYTE, Location="/good/after_a_gigabyte.jpg")
        self.send_endlessly(b"")

    def answer_silent(self, _):
        self.server.closing.wait(30)

    def answer_stalled(self, _):
        self.send(picture()[:100], length=len(picture()))
        self.server.closing.wait(30)

    def answer_dripping(self, _):
        self.send(picture()[:100], length=len(picture()))
        while not self.server.closing.wait(0.2):
            self.wfile.write(b"\x00")

    def log_message(self, *_):
        """Nothing: the tests look at what arrives."""


class PhotoServer(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked: Counter = Counter()
        self.sent = 0
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
