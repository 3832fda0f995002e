"""A page and an API on this machine: the category, the price and the listings that suit a text, a photo or a listing.

    python serve.py --data-dir data/sample [--host 127.0.0.1] [--port 8000]

Reads what predict_category.py, predict_price.py and rank_products.py read, once, and answers with the objects that they
print with --json; writes nothing but the index where it is missing or stale. The page is in web/.
"""

import argparse
import asyncio
import ipaddress
import socket
import sys
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from threading import BoundedSemaphore
from typing import Annotated, Any
from urllib.parse import urlsplit

from marketplace.command_line import argument_parser, run
from marketplace.data_folder import ROOT, DataFolder, QueryError, UserError
from marketplace.listing_text import query_text
from marketplace.photos import MAX_PIXELS, PhotoError, query_pixels
from rank_products import open_index
from ranking.gallery import photo_jpeg, photo_paths
from ranking.index import Filters, Ranker, Ranking

try:
    import uvicorn
    from fastapi import APIRouter, FastAPI, File, Form, HTTPException, Request, Response, UploadFile
    from fastapi.exceptions import RequestValidationError
    from fastapi.responses import FileResponse, JSONResponse
    from fastapi.staticfiles import StaticFiles
    from starlette.exceptions import HTTPException as StarletteHTTPException
    from starlette.requests import ClientDisconnect
except ModuleNotFoundError as error:
    raise UserError(
        f"{error.name} is not installed: run make serve, or pip install -r requirements-serve.txt."
    ) from None

MAX_PHOTO_BYTES = 10_000_000
MAX_BODY_BYTES = MAX_PHOTO_BYTES + 500_000  # with the other fields
MAX_REQUEST_LINE = 256 * 1024  # bytes: the page's address holds the text, each character as up to 12 bytes
WAITING = 30  # requests for the networks at once, of the 40 threads that FastAPI has
DRAIN_SECONDS = 5  # in which a client may send the rest of a request that is refused
PHOTO_SIZE = 400  # pixels of a listing's photo, twice what a card shows, for dense screens
TOO_LARGE = f"the request is too large: give a photo of at most {MAX_PHOTO_BYTES // 1_000_000} MB."
HEADERS = {
    "Content-Security-Policy": "default-src 'self'; img-src 'self' blob:",
    "X-Content-Type-Options": "nosniff",
    "Cross-Origin-Resource-Policy": "same-origin",  # no page of another site shows the photos
}

WORDS = Form(description="name and description of a product")
Text = Annotated[str | None, WORDS]
Photo = Annotated[UploadFile | None, File(description="JPEG, PNG, WebP or GIF of at most 10 MB")]
Top = Annotated[int, Form(ge=1, le=100, description="how many to give")]
Name = Annotated[str | None, Form(max_length=300)]
Number = Annotated[float | None, Form(ge=0, allow_inf_nan=False)]


@dataclass(frozen=True)
class Fault:
    """Why a request has no answer, in one sentence."""

    error: str


def parse_arguments() -> argparse.Namespace:
    parser = argument_parser("Serve the models and the ranking of a data folder as a page and an API.")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen at")
    parser.add_argument("--port", type=int, choices=range(65536), default=8000, metavar="PORT", help="0: any free one")
    return parser.parse_args()


def check_trained(folder: DataFolder) -> None:
    """Raises UserError when there is no clean table or no model."""
    if not folder.products_table_clean.is_file() or not folder.trained_models():
        sample = folder.path.resolve() == ROOT / "data" / "sample"
        command = "make run" if sample else f"make run DATA_DIR={folder.path}"
        raise UserError(f"{folder.path} has no trained models yet: run {command} first.")


class Api:
    """The models and the index of a data folder, loaded once, and the endpoints over them.

    FastAPI calls each endpoint in a thread beside the event loop. The networks and Pillow work in one further thread:
    tokenizers and Pillow's warnings are not thread-safe, torch uses all cores anyway and keeps threads for each thread
    that calls it, and only one large photo is decoded at a time. At most WAITING requests wait for it, so that threads
    are left for a ranking by product, which does not.
    """

    def __init__(self, folder: DataFolder):
        from models.device import pick_device  # torch takes seconds
        from models.predict import load_predictor
        from ranking.build import load_networks, load_query_encoder
        from shallow.price import load_price_model

        self.folder = folder
        self.ranker = Ranker(folder, open_index(folder))
        self.image_ids = {image_id for of_listing in self.ranker.index.listings["photos"] for image_id in of_listing}
        self.networks = load_networks(folder)
        self.query_encoder = load_query_encoder(folder, self.networks, self.ranker.index)
        self.predictor = load_predictor(folder, pick_device())
        encoder = self.predictor.text_encoder
        if encoder and (encoder.key, encoder.device) == (self.query_encoder.key, self.query_encoder.device):
            self.query_encoder = encoder  # one copy of the weights
        self.price_model = load_price_model(folder) if folder.price_model.exists() else None
        self.worker = ThreadPoolExecutor(1)
        self.places = BoundedSemaphore(WAITING)
        self.rank(text="a first query, so that all is loaded")
        _ = self.ranker.gazetteer, self.price_model and self.price_model.gazetteer  # no query with a place waits for it

    def in_worker(self, work: Callable[..., Any], *arguments: Any) -> Any:
        """What `work` returns; raises HTTPException when too many requests wait already."""
        if not self.places.acquire(blocking=False):
            raise HTTPException(503, "the server has too much to do: try again in a minute.")
        try:
            return self.worker.submit(work, *arguments).result()
        finally:
            self.places.release()

    def pixels(self, photo: UploadFile, size: int) -> Any:
        """Pixels (S, S, 3) uint8 of an uploaded photo; raises QueryError if it cannot be read."""
        if (photo.size or 0) > MAX_PHOTO_BYTES:
            raise HTTPException(413, TOO_LARGE)
        try:
            return self.in_worker(query_pixels, photo.file, size)
        except PhotoError as error:
            limit = f"{MAX_PIXELS // 1_000_000} megapixels"
            sentence = f"the photo cannot be read ({error}): give a JPEG, PNG, WebP or GIF of at most {limit}."
            raise QueryError(sentence) from None

    def category(self, text: Text = None, photo: Photo = None, top: Top = 3) -> Any:
        """The most probable categories of a product from words, a photo, or both."""
        if text is None and photo is None:
            raise QueryError("there is nothing to look at: give a text or a photo.")
        words = None if text is None else query_text(text)
        pixels = None if photo is None else self.pixels(photo, self.predictor.photo_size)
        return self.in_worker(self.predictor.predict, words, pixels, top)

    def price(self, text: Annotated[str, WORDS], category: Name = None, location: Name = None) -> Any:
        """An estimate of a product's price in pounds; without a category, in the most probable one of the text, if the
        model reads texts."""
        if self.price_model is None:
            raise HTTPException(503, "this data folder has no price model: run make run, then start the server again.")
        words = query_text(text)
        if category is None:
            category, _ = self.in_worker(self.predictor.main_category, words, None, self.price_model.labels)
        return self.price_model.estimate(words, category, location)

    def rank(
        self,
        text: Text = None,
        photo: Photo = None,
        product: Name = None,
        category: Name = None,
        max_price: Number = None,
        near: Name = None,
        within: Number = None,
        top: Top = 10,
    ) -> Ranking:
        """The listings that suit a text, a photo, a listing (`product`, its id), or several of them together.

        `category` is a main one or a path, `max_price` in pounds, `near` "Town, County", `within` in kilometres of it.
        """
        from ranking.build import text_and_photo_vector

        if text is None and photo is None and product is None:
            raise QueryError("there is nothing to look for: give a text, a photo or the id of a listing.")
        if within is not None and near is None:
            raise QueryError("a distance needs a place to measure from: give a place, too.")
        words = None if text is None else query_text(text)
        index = self.ranker.index

        def vector():
            pixels = None if photo is None else self.pixels(photo, index.metadata["image_size"])
            arguments = (self.networks, self.query_encoder, index, words, pixels)
            return self.in_worker(text_and_photo_vector, *arguments)

        filters = Filters(category, max_price, near, within)
        return self.ranker.rank(product, None if words is None and photo is None else vector, filters, top)

    def read_photo(self, image_id: str) -> bytes | None:
        """A listing's photo as a JPEG file without the metadata of the raw one; None if there is none to read."""
        paths = photo_paths(self.folder, [image_id], self.ranker.index.metadata["image_size"])
        inside = [path for path in paths if path.resolve().is_relative_to(path.parent.resolve())]  # no link out of it
        return photo_jpeg(inside, PHOTO_SIZE)

    def photo(self, image_id: str) -> Response:
        """A photo of a listing, square on black."""
        content = self.in_worker(self.read_photo, image_id) if image_id in self.image_ids else None
        if content is None:
            raise HTTPException(404, "no listing has this photo: take an id from an answer of /api/rank.")
        return Response(content, media_type="image/jpeg", headers={"Cache-Control": "private, max-age=3600"})

    def health(self) -> dict[str, Any]:
        """What is loaded."""
        categories = sorted(set(self.ranker.index.listings["main_category"]))
        return {"status": "ok", "listings": len(self.ranker.index), "categories": categories}


def create_app(api: Api, host: str = "127.0.0.1") -> FastAPI:
    """The page and the API, which answer to the name `host`, to `localhost` and to addresses.

    Another site could reach a server on this machine through its visitor's browser: by a name of its own that leads to
    127.0.0.1 (DNS rebinding), so a name must be `localhost`, this machine's or `host`; and by a form that posts to it,
    so a POST must come from our own page or from no page.
    """
    from models.predict import Categories
    from shallow.price import PriceEstimate

    faults: dict[int | str, dict[str, Any]] = {status: {"model": Fault} for status in (403, 404, 413, 422, 503)}
    app = FastAPI(title="Marketplace", version="1.0", docs_url=None, redoc_url=None)
    routes = APIRouter(responses=faults, max_body_size=MAX_BODY_BYTES)
    routes.post("/api/category", response_model=Categories)(api.category)
    routes.post("/api/price", response_model=PriceEstimate)(api.price)
    routes.post("/api/rank", response_model=Ranking, response_model_exclude_none=True)(api.rank)
    routes.get("/photos/{image_id}", response_class=Response)(api.photo)
    routes.get("/health")(api.health)
    routes.get("/", include_in_schema=False)(lambda: FileResponse(ROOT / "web" / "index.html"))
    app.include_router(routes)
    app.mount("/web", StaticFiles(directory=ROOT / "web"))
    for kind in (QueryError, RequestValidationError, StarletteHTTPException, Exception):
        app.add_exception_handler(kind, answer_fault)
    names = {"localhost", socket.gethostname().lower(), host.lower()}

    @app.middleware("http")
    async def guard(request: Request, answer: Callable[[Request], Awaitable[Response]]) -> Response:
        own_host = request.headers.get("host", "")
        own_page = request.headers.get("origin") in (None, f"http://{own_host}", f"https://{own_host}")
        refusal = None
        if not is_ours(own_host, names):
            refusal = fault(400, "this server does not answer to that name: open it as localhost or by its address.")
        elif request.method == "POST" and not own_page:
            refusal = fault(403, "a page of another site sent this request: send it from this server's own page.")
        elif int(request.headers.get("content-length", 0)) > MAX_BODY_BYTES:
            refusal = fault(413, TOO_LARGE)
        if refusal is not None:
            with suppress(ClientDisconnect, TimeoutError):
                async with asyncio.timeout(DRAIN_SECONDS):
                    async for _ in request.stream():  # a client reads the answer only when it has sent everything
                        pass
            refusal.headers["Connection"] = "close"  # or the server would go on reading what is left
        response = refusal or await answer(request)
        response.headers.update(HEADERS)
        response.headers.setdefault("Cache-Control", "no-cache")
        return response

    return app


def is_ours(host: str, names: set[str]) -> bool:
    """Whether a Host header is one of `names` or an address, which no other site can have."""
    try:
        name = urlsplit(f"//{host}").hostname or ""
        return name in names or bool(ipaddress.ip_address(name))
    except ValueError:
        return False


def fault(status: int, sentence: str) -> JSONResponse:
    return JSONResponse({"error": sentence}, status, HEADERS)


def answer_fault(request: Request, error: Exception) -> JSONResponse:
    """The status and the sentence of a fault; of an unexpected one uvicorn prints the traceback in the terminal."""
    if isinstance(error, QueryError):
        return fault(422, str(error))
    if isinstance(error, RequestValidationError):
        first = error.errors()[0]
        return fault(422, f"{first['loc'][-1]} is wrong: {first['msg'][:1].lower()}{first['msg'][1:]}.")
    if isinstance(error, StarletteHTTPException):
        detail = TOO_LARGE if error.status_code == 413 else error.detail
        own = detail.endswith(".")
        return fault(error.status_code, detail if own else f"{detail.lower()}: /openapi.json lists what there is.")
    return fault(500, "the server has failed: the terminal in which it runs says why.")


def open_socket(host: str, port: int) -> socket.socket:
    """A socket that listens; raises UserError when the address cannot be had."""
    try:
        listening = socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except OSError as error:
        cause = str(error.strerror).partition(" (")[0]
        raise UserError(f"port {port} of {host} cannot be used ({cause}): give another --port or --host.") from None
    # connections inherit it; without it an answer in two packets waits 40 ms for the client's acknowledgement
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listening


def make_server(app: FastAPI) -> uvicorn.Server:
    """A server that prints faults only; an access log would hold the queries."""
    quiet: dict[str, Any] = {"log_level": "warning", "access_log": False, "server_header": False}
    limits: dict[str, Any] = {"ws": "none", "proxy_headers": False, "h11_max_incomplete_event_size": MAX_REQUEST_LINE}
    return uvicorn.Server(uvicorn.Config(app, http="h11", **quiet, **limits))


def main() -> None:
    arguments = parse_arguments()
    folder = DataFolder(arguments.data_dir)
    check_trained(folder)
    listening = open_socket(arguments.host, arguments.port)
    address, port = listening.getsockname()[:2]
    if not ipaddress.ip_address(address).is_loopback:
        print(f"warning: whoever can reach {address} can use this server: there is no password.", file=sys.stderr)
    app = create_app(Api(folder), arguments.host)
    shown = f"[{arguments.host}]" if ":" in arguments.host else arguments.host
    print(f"serving {folder.path} at http://{shown}:{port} (Ctrl-C ends it)", flush=True)
    make_server(app).run(sockets=[listening])


if __name__ == "__main__":
    run(main, stopped="stopped.")
