"""serve.py: every endpoint, bad requests of each kind, what keeps other sites out, and the server as a process."""

import http.client
import io
import json
import re
import signal
import socket
import struct
import subprocess
import sys
import time
import zlib
from concurrent.futures import ThreadPoolExecutor
from html.parser import HTMLParser
from itertools import product
from threading import Event, Thread

import httpx2
import pytest
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from repository import ROOT, run_script
from served_folder import EVIL, EVIL_ID, make_served_folder

import predict_category
import predict_price
import rank_products
import serve
from marketplace.data_folder import DataFolder, UserError, read_json

HEADERS = {
    "content-security-policy": "default-src 'self'; img-src 'self' blob:",
    "x-content-type-options": "nosniff",
}
CODEC = "unicode_escape"  # one of Python's, which a form may name
TEXTS = ("text", "product", "category", "location", "near")
ENDPOINTS = ("/api/category", "/api/price", "/api/rank")


@pytest.fixture(scope="module")
def folder(sample_folder, tmp_path_factory) -> DataFolder:
    return make_served_folder(sample_folder, tmp_path_factory.mktemp("serve") / "data")


@pytest.fixture(scope="module")
def api(folder) -> serve.Api:
    api = serve.Api(folder)
    assert "gazetteer" in vars(api.price_model)  # the first price with a place does not wait for it
    return api


@pytest.fixture(scope="module")
def client(api):
    with TestClient(serve.create_app(api), base_url="http://localhost", raise_server_exceptions=False) as client:
        yield client


@pytest.fixture(scope="module")
def photo(folder) -> bytes:
    """The raw photo of a listing."""
    return sorted(folder.images.glob("*.jpg"))[5].read_bytes()


def png(width: int, height: int) -> bytes:
    """A PNG that promises a size and holds one row of it."""
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = ((b"IHDR", head), (b"IDAT", zlib.compress(bytes(1 + 3 * min(width, 1000)))), (b"IEND", b""))
    parts = (
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body)) for name, body in chunks
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def surrogate_form(name: str) -> bytes:
    """A form with the field `name`, which becomes a text with a lone surrogate when it is read in CODEC."""
    fields = {"text": b"oak chair"} | {name: rb"oak \ud800 chair"}
    head = b'--x\r\nContent-Disposition: form-data; name="%s"\r\n\r\n%s\r\n'
    return b"".join(head % (field.encode(), value) for field, value in fields.items()) + b"--x--\r\n"


def check_fault(answer, status: int | None = None) -> str:
    """The sentence of a fault, which names no path of the machine and no code."""
    assert 400 <= answer.status_code < 500 or answer.status_code in (500, 503)
    assert status in (None, answer.status_code), answer.text
    assert answer.headers["content-type"] == "application/json"
    assert answer.json().keys() == {"error"}
    sentence = answer.json()["error"]
    assert re.fullmatch(r".+\.", sentence), sentence  # one line
    assert not re.search(r"/tmp/|/home/|/root/|Traceback|\.py\"|line \d+", sentence), sentence
    check_headers(answer)
    return sentence


def check_headers(answer) -> None:
    assert {name: answer.headers[name] for name in HEADERS} == HEADERS


def command_json(module, folder, monkeypatch, capsys, *arguments: object):
    """What a command prints with --json."""
    monkeypatch.setattr(sys, "argv", ["command", "--data-dir", str(folder.path), "--json", *map(str, arguments)])
    module.main()
    return json.loads(capsys.readouterr().out)


@pytest.mark.parametrize("fields", ["text", "photo", "both"])
def test_a_category_is_what_the_command_prints(client, folder, photo, fields, monkeypatch, capsys, tmp_path):
    (tmp_path / "photo.jpg").write_bytes(photo)
    data = {"text": "A small red bicycle. Hardly used"} if fields != "photo" else {}
    files = {"photo": photo} if fields != "text" else {}
    arguments = [f"--{name}={value}" for name, value in data.items()] + [f"--image={tmp_path / 'photo.jpg'}"] * len(
        files
    )
    answer = client.post("/api/category", data=data | {"top": 4}, files=files)
    assert answer.json() == command_json(predict_category, folder, monkeypatch, capsys, "--top", 4, *arguments)
    check_headers(answer)


def test_a_ranking_is_what_the_command_prints(client, folder, photo, monkeypatch, capsys, tmp_path):
    (tmp_path / "photo.jpg").write_bytes(photo)
    for data, files in (
        ({"text": "garden bench"}, {}),
        ({"product": EVIL_ID, "top": 3}, {}),
        ({"text": "lamp", "max-price": "80", "near": "Reading, Berkshire", "within": "300"}, {"photo": photo}),
    ):
        arguments = [f"--{name}={value}" for name, value in data.items()] + [f"--image={tmp_path / 'photo.jpg'}"] * len(
            files
        )
        answer = client.post(
            "/api/rank", data={name.replace("-", "_"): value for name, value in data.items()}, files=files
        )
        assert answer.json() == command_json(rank_products, folder, monkeypatch, capsys, *arguments)
        assert all(("distance_km" in result) == ("near" in data) for result in answer.json()["results"])


def test_a_ranking_without_results_says_why(client, folder, monkeypatch, capsys):
    answer = client.post("/api/rank", data={"text": "hat", "max_price": "0.01"})
    assert answer.status_code == 200 and answer.json()["results"] == []
    assert answer.json()["message"].startswith("no listing meets these filters: ")
    with pytest.raises(UserError, match="no listing meets these filters"):
        command_json(rank_products, folder, monkeypatch, capsys, "--text=hat", "--max-price=0.01")
    assert json.loads(capsys.readouterr().out) == answer.json()


def test_fields_may_be_urlencoded_and_empty(client):
    full = client.post("/api/rank", data={"text": "garden bench"}).json()
    empty = {"text": "garden bench", "category": "", "max_price": "", "near": "", "within": "", "product": ""}
    assert client.post("/api/rank", data=empty).json() == full
    content = b"text=garden+bench&category="
    headers = {"content-type": "application/x-www-form-urlencoded"}
    assert client.post("/api/rank", content=content, headers=headers).json() == full


def test_a_duplicate_means_the_listing_that_was_kept(client, api, monkeypatch):
    monkeypatch.setitem(api.ranker.kept_id, "dropped", EVIL_ID)
    assert client.post("/api/rank", data={"product": "dropped"}).json()["product"] == EVIL_ID


def test_a_hostile_name_is_a_text_of_json(client):
    answer = client.post("/api/rank", data={"text": EVIL, "top": 100, "max_price": 0.5})
    assert EVIL in [result["product_name"] for result in answer.json()["results"]]
    assert answer.headers["content-type"] == "application/json"
    asked = client.post("/api/rank", data={"product": EVIL_ID}).json()
    assert (asked["product"], asked["product_name"]) == (EVIL_ID, EVIL)
    assert EVIL_ID not in asked["photos"]


def test_photos_of_listings_are_square_jpegs_without_metadata(client):
    answer = client.post("/api/rank", data={"text": "anything", "top": 100}).json()
    assert answer["photos"].keys() == {result["id"] for result in answer["results"]}
    image_id = next(iter(filter(None, answer["photos"].values())))[0]
    got = client.get(f"/photos/{image_id}")
    assert (got.status_code, got.headers["content-type"]) == (200, "image/jpeg")
    with Image.open(io.BytesIO(got.content)) as image:
        assert image.size == (400, 400) and not image.getexif()
    check_headers(got)


@pytest.mark.parametrize(
    "path",
    [
        "nothing",
        "%2e%2e%2f%2e%2e%2fmarketplace.db",
        "..%2fimages_table.json",
        "%00",
        "%ff",
        "a/b",
        "x" * 5000,
        "*",
    ],
)
def test_no_path_leads_out_of_the_photo_folder(client, path):
    check_fault(client.get(f"/photos/{path}"), 404)


@pytest.mark.parametrize("path", ["..%2fserve.py", "%2e%2e/serve.py", "..%2f..%2fetc%2fpasswd", "nothing.js", ""])
def test_no_path_leads_out_of_the_page_folder(client, path):
    check_fault(client.get(f"/web/{path}"), 404)


def test_a_photo_that_is_a_link_out_of_its_folder_is_not_shown(api, folder, tmp_path, monkeypatch):
    image_id = next(iter(api.image_ids))
    images = tmp_path / "images"
    images.mkdir()
    (tmp_path / "private.jpg").write_bytes((folder.images / f"{image_id}.jpg").read_bytes())
    (images / f"{image_id}.jpg").symlink_to(tmp_path / "private.jpg")
    moved = DataFolder(tmp_path)
    monkeypatch.setattr(api, "folder", moved)
    assert api.read_photo(image_id) is None
    (images / f"{image_id}.jpg").unlink()
    (tmp_path / "private.jpg").rename(images / f"{image_id}.jpg")
    assert api.read_photo(image_id) is not None


@pytest.mark.parametrize("category", [None, "Home & Garden", "home & garden / Gnomes"])
def test_a_price_is_what_the_command_prints(client, folder, category, monkeypatch, capsys):
    data = {"text": "Oak chair. Some marks", "location": "Leeds, West Yorkshire"}
    data |= {} if category is None else {"category": category}
    arguments = [f"--{name}={value}" for name, value in data.items()]
    answer = client.post("/api/price", data=data)
    assert answer.json() == command_json(predict_price, folder, monkeypatch, capsys, *arguments)
    assert answer.json()["factors"] and answer.json()["low"] < answer.json()["price"] < answer.json()["high"]
    check_headers(answer)


def test_without_a_category_a_price_is_of_the_predicted_one(client):
    predicted = client.post("/api/category", data={"text": "oak chair", "top": 1}).json()["predictions"][0]["category"]
    assert client.post("/api/price", data={"text": "oak chair"}).json()["category"] == predicted


def test_where_no_model_reads_texts_a_price_is_that_of_words_alone(client, api, monkeypatch):
    monkeypatch.setattr(type(api.predictor), "reads_text", False)
    answer = client.post("/api/price", data={"text": "oak chair"})
    assert answer.status_code == 200 and "category" in answer.json() and answer.json()["category"] is None


def test_without_a_price_model_a_sentence_says_so(client, api, monkeypatch):
    monkeypatch.setattr(api, "price_model", None)
    assert "no price model: run make run" in check_fault(client.post("/api/price", data={"text": "oak chair"}), 503)


def test_health_names_what_is_loaded(client, folder):
    health = client.get("/health").json()
    listings = read_json(folder.products_table_clean, "")
    assert (health["status"], health["listings"]) == ("ok", len(listings))
    assert health["categories"] == sorted({listing["main_category"] for listing in listings})


def test_the_description_of_the_api_is_there_and_its_pages_are_not(client):
    paths = client.get("/openapi.json").json()["paths"]
    assert paths.keys() == {*ENDPOINTS, "/photos/{image_id}", "/health"}
    for path in ("/docs", "/redoc"):
        check_fault(client.get(path), 404)


@pytest.mark.parametrize(
    ("path", "fields", "status", "words"),
    [
        ("category", {}, 422, "there is nothing to look at"),
        ("category", {"text": " \n"}, 422, "the text is empty"),
        ("category", {"text": "x" * 20_001}, 422, "the text has more than 20,000 characters"),
        ("category", {"text": "x" * 2_000_000}, 400, "Part exceeded maximum size"),
        ("category", {"text": "hat", "top": "0"}, 422, "top is wrong: input should be greater than or equal to 1"),
        ("category", {"text": "hat", "top": "many"}, 422, "top is wrong"),
        ("price", {}, 422, "text is wrong: field required"),
        ("price", {"text": "\u200b"}, 422, "the text is empty"),
        ("price", {"text": "x" * 20_001}, 422, "the text has more than 20,000 characters"),
        ("price", {"text": "hat", "category": "Boats"}, 422, "no listing of train is in the category 'Boats'"),
        ("price", {"text": "hat", "location": "Atlantis"}, 422, "no place is known as 'Atlantis'"),
        ("rank", {}, 422, "there is nothing to look for"),
        ("rank", {"text": "\t"}, 422, "the text is empty"),
        ("rank", {"text": "x" * 20_001}, 422, "the text has more than 20,000 characters"),
        ("rank", {"product": "nothing"}, 422, "no listing has the id 'nothing'"),
        ("rank", {"product": "x" * 301}, 422, "product is wrong"),
        ("rank", {"text": "hat", "category": "Cars"}, 422, "no listing is in 'Cars': choose one of"),
        ("rank", {"text": "hat", "near": "Atlantis, Nowhere"}, 422, "no place is known as 'Atlantis, Nowhere'"),
        ("rank", {"text": "hat", "within": "5"}, 422, "a distance needs a place"),
        ("rank", {"text": "hat", "max_price": "cheap"}, 422, "max_price is wrong"),
        ("rank", {"text": "hat", "max_price": "nan"}, 422, "max_price is wrong"),
        ("rank", {"text": "hat", "max_price": "-1"}, 422, "max_price is wrong"),
        ("rank", {"text": "hat", "within": "inf", "near": "Leeds"}, 422, "within is wrong"),
        ("rank", {"text": "hat", "top": "101"}, 422, "top is wrong"),
        ("rank", {"text": "hat", "photo": "not a file"}, 422, "photo is wrong"),
    ],
)
def test_a_wrong_field_is_one_sentence(client, path, fields, status, words):
    files = {"other": b"makes the request multipart"}
    assert words in check_fault(client.post(f"/api/{path}", data=fields, files=files), status)


@pytest.mark.parametrize(
    ("content", "status", "words"),
    [
        (b"", 422, "empty file"),
        (b"not a photo", 422, "not a JPEG, PNG, WebP or GIF"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", 422, "not a JPEG, PNG, WebP or GIF"),
        (b"\xff\xd8\xff\xe0 half a photo", 422, "the photo cannot be read"),
        (png(60_000, 60_000), 422, "too many pixels"),
        (png(12_000, 9_000), 422, "the photo cannot be read"),  # promises 108 megapixels and has one row
        (bytes(10_000_001), 413, "at most 10 MB"),
        (bytes(30_000_000), 413, "at most 10 MB"),
    ],
    ids=["empty", "text", "svg", "half", "bomb", "one row", "10 MB", "30 MB"],
)
@pytest.mark.parametrize("path", ["category", "rank"])
def test_a_wrong_photo_is_one_sentence(client, path, content, status, words):
    assert words in check_fault(client.post(f"/api/{path}", files={"photo": content}), status)


def test_a_large_body_is_refused_without_its_length(client):
    def pieces():
        yield b'--x\r\nContent-Disposition: form-data; name="photo"; filename="a.jpg"\r\n\r\n'
        for _ in range(120):
            yield bytes(100_000)

    answer = client.post("/api/rank", content=pieces(), headers={"content-type": "multipart/form-data; boundary=x"})
    assert "at most 10 MB" in check_fault(answer, 413)


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (b"", "multipart/form-data"),
        (b"--y\r\n", "multipart/form-data; boundary=x"),
        (b"--x\r\n\r\nvalue\r\n--x--", "multipart/form-data; boundary=x"),
        (b'{"text": "hat"}', "application/json"),
        (b"\xff\xfe%zz=&&&=", "application/x-www-form-urlencoded"),
        (b"text=" + b"%00" * 10, "application/x-www-form-urlencoded"),
        *((surrogate_form(name), f"multipart/form-data; boundary=x; charset={CODEC}") for name in TEXTS),
    ],
)
@pytest.mark.parametrize("path", ENDPOINTS)
def test_a_body_that_is_no_form_is_refused_or_read(client, path, content, kind):
    answer = client.post(path, content=content, headers={"content-type": kind})
    if answer.status_code != 200:
        check_fault(answer)


def test_an_address_or_a_method_that_is_not_there(client):
    check_fault(client.get("/nothing"), 404)
    check_fault(client.post("/"), 405)
    check_fault(client.get("/api/rank"), 405)
    check_fault(client.delete("/health"), 405)


ODD = st.text(max_size=60) | st.floats().map(str) | st.sampled_from(["", "0", "1e400", "\0", "🦑"])
NUMBER = st.floats(1, 1e300).map(str)
FIELDS = st.fixed_dictionaries(
    {},
    optional={
        "text": ODD | st.text(min_size=1),
        "product": st.sampled_from([EVIL_ID, "nothing"]) | ODD,
        "category": st.sampled_from(["Home & Garden", "home & garden / ", " / "]) | ODD,
        "max_price": NUMBER | ODD,
        "near": st.sampled_from(["Leeds", "Reading, Berkshire"]) | ODD,
        "within": NUMBER | ODD,
        "location": ODD,
        "top": st.sampled_from(["1", "7", "100"]) | ODD,
        "odd": ODD,
    },
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    path=st.sampled_from(ENDPOINTS),
    fields=FIELDS,
    content=st.none() | st.binary(max_size=200) | st.binary(max_size=50).map(lambda noise: b"\xff\xd8\xff" + noise),
)
def test_no_fields_and_no_photo_make_the_server_fail(client, path, fields, content):
    answer = client.post(path, data=fields, files={} if content is None else {"photo": content})
    if answer.status_code == 200:
        check_headers(answer)
    else:
        check_fault(answer)
        assert answer.status_code < 500


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    path=st.sampled_from([*ENDPOINTS, "/", "/health"]),
    body=st.binary(max_size=300),
    head=st.dictionaries(
        st.sampled_from(["content-type", "origin", "host", "content-disposition"]),
        st.sampled_from(
            ["multipart/form-data; boundary=", "http://[", "localhost:x", "a:b:c", "[::1", "", "null", "\xff"]
        )
        | st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=20),
    ),
)
def test_no_bytes_make_the_server_fail(client, path, body, head):
    answer = client.post(path, content=body, headers={name: value.encode("latin-1") for name, value in head.items()})
    assert answer.status_code < 500
    check_headers(answer)


@pytest.mark.parametrize(
    "host", ["evil.example", "localhost.evil.example", "127.0.0.1.evil.example", "", "localhost@evil", "[::1"]
)
def test_another_name_gets_no_answer(client, host):
    for method, path in (("GET", "/"), ("GET", "/health"), ("POST", "/api/rank")):
        assert "does not answer to that name" in check_fault(client.request(method, path, headers={"host": host}), 400)


@pytest.mark.parametrize(
    "host", ["localhost", "LOCALHOST:8000", "127.0.0.1:8000", "[::1]:8000", "192.168.1.5", socket.gethostname()]
)
def test_our_own_names_and_addresses_get_one(client, host):
    assert client.get("/health", headers={"host": host}).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "http://evil.example"},
        {"origin": "null"},
        {"origin": "http://localhost:9"},
    ],
)
def test_a_page_of_another_site_cannot_post(client, headers):
    sentence = check_fault(client.post("/api/rank", data={"text": "hat"}, headers=headers), 403)
    assert "another site" in sentence


def test_our_own_page_can_post(client):
    assert client.post("/api/rank", data={"text": "hat"}, headers={"origin": "http://localhost"}).status_code == 200


def test_an_unexpected_fault_tells_nothing_of_the_machine(client, api, monkeypatch):
    def fail(*arguments):
        raise UserError(f"{api.folder.path} is not what it was")

    monkeypatch.setattr(api.ranker, "rank", fail)
    assert "terminal" in check_fault(client.post("/api/rank", data={"text": "hat"}), 500)


def test_many_at_once_get_the_answers_of_one_at_a_time(client):
    texts = [f"a {colour} {thing}" for colour in ("red", "blue", "oak") for thing in ("chair", "bike", "lamp", "phone")]

    def answer(query):
        return client.post(query[0], data={"text": query[1]}).json()

    queries = list(product(ENDPOINTS, texts))
    alone = [answer(query) for query in queries]
    with ThreadPoolExecutor(8) as threads:
        assert list(threads.map(answer, queries)) == alone


def test_when_too_many_wait_a_ranking_by_product_does_not(client, api):
    go_on = Event()
    api.worker.submit(go_on.wait, 120)
    with ThreadPoolExecutor(serve.WAITING) as threads:
        try:
            waiting = [threads.submit(client.post, "/api/rank", data={"text": "lamp"}) for _ in range(serve.WAITING)]
            while api.worker._work_queue.qsize() < serve.WAITING:
                time.sleep(0.01)
            assert client.post("/api/rank", data={"product": EVIL_ID}).status_code == 200
            assert "too much to do" in check_fault(client.post("/api/rank", data={"text": "lamp"}), 503)
        finally:
            go_on.set()
        assert [answer.result().status_code for answer in waiting] == [200] * serve.WAITING


def test_an_answer_needs_no_network(client, photo, monkeypatch):
    def refuse(*arguments):
        raise AssertionError("a connection was opened")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    for path in ENDPOINTS:
        assert client.post(path, data={"text": "oak chair"}, files={"photo": photo}).status_code == 200


class Markup(HTMLParser):
    def __init__(self, text: str):
        super().__init__()
        self.attributes: list[tuple[str, str | None]] = []
        self.tags: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.attributes += attributes


def test_the_page_keeps_to_the_content_security_policy(client):
    answer = client.get("/")
    assert answer.headers["content-type"].startswith("text/html")
    check_headers(answer)
    page = Markup(answer.text)
    names = {name for name, _ in page.attributes}
    assert "style" not in page.tags and "style" not in names and not [name for name in names if name.startswith("on")]
    for name, value in page.attributes:
        if name in ("src", "href"):
            got = client.get(f"/{value}")
            assert got.status_code == 200 and value.startswith("web/")
            check_headers(got)
    script = client.get("/web/page.js").text
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(|setAttribute\(\"style", script)
    for path in (ROOT / "web").iterdir():
        addresses = re.findall(r"https?://[^\s\"']+", path.read_text(encoding="utf-8"))
        assert set(addresses) <= {"http://www.w3.org/2000/svg"}, path


def test_an_untrained_folder_says_what_to_run(sample_folder, tmp_path, monkeypatch):
    for data_dir in (tmp_path / "nowhere", sample_folder):
        result = run_script("serve.py", "--data-dir", data_dir)
        assert (result.returncode, result.stdout) == (1, "")
        assert (
            result.stderr == f"error: {data_dir} has no trained models yet: run make run DATA_DIR={data_dir} first.\n"
        )
    with pytest.raises(UserError, match=r"has no trained models yet: run make run first\.$"):
        monkeypatch.setattr(serve, "ROOT", tmp_path)
        serve.check_trained(DataFolder(tmp_path / "data" / "sample"))


def test_missing_packages_are_named():
    code = "import sys; sys.modules['fastapi'] = None; from marketplace.command_line import run; run('serve')"
    result = run_script("-c", code)
    assert (result.returncode, result.stdout) == (1, "")
    assert re.fullmatch(r"error: fastapi is not installed: run make serve, or pip .*\.\n", result.stderr)


def test_a_port_in_use_is_one_sentence(folder):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        result = run_script("serve.py", "--data-dir", folder.path, "--port", port)
    assert result.returncode == 1
    assert re.fullmatch(
        rf"error: port {port} of 127\.0\.0\.1 cannot be used \(Address already .*\.\n",
        result.stderr,
    )


def test_an_answer_does_not_wait_for_an_acknowledgement():
    with serve.open_socket("127.0.0.1", 0) as listening:
        assert listening.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


def test_wrong_arguments_are_explained(folder):
    for arguments in (["--port", "99999"], ["--port", "web"], ["--colour", "red"]):
        result = run_script("serve.py", "--data-dir", folder.path, *arguments)
        assert result.returncode == 2 and "usage: serve.py" in result.stderr


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])
def test_the_server_as_a_process(folder, photo, host):
    command = [sys.executable, "serve.py", "--data-dir", str(folder.path), "--port", "0", "--host", host]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout and process.stderr
        try:
            line = process.stdout.readline()
            match = re.search(r"at http://([\d.]+):(\d+) ", line)
            assert match and match[1] == host, line
            go_away_in_the_middle(("127.0.0.1", int(match[2])))
            assert_answers(f"127.0.0.1:{match[2]}", photo)
        finally:
            process.send_signal(signal.SIGINT)
            _, notes = process.communicate(timeout=120)
    assert process.returncode == 130
    assert ("there is no password" in notes) == (host == "0.0.0.0")
    assert "Traceback" not in notes and notes.splitlines()[-1] == "stopped."


def go_away_in_the_middle(address: tuple[str, int]) -> None:
    """Two uploads that break off, one of them too large."""
    for length in (9_000_000, 20_000_000):
        head = f"POST /api/rank HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n"
        with socket.create_connection(address) as client:
            client.sendall(f"{head}Content-Type: multipart/form-data; boundary=x\r\n\r\n--x\r\n".encode())


def test_a_refused_request_that_does_not_end_is_closed(api, monkeypatch):
    monkeypatch.setattr(serve, "DRAIN_SECONDS", 0.2)
    with serve.open_socket("127.0.0.1", 0) as listening:
        server = serve.make_server(serve.create_app(api))
        thread = Thread(target=server.run, args=([listening],))
        thread.start()
        try:
            with socket.create_connection(listening.getsockname(), timeout=30) as connection:
                connection.sendall(b"POST /api/rank HTTP/1.1\r\nHost: localhost\r\nContent-Length: 20000000\r\n\r\n--x")
                answer = b"".join(iter(lambda: connection.recv(65536), b""))  # until the server closes
            assert answer.startswith(b"HTTP/1.1 413") and b"at most 10 MB" in answer
        finally:
            server.should_exit = True
            thread.join()


def assert_answers(address: str, photo: bytes) -> None:
    connection = http.client.HTTPConnection(address, timeout=60)
    connection.request("GET", "/?text=" + "%F0%9F%AA%91" * 10_000)  # the longest address that the page makes
    answer = connection.getresponse()
    assert answer.status == 200 and b"<h1>Marketplace</h1>" in answer.read()
    assert answer.getheader("server") is None
    connection.close()
    with httpx2.Client(base_url=f"http://{address}", timeout=60, trust_env=False) as client:
        ranking = client.post("/api/rank", files={"photo": photo}, data={"text": "lamp"})
        assert ranking.status_code == 200 and len(ranking.json()["results"]) == 10
        check_fault(client.post("/api/rank", files={"photo": bytes(20_000_000)}), 413)
        check_fault(client.get("/health", headers={"host": "evil.example"}), 400)
