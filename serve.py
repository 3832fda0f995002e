"""A page and an API on this machine: the category, the price and the listings that suit a text, a photo or a listing.

    python serve.py --data-dir data/sample [--host 127.0.0.1] [--port 8000]

Reads what predict_category.py, predict_price.py and rank_products.py read, once, and answers with the objects that they
print with --json; writes nothing but the index where it is missing or stale. The page is in web/.
"""

if __name__ == "__main__":  # before the imports, which take a while: run() answers Ctrl-C meanwhile
    from marketplace.command_line import run

    run("serve")

import argparse
import ipaddress
import socket
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar
from urllib.parse import urlsplit

from marketplace.command_line import argument_parser
from marketplace.data_folder import MODEL_FILES, ROOT, DataFolder, UserError
from marketplace.listing_text import clean_description
from marketplace.photo_cleaning import MAX_PIXELS, PhotoError
from rank_products import open_index
from ranking.gallery import photo_jpeg, photo_paths
from ranking.queries import Filters, NoListingError, QueryError, Ranker, Ranking

try:
    import uvicorn
    from fastapi import FastAPI, File, Form, HTTPException, Request, Response, UploadFile
    from fastapi.exceptions import RequestValidationError
    from fastapi.responses import FileResponse, JSONResponse
    from fastapi.staticfiles import StaticFiles
    from starlette.datastructures import Headers, MutableHeaders
    from starlette.exceptions import HTTPException as StarletteHTTPException
    from starlette.types import ASGIApp, Message, Receive, Scope, Send
except ModuleNotFoundError as error:
    raise UserError(
        f"{error.name} is not installed: run make serve, or pip install -r requirements-serve.txt."
    ) from None

MAX_TEXT = 20_000  # characters
MAX_PHOTO_BYTES = 10_000_000
MAX_BODY_BYTES = MAX_PHOTO_BYTES + 500_000  # with the other fields
MAX_REQUEST_LINE = 256 * 1024  # bytes: the page's address holds the text, each character as up to 12 bytes
PHOTO_SIZE = 400  # pixels of a listing's photo, twice what a card shows, for dense screens
NO_PRICES = "this data folder has no price model: run make run, then start the server again."
TOO_LARGE = f"the request is too large: give a photo of at most {MAX_PHOTO_BYTES // 1_000_000} MB."
HEADERS = {
    "Content-Security-Policy": "default-src 'self'; img-src 'self' blob:",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Cross-Origin-Resource-Policy": "same-origin",  # no page of another site shows the photos
    "Referrer-Policy": "no-referrer",  # the address holds the query
}

Result = TypeVar("Result")
Text = Annotated[str | None, Form(max_length=MAX_TEXT, description="name and description of a product")]
Photo = Annotated[UploadFile | None, File(description="JPEG, PNG, WebP or GIF of at most 10 MB")]
Top = Annotated[int, Form(ge=1, le=100, description="how many to give")]
Name = Annotated[str | None, Form(max_length=300)]
Number = Annotated[float | None, Form(ge=0, allow_inf_nan=False)]


@dataclass(frozen=True)
class Health:
    """What the server has loaded."""

    status: str
    listings: int
    categories: list[str]  # the main categories of the listings
    category_model: str
    price_fault: str | None  # why there are no prices; None where there are


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
    models = {folder.checkpoints / file for file in MODEL_FILES.values()}
    if not folder.products_table_clean.is_file() or not any(path.is_file() for path in models):
        sample = folder.path.resolve() == ROOT / "data" / "sample"
        command = "make run" if sample else f"make run DATA_DIR={folder.path}"
        raise UserError(f"{folder.path} has no trained models yet: run {command} first.")


class Api:
    """The models and the index of a data folder, loaded once, and the endpoints over them.

    FastAPI calls each endpoint in a thread beside the event loop. The networks and Pillow work in one further thread:
    tokenizers and Pillow's warnings are not thread-safe, torch uses all cores anyway and keeps threads for each thread
    that calls it, and only one large photo is decoded at a time. A ranking by product does not wait for it.
    """

    def __init__(self, folder: DataFolder):
        from models.device import pick_device  # torch takes seconds
        from models.predictor import load_predictor
        from models.price import load_price_model
        from models.text_encoder import TextEncoder
        from ranking.features import load_networks, load_query_encoder

        device = pick_device()
        self.folder = folder
        self.ranker = Ranker(folder, open_index(folder))
        self.predictor = load_predictor(folder, device)
        self.networks = load_networks(folder)
        self.query_encoder = load_query_encoder(folder, self.networks, self.ranker.index)
        self.encoder = None
        if self.predictor.encoder is not None:
            self.encoder = TextEncoder(self.predictor.encoder, device, self.predictor.encoder_weights)
            if (self.encoder.key, device) == (self.query_encoder.key, self.query_encoder.device):
                self.encoder = self.query_encoder  # one copy of the weights
        has_prices = (folder.checkpoints / "price_model.skops").exists()
        self.price_model = load_price_model(folder) if has_prices else None
        self.image_ids = {image_id for of_listing in self.ranker.index.listings["photos"] for image_id in of_listing}
        self.worker = ThreadPoolExecutor(1)
        self.rank(text="a first query, so that all is loaded")

    def in_worker(self, work: Callable[..., Result], *arguments: Any) -> Result:
        return self.worker.submit(work, *arguments).result()

    def pixels(self, photo: UploadFile | None, size: int | None) -> Any:
        """Pixels (S, S, 3) uint8 of an uploaded photo, None without one; raises HTTPException if it cannot be read."""
        from marketplace.dataset import query_pixels

        if photo is None or size is None:
            return None
        if (photo.size or 0) > MAX_PHOTO_BYTES:
            raise HTTPException(413, TOO_LARGE)
        try:
            return self.in_worker(query_pixels, photo.file, size)
        except PhotoError as error:
            limits = f"{MAX_PHOTO_BYTES // 1_000_000} MB and {MAX_PIXELS // 1_000_000} megapixels"
            sentence = f"the photo cannot be read ({error}): give a JPEG, PNG, WebP or GIF of at most {limits}."
            raise HTTPException(422, sentence) from None

    def category(self, text: Text = None, photo: Photo = None, top: Top = 3) -> Any:
        """The most probable categories of a product from words, a photo, or both."""
        from models.predictor import predict_categories

        words = None if text is None else clean_description(text)
        if not words and photo is None:
            raise QueryError("there is nothing to look at: give a text or a photo.")
        if words and not self.predictor.reads_text:
            raise QueryError("the model of categories reads no text: give a photo alone.")
        if photo is not None and self.predictor.image_size is None:
            raise QueryError("the model of categories reads no photo: give a text alone.")
        pixels = self.pixels(photo, self.predictor.image_size)
        return self.in_worker(predict_categories, self.predictor, self.encoder, words or None, pixels, top)

    def price(self, text: Text = None, photo: Photo = None, category: Name = None, location: Name = None) -> Any:
        """An estimate of a product's price in pounds; without a category, in the one that /api/category gives."""
        if self.price_model is None:
            raise HTTPException(503, NO_PRICES)
        if text is None or not clean_description(text):
            raise QueryError("a price is estimated from words: give a text.")
        if category is None and self.predictor.reads_text:
            photo = photo if self.predictor.image_size else None
            category = self.category(text, photo, 1).predictions[0].category
        try:
            return self.price_model.estimate(clean_description(text), category, location)
        except UserError as error:
            raise QueryError(str(error)) from None

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
        from ranking.features import text_and_photo_vector

        words = text.strip() if text else None
        if not words and photo is None and product is None:
            raise QueryError("there is nothing to look for: give a text, a photo or the id of a listing.")
        if within is not None and near is None:
            raise QueryError("a distance needs a place to measure from: give a place, too.")
        index = self.ranker.index

        def vector():
            pixels = self.pixels(photo, index.metadata["image_size"])
            arguments = (self.networks, self.query_encoder, index, words, pixels)
            return self.in_worker(text_and_photo_vector, *arguments)

        filters = Filters(category, max_price, near, within)
        return self.ranker.rank(product, vector if words or photo is not None else None, filters, top)

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

    def health(self) -> Health:
        """What is loaded."""
        categories = sorted(set(self.ranker.index.listings["main_category"]))
        price_fault = NO_PRICES if self.price_model is None else None
        return Health("ok", len(self.ranker.index), categories, self.predictor.name, price_fault)


def create_app(api: Api, host: str = "127.0.0.1") -> ASGIApp:
    """The page and the API as an ASGI application that answers to `host`, to `localhost` and to addresses."""
    from models.predictor import Categories
    from models.price import PriceEstimate

    faults: dict[int | str, dict[str, Any]] = {status: {"model": Fault} for status in (403, 404, 413, 422)}
    app = FastAPI(title="Marketplace", version="1.0", docs_url=None, redoc_url=None, responses=faults)
    app.post("/api/category", response_model=Categories)(api.category)
    app.post("/api/price", response_model=PriceEstimate, responses={503: {"model": Fault}})(api.price)
    app.post("/api/rank", response_model=Ranking, response_model_exclude_none=True)(api.rank)
    app.get("/photos/{image_id}", response_class=Response)(api.photo)
    app.get("/health", response_model=Health)(api.health)
    app.get("/", include_in_schema=False)(page)
    app.mount("/web", StaticFiles(directory=ROOT / "web"))
    for kind in (QueryError, RequestValidationError, StarletteHTTPException, Exception):
        app.add_exception_handler(kind, answer_fault)
    return Guard(app, host)


def page() -> FileResponse:
    return FileResponse(ROOT / "web" / "index.html")


def fault(status: int, sentence: str) -> JSONResponse:
    return JSONResponse({"error": sentence}, status)


def answer_fault(request: Request, error: Exception) -> JSONResponse:
    """The status and the sentence of a fault; of an unexpected one uvicorn prints the traceback in the terminal."""
    if isinstance(error, QueryError):
        return fault(404 if isinstance(error, NoListingError) else 422, str(error))
    if isinstance(error, RequestValidationError):
        first = error.errors()[0]
        return fault(422, f"{first['loc'][-1]} is wrong: {first['msg'][:1].lower()}{first['msg'][1:]}.")
    if isinstance(error, StarletteHTTPException):
        own = error.detail.endswith(".")
        return fault(
            error.status_code, error.detail if own else f"{error.detail.lower()}: /openapi.json lists what there is."
        )
    return fault(500, "the server has failed: the terminal in which it runs says why.")


class Guard:
    """Keeps other sites and large requests from an application, and adds HEADERS to each of its answers.

    Another site could reach a server on this machine through its visitor's browser: by a name of its own that leads to
    127.0.0.1 (DNS rebinding), so a name must be `localhost`, this machine's or `host`; and by a form that posts to it,
    so a POST must come from our own page or from no page.
    """

    def __init__(self, app: ASGIApp, host: str):
        self.app = app
        self.names = {"localhost", socket.gethostname().lower(), host.lower()}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.update(HEADERS)
                headers.setdefault("Cache-Control", "no-cache")
            await send(message)

        refusal = self.refusal(scope["method"], Headers(scope=scope))
        await (refusal or self.app)(scope, limited(receive), send_with_headers)

    def refusal(self, method: str, headers: Headers) -> JSONResponse | None:
        host = headers.get("host", "")
        if not self.is_ours(host):
            return fault(400, "this server does not answer to that name: open it as localhost or by its address.")
        own_page = headers.get("origin") in (None, f"http://{host}", f"https://{host}")
        own_page &= headers.get("sec-fetch-site") in (None, "same-origin", "none")
        if method == "POST" and not own_page:
            return fault(403, "a page of another site sent this request: send it from this server's own page.")
        return None

    def is_ours(self, host: str) -> bool:
        """Whether a Host header is one of our names or an address, which no other site can have."""
        try:
            name = urlsplit(f"//{host}").hostname or ""
            return name in self.names or bool(ipaddress.ip_address(name))
        except ValueError:
            return False


def limited(receive: Receive) -> Receive:
    """`receive` that raises HTTPException after MAX_BODY_BYTES.

    The rest is read all the same, and forgotten: a browser reads the answer only when it has sent everything.
    """
    received = 0

    async def receive_limited() -> Message:
        nonlocal received
        message = await receive()
        received += len(message.get("body", b""))
        if received > MAX_BODY_BYTES:
            while message.get("more_body"):
                message = await receive()
            raise HTTPException(413, TOO_LARGE)
        return message

    return receive_limited


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


def is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def server_settings(app: ASGIApp) -> uvicorn.Config:
    """Settings of a server that prints faults only; an access log would hold the queries."""
    settings: dict[str, Any] = {"log_level": "warning", "access_log": False, "proxy_headers": False}
    settings |= {"server_header": False, "h11_max_incomplete_event_size": MAX_REQUEST_LINE}
    return uvicorn.Config(app, http="h11", ws="none", **settings)


def main() -> None:
    arguments = parse_arguments()
    folder = DataFolder(arguments.data_dir)
    check_trained(folder)
    listening = open_socket(arguments.host, arguments.port)
    if not is_loopback(arguments.host):
        print(
            f"warning: whoever can reach {arguments.host} sees the listings and uses the models: there is no password.",
            file=sys.stderr,
        )
    app = create_app(Api(folder), arguments.host)
    shown = f"[{arguments.host}]" if ":" in arguments.host else arguments.host
    print(f"serving {folder.path} at http://{shown}:{listening.getsockname()[1]} (Ctrl-C ends it)", flush=True)
    uvicorn.Server(server_settings(app)).run(sockets=[listening])
