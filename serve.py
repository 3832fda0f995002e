"""A page and an API on this machine: the category, the price and the relevant listings of a text, a photo or a listing.

    python serve.py --data-dir data/sample [--host 127.0.0.1] [--port 8000]

Reads what predict_category.py, predict_price.py and rank_products.py read, once, and answers with the objects that they
print with --json; writes nothing but the index where it is missing or stale. The page is in web/.
"""

import argparse
import asyncio
import functools
import socket
import sys
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Annotated, Any

from marketplace.command_line import argument_parser, run
from marketplace.data_folder import ROOT, DataFolder, QueryError, UserError, check_data_folder
from marketplace.listing_text import query_parts
from marketplace.photos import MAX_PIXELS, PhotoError, query_pixels
from rank_products import open_index
from ranking.gallery import photo_jpeg, photo_paths
from ranking.index import Ranker, Ranking

try:
    import uvicorn
    from fastapi import APIRouter, FastAPI, File, Form, HTTPException, Request, Response, UploadFile
    from fastapi.exceptions import RequestValidationError
    from fastapi.responses import FileResponse, JSONResponse
    from fastapi.staticfiles import StaticFiles
    from starlette.exceptions import HTTPException as StarletteHTTPException
    from starlette.middleware.trustedhost import TrustedHostMiddleware
except ModuleNotFoundError as error:
    sys.exit(f"error: {error.name} is not installed: run make serve, or pip install -r requirements-serve.txt.")

MAX_BODY_BYTES = 10_500_000  # a photo of 10 MB with the other fields
MAX_WAITING = 30  # requests at once
PHOTO_SIZE = 400  # pixels of a listing's photo, twice what a card shows, for dense screens
HEADERS = {
    "Content-Security-Policy": "default-src 'self'; img-src 'self' blob:",
    "X-Content-Type-Options": "nosniff",
    "Cross-Origin-Resource-Policy": "same-origin",  # no page of another site shows the photos
}
SERVER: dict[str, Any] = {
    "access_log": False,  # it would hold the queries
    "server_header": False,
    "proxy_headers": False,
    "http": "h11",
    "h11_max_incomplete_event_size": 256 * 1024,  # bytes: the page's address holds the text, percent-encoded
}

WORDS = Form(description="description of a product, or its name and description")
Text = Annotated[str | None, WORDS]
RequiredText = Annotated[str, WORDS]
Photo = Annotated[UploadFile | None, File(description="JPEG, PNG, WebP or GIF of at most 10 MB")]
Top = Annotated[int, Form(ge=1, le=100, description="how many to give")]
Name = Annotated[str | None, Form(max_length=300)]
Number = Annotated[float | None, Form(ge=0, allow_inf_nan=False)]


@dataclass(frozen=True)
class Error:
    """Why a request has no answer, in one sentence."""

    error: str


def parse_arguments() -> argparse.Namespace:
    parser = argument_parser("Serve the models and the ranking of a data folder as a page and an API.")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen at, and to open in a browser")
    parser.add_argument("--port", type=int, choices=range(65536), default=8000, metavar="PORT", help="0: any free one")
    return parser.parse_args()


def in_worker(work: Callable[..., Any]) -> Callable[..., Any]:
    """An endpoint that does `work`, a method of Api, in its worker thread; too many at once are refused with 503."""

    @functools.wraps(work)
    async def endpoint(api: "Api", **fields: Any) -> Any:
        if api.waiting >= MAX_WAITING:
            raise HTTPException(503, "the server is busy: try again in a minute.")
        api.waiting += 1
        try:
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(api.worker, functools.partial(work, api, **fields))
        finally:
            api.waiting -= 1

    return endpoint


class Api:
    """The models and the index of a data folder, loaded once, and the endpoints over them.

    All work is done in one thread beside the event loop: tokenizers are not thread-safe, torch uses all cores anyway,
    and only one large photo is decoded at a time.
    """

    def __init__(self, folder: DataFolder):
        from models.device import pick_device  # torch takes seconds
        from models.predict import load_predictor
        from ranking.build import load_networks
        from shallow.price import load_price_model

        self.folder = folder
        self.predictor = load_predictor(folder, pick_device())
        self.price_model: Any = None  # a PriceModel, if there is one
        try:
            self.price_model = load_price_model(folder)
        except UserError as error:
            print(f"warning: {error}", file=sys.stderr)
        self.networks = load_networks(folder)
        self.ranker = Ranker(folder, open_index(folder))
        self.image_ids = set(self.ranker.index.image_ids.tolist())
        self.worker = ThreadPoolExecutor(1)
        self.waiting = 0  # requests

    @in_worker
    def category(self, text: Text = None, name: Name = None, photo: Photo = None, top: Top = 3) -> Any:
        """The most probable categories of a product from a text, a photo, or both."""
        if text is None and photo is None:
            raise QueryError("a text or a photo is required.")
        pixels = None if photo is None else pixels_of(photo, self.predictor.photo_size)
        return self.predictor.predict(text, pixels, top, name)

    @in_worker
    def price(self, text: RequiredText, name: Name = None, category: Name = None, location: Name = None) -> Any:
        """An estimate of a product's price in pounds; without a category, in the most probable one of the text."""
        if self.price_model is None:
            raise HTTPException(503, "this data folder has no price model: run make run, then start the server again.")
        if category is None:
            category, _ = self.predictor.main_category(text, name, self.price_model.labels)
        return self.price_model.estimate(text, category, location, name)

    @in_worker
    def rank(
        self,
        text: Text = None,
        name: Name = None,
        photo: Photo = None,
        product: Name = None,
        category: Name = None,
        max_price: Number = None,
        near: Name = None,
        within: Number = None,
        top: Top = 10,
    ) -> Ranking:
        """The relevant listings to a text, a photo, a listing (`product`, its id), or several of them together.

        `category` is a main one or a path, `max_price` in pounds, `near` "Town, County", `within` in kilometres of it.
        """
        from ranking.build import query_vector

        index = self.ranker.index
        parts = None if text is None else query_parts(text, name)
        pixels = None if photo is None else pixels_of(photo, index.image_size)
        vector = query_vector(self.networks, index, parts, pixels)
        filters: dict[str, Any] = {"category": category, "max_price": max_price, "near": near, "within": within}
        return self.ranker.rank(vector=vector, product=product, top=top, **filters)

    @in_worker
    def photo(self, image_id: str) -> Response:
        """A photo of a listing, square on black, without the metadata of the raw one."""
        paths = photo_paths(self.folder, [image_id], self.ranker.index.image_size) if image_id in self.image_ids else []
        inside = [path for path in paths if path.resolve().is_relative_to(path.parent.resolve())]  # no link out of it
        content = photo_jpeg(inside, PHOTO_SIZE)
        if content is None:
            raise HTTPException(404, "no listing has this photo: take an id from an answer of /api/rank.")
        return Response(content, media_type="image/jpeg", headers={"Cache-Control": "private, max-age=3600"})

    async def health(self) -> dict[str, Any]:
        """What is loaded."""
        categories = sorted(set(self.ranker.index.listings["main_category"]))
        return {"status": "ok", "listings": len(self.ranker.index), "categories": categories}


def pixels_of(photo: UploadFile, size: int) -> Any:
    """Pixels (S, S, 3) uint8 of an uploaded photo; raises QueryError if it cannot be read."""
    try:
        return query_pixels(photo.file, size)
    except PhotoError as error:
        limit = f"{MAX_PIXELS // 1_000_000} megapixels"
        sentence = f"the photo cannot be read ({error}): give a JPEG, PNG, WebP or GIF of at most {limit}."
        raise QueryError(sentence) from None


def create_app(api: Api, host: str = "127.0.0.1") -> FastAPI:
    """The page and the API, which answer to the names `localhost`, this machine's own, 127.0.0.1, ::1 and `host`.

    Another site could reach a server on this machine through its visitor's browser: by a name of its own that leads to
    127.0.0.1 (DNS rebinding), so other names get no answer; and by a form that posts to it, so a POST must come from
    our own page or from no page.
    """
    from models.predict import Categories
    from shallow.price import PriceEstimate

    errors: dict[int | str, dict[str, Any]] = {status: {"model": Error} for status in (403, 404, 413, 422, 503)}
    app = FastAPI(title="Marketplace", version="1.0", docs_url=None, redoc_url=None)
    routes = APIRouter(responses=errors)
    routes.post("/api/category", response_model=Categories)(api.category)
    routes.post("/api/price", response_model=PriceEstimate)(api.price)
    routes.post("/api/rank", response_model=Ranking, response_model_exclude_none=True)(api.rank)
    routes.get("/photos/{image_id:path}", response_class=Response)(api.photo)
    routes.get("/health")(api.health)
    routes.get("/", include_in_schema=False)(lambda: FileResponse(ROOT / "web" / "index.html"))
    app.include_router(routes)
    app.mount("/web", StaticFiles(directory=ROOT / "web"))
    for kind in (QueryError, RequestValidationError, StarletteHTTPException, Exception):
        app.add_exception_handler(kind, answer_error)
    names = ["localhost", "127.0.0.1", "[::1]", socket.gethostname(), f"[{host}]" if ":" in host else host]
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=names)

    @app.middleware("http")
    async def guard(request: Request, answer: Callable[[Request], Awaitable[Response]]) -> Response:
        own, origin = request.headers.get("host"), request.headers.get("origin")
        length = int(request.headers.get("content-length", MAX_BODY_BYTES + 1))
        if request.method == "POST" and origin is not None and origin.partition("://")[2] != own:
            response = error_response(403, "a page of another site sent this request: send it from our own.")
        elif request.method == "POST" and length > MAX_BODY_BYTES:
            response = error_response(413, "the request is too large or has no length: give a photo of at most 10 MB.")
        else:
            response = await answer(request)
        response.headers.update(HEADERS)
        response.headers.setdefault("Cache-Control", "no-cache")
        return response

    return app


def error_response(status: int, sentence: str) -> Response:
    return JSONResponse({"error": sentence}, status, HEADERS)


def answer_error(request: Request, error: Exception) -> Response:
    """Status and sentence of an error; uvicorn prints the traceback of an unexpected one in the terminal."""
    if isinstance(error, QueryError):
        return error_response(422, str(error))
    if isinstance(error, RequestValidationError):
        first = error.errors()[0]
        return error_response(422, f"{first['loc'][-1]} is wrong: {first['msg'][:1].lower()}{first['msg'][1:]}.")
    if isinstance(error, StarletteHTTPException):
        return error_response(error.status_code, f"{error.detail.rstrip('.')}.")
    return error_response(500, "the server has failed: the terminal in which it runs says why.")


def main() -> None:
    arguments = parse_arguments()
    folder = DataFolder(arguments.data_dir)
    check_data_folder(folder.path)
    app = create_app(Api(folder), arguments.host)
    if arguments.host not in ("127.0.0.1", "::1", "localhost"):
        print(f"warning: whoever can reach {arguments.host} can use this server: no password.", file=sys.stderr)
    try:
        uvicorn.Server(uvicorn.Config(app, arguments.host, arguments.port, **SERVER)).run()
    except SystemExit:  # uvicorn has printed the cause
        raise UserError(f"port {arguments.port} of {arguments.host} cannot be used: give another.") from None


if __name__ == "__main__":
    run(main, stopped="stopped.")
