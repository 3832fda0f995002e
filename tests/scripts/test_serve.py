"""serve.py: every endpoint, bad requests, what keeps other sites out, and the server as a process."""

import io
import json
import re
import signal
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from html.parser import HTMLParser
from itertools import product

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
ENDPOINTS = ("/api/category", "/api/price", "/api/rank")


@pytest.fixture(scope="module")
def folder(sample_folder, tmp_path_factory) -> DataFolder:
    return make_served_folder(sample_folder, tmp_path_factory.mktemp("serve") / "data")


@pytest.fixture(scope="module")
def api(folder) -> serve.Api:
    return serve.Api(folder)


@pytest.fixture(scope="module")
def client(api):
    with TestClient(serve.create_app(api), base_url="http://localhost", raise_server_exceptions=False) as client:
        yield client


@pytest.fixture(scope="module")
def photo(folder) -> bytes:
    """The raw photo of a listing."""
    return sorted(folder.images.glob("*.jpg"))[5].read_bytes()


def check_error(answer, status: int | None = None) -> str:
    """The sentence of an error, which names no path of the machine and no code."""
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


@pytest.fixture
def same_answer(client, folder, photo, monkeypatch, capsys, tmp_path):
    """Ask the API, check that a command prints the same with --json, and return it."""
    (tmp_path / "photo.jpg").write_bytes(photo)

    def ask(path: str, module, with_photo: bool = False, **fields):
        options = [f"--{name.replace('_', '-')}={value}" for name, value in fields.items()]
        options += [f"--image={tmp_path / 'photo.jpg'}"] if with_photo else []
        monkeypatch.setattr(sys, "argv", ["command", "--data-dir", str(folder.path), "--json", *options])
        module.main()
        answer = client.post(path, data=fields, files={"photo": photo} if with_photo else {})
        assert answer.json() == json.loads(capsys.readouterr().out)
        check_headers(answer)
        return answer.json()

    return ask


def test_a_category_is_what_the_command_prints(same_answer):
    fields = {"text": "A small red bicycle. Hardly used", "name": "Bicycle"}
    assert len(same_answer("/api/category", predict_category, **fields, top=4)["predictions"]) == 4
    same_answer("/api/category", predict_category, with_photo=True)
    same_answer("/api/category", predict_category, with_photo=True, **fields)


def test_a_ranking_is_what_the_command_prints(same_answer):
    same_answer("/api/rank", rank_products, text="garden bench", name="Bench")
    same_answer("/api/rank", rank_products, product=EVIL_ID, top=3)
    filters = {"max_price": 80, "near": "Reading, Berkshire", "within": 300}
    results = same_answer("/api/rank", rank_products, with_photo=True, text="lamp", **filters)["results"]
    assert results and all("distance_km" in result for result in results)


@pytest.mark.parametrize("category", [None, "Home & Garden", "home & garden / Gnomes"])
def test_a_price_is_what_the_command_prints(same_answer, category):
    fields = {"text": "Some marks", "name": "Oak chair", "location": "Leeds, West Yorkshire"}
    answer = same_answer("/api/price", predict_price, **fields, **({} if category is None else {"category": category}))
    assert answer["factors"] and answer["low"] < answer["price"] < answer["high"]


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
        *("photos/nothing", "photos/%2e%2e%2f%2e%2e%2fmarketplace.db", "photos/..%2fimages_table.json", "photos/%00"),
        *("photos/a/b", "web/..%2fserve.py", "web/%2e%2e/serve.py", "web/..%2f..%2fetc%2fpasswd", "nothing", "docs"),
    ],
)
def test_no_path_leads_to_other_files(client, path):
    check_error(client.get(f"/{path}"), 404)


def test_a_photo_that_is_a_link_out_of_its_folder_is_not_shown(client, api, folder, tmp_path, monkeypatch):
    image_id = next(iter(api.image_ids))
    images = tmp_path / "images"
    images.mkdir()
    (tmp_path / "private.jpg").write_bytes((folder.images / f"{image_id}.jpg").read_bytes())
    (images / f"{image_id}.jpg").symlink_to(tmp_path / "private.jpg")
    monkeypatch.setattr(api, "folder", DataFolder(tmp_path))
    check_error(client.get(f"/photos/{image_id}"), 404)
    (images / f"{image_id}.jpg").unlink()
    (tmp_path / "private.jpg").rename(images / f"{image_id}.jpg")
    assert client.get(f"/photos/{image_id}").status_code == 200


def test_a_predicted_category_without_prices_gives_the_price_by_words_alone(client, api, monkeypatch):
    predicted = client.post("/api/category", data={"text": "oak chair", "top": 1}).json()["predictions"][0]["category"]
    assert client.post("/api/price", data={"text": "oak chair"}).json()["category"] == predicted
    monkeypatch.setattr(api.price_model, "labels", [name for name in api.price_model.labels if name != predicted])
    answer = client.post("/api/price", data={"text": "oak chair"})
    assert answer.status_code == 200 and answer.json()["category"] is None


def test_without_a_price_model_a_sentence_says_so(client, api, monkeypatch):
    monkeypatch.setattr(api, "price_model", None)
    assert "no price model: run make run" in check_error(client.post("/api/price", data={"text": "oak chair"}), 503)


def test_health_and_the_description_name_what_is_there(client, folder):
    health = client.get("/health").json()
    listings = read_json(folder.products_table_clean, "")
    assert (health["status"], health["listings"]) == ("ok", len(listings))
    assert health["categories"] == sorted({listing["main_category"] for listing in listings})
    assert client.get("/openapi.json").json()["paths"].keys() == {*ENDPOINTS, "/photos/{image_id}", "/health"}


@pytest.mark.parametrize(
    ("path", "fields", "status", "words"),
    [
        ("category", {}, 422, "a text or a photo is required"),
        ("category", {"text": "x" * 20_001}, 422, "the text has more than 20,000 characters"),
        ("price", {}, 422, "text is wrong: field required"),
        ("price", {"text": "hat", "category": "Boats"}, 422, "'Boats'"),
        ("rank", {}, 422, "a text, a photo or a product is required"),
        ("rank", {"product": "x" * 301}, 422, "product is wrong"),
        ("rank", {"text": "hat", "within": "5"}, 422, "a distance needs a place"),
        ("rank", {"text": "hat", "max_price": "nan"}, 422, "max_price is wrong"),
        ("rank", {"text": "hat", "top": "101"}, 422, "top is wrong: input should be less than or equal to 100"),
        ("rank", {"text": "hat", "photo": "not a file"}, 422, "photo is wrong"),
    ],
)
def test_a_wrong_field_is_one_sentence(client, path, fields, status, words):
    files = {"other": b"makes the request multipart"}
    assert words in check_error(client.post(f"/api/{path}", data=fields, files=files), status)


@pytest.mark.parametrize(
    ("content", "status", "words"),
    [(b"not a photo", 422, "the photo cannot be read"), (bytes(10_500_000), 413, "at most 10 MB")],
    ids=["text", "large"],
)
@pytest.mark.parametrize("path", ["category", "rank"])
def test_a_wrong_photo_is_one_sentence(client, path, content, status, words):
    assert words in check_error(client.post(f"/api/{path}", files={"photo": content}), status)


def test_a_body_without_its_length_is_refused(client):
    head = {"content-type": "multipart/form-data; boundary=x"}
    answer = client.post("/api/rank", content=iter([b"--x--\r\n"]), headers=head)
    assert "has no length" in check_error(answer, 413)


NAMES = ("text", "name", "product", "category", "max_price", "near", "within", "location", "top", "odd")
KNOWN = ["", "0", "7", "1e400", "\0", "🦑", " / ", EVIL_ID, "Leeds", "Reading, Berkshire", "Home & Garden"]
VALUES = st.text(max_size=60) | st.floats().map(str) | st.sampled_from(KNOWN)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    path=st.sampled_from(ENDPOINTS),
    fields=st.dictionaries(st.sampled_from(NAMES), VALUES),
    content=st.none() | st.binary(max_size=200) | st.binary(max_size=50).map(lambda noise: b"\xff\xd8\xff" + noise),
)
def test_no_fields_and_no_photo_make_the_server_fail(client, path, fields, content):
    answer = client.post(path, data=fields, files={} if content is None else {"photo": content})
    if answer.status_code == 200:
        check_headers(answer)
    else:
        check_error(answer)
        assert answer.status_code < 500


@pytest.mark.parametrize("host", ["evil.example", "localhost.evil.example", "127.0.0.1.evil.example", "", "[::1"])
def test_another_name_gets_no_answer(client, host):
    for method, path in (("GET", "/"), ("GET", "/health"), ("POST", "/api/rank")):
        answer = client.request(method, path, headers={"host": host, "content-length": "0"})
        assert (answer.status_code, answer.text) == (400, "Invalid host header")
        check_headers(answer)


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:8000", "127.0.0.1:8000", "[::1]:8000", socket.gethostname()])
def test_our_own_names_get_one(client, host):
    assert client.get("/health", headers={"host": host}).status_code == 200


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "http://localhost:9"])
def test_a_page_of_another_site_cannot_post(client, origin):
    answer = client.post("/api/rank", data={"text": "hat"}, headers={"origin": origin})
    assert "another site" in check_error(answer, 403)
    own = {"origin": "http://localhost"}
    assert client.post("/api/rank", data={"text": "hat", "category": ""}, headers=own).status_code == 200


def test_an_unexpected_error_tells_nothing_of_the_machine(client, api, monkeypatch):
    def fail(**query):
        raise UserError(f"{api.folder.path} is not what it was")

    monkeypatch.setattr(api.ranker, "rank", fail)
    assert "terminal" in check_error(client.post("/api/rank", data={"text": "hat"}), 500)


def test_many_at_once_get_the_answers_of_one_at_a_time(client):
    def answer(query):
        return client.post(query[0], data={"text": query[1]}).json()

    queries = list(product(ENDPOINTS, ["a red chair", "a blue bike", "an oak lamp", "a phone"]))
    alone = [answer(query) for query in queries]
    with ThreadPoolExecutor(8) as threads:
        assert list(threads.map(answer, queries)) == alone


def test_a_busy_server_says_so(client, api, monkeypatch):
    monkeypatch.setattr(serve, "MAX_WAITING", 0)
    assert "the server is busy" in check_error(client.post("/api/rank", data={"text": "lamp"}), 503)


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


def test_missing_packages_are_named():
    code = "import sys; sys.modules['fastapi'] = None; import serve"
    result = run_script("-c", code)
    assert (result.returncode, result.stdout) == (1, "")
    assert re.fullmatch(r"error: fastapi is not installed: run make serve, or pip .*\.\n", result.stderr)


def test_a_port_in_use_is_one_sentence(folder):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        result = run_script("serve.py", "--data-dir", folder.path, "--port", port)
    assert result.returncode == 1
    assert f"error: port {port} of 127.0.0.1 cannot be used: give another.\n" in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])
def test_the_server_as_a_process(folder, photo, host):
    command = [sys.executable, "serve.py", "--data-dir", str(folder.path), "--port", "0", "--host", host]
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr
        try:
            notes = ""
            while (match := re.search(r"running on http://([\d.]+):(\d+) ", notes)) is None:
                line = process.stderr.readline()
                assert line, notes
                notes += line
            assert match[1] == host
            go_away_in_the_middle(("127.0.0.1", int(match[2])))
            check_answers(f"http://127.0.0.1:{match[2]}", photo)
        finally:
            process.send_signal(signal.SIGINT)
            notes += process.communicate(timeout=120)[1]
    assert process.returncode == 130
    assert ("no password" in notes) == (host == "0.0.0.0")
    assert "Traceback" not in notes and notes.splitlines()[-1] == "stopped."


def go_away_in_the_middle(address: tuple[str, int]) -> None:
    """Two uploads that break off, one of them too large."""
    for length in (9_000_000, 20_000_000):
        head = f"POST /api/rank HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n"
        with socket.create_connection(address) as client:
            client.sendall(f"{head}Content-Type: multipart/form-data; boundary=x\r\n\r\n--x\r\n".encode())


def check_answers(address: str, photo: bytes) -> None:
    with httpx2.Client(base_url=address, timeout=60, trust_env=False) as client:
        answer = client.get("/?text=" + "%F0%9F%AA%91" * 5_000)
        assert answer.status_code == 200 and "<h1>Marketplace</h1>" in answer.text
        assert "server" not in answer.headers
        ranking = client.post("/api/rank", files={"photo": photo}, data={"text": "lamp"})
        assert ranking.status_code == 200 and len(ranking.json()["results"]) == 10
        check_error(client.post("/api/rank", files={"photo": bytes(20_000_000)}), 413)
        assert client.get("/health", headers={"host": "evil.example"}).status_code == 400
