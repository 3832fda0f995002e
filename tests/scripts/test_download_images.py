"""Fetching photos by their links from a web server that does everything wrong that one can."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest
from photo_server import photo_server, picture
from postgres_server import free_port
from repository import ROOT, run_script

from download_images import is_file_name, is_photo
from marketplace.data_folder import DataFolder, write_json

SCRIPT = ROOT / "download_images.py"


@pytest.fixture
def server():
    with photo_server() as running:
        yield running


@pytest.fixture
def folder(tmp_path):
    return DataFolder(tmp_path / "data")


def write_links(folder: DataFolder, links: dict[str, str | None] | list[tuple[str, str | None]]) -> None:
    pairs = links.items() if isinstance(links, dict) else links
    rows = [{"id": image_id, "product_id": "p", "bucket_link": link} for image_id, link in pairs]
    write_json(folder.images_table, rows)


def fetch(folder: DataFolder, *arguments: object) -> subprocess.CompletedProcess:
    """Run the script, without a proxy between it and this machine; no unfinished file may be left."""
    environment = os.environ | {"NO_PROXY": "*"}
    result = run_script(SCRIPT, "--data-dir", folder.path, *arguments, env=environment)
    assert "Traceback" not in result.stderr
    assert not list(folder.path.rglob("*.partial"))
    return result


def start_fetch(folder: DataFolder, *arguments: object) -> subprocess.Popen:
    command = [sys.executable, SCRIPT, "--data-dir", folder.path, *arguments]
    environment = os.environ | {"NO_PROXY": "*"}
    return subprocess.Popen(
        [str(part) for part in command], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    )


def report_of(folder: DataFolder) -> dict:
    return json.loads(folder.report("download_images").read_text(encoding="utf-8"))


def photos_in(folder: DataFolder) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.images.iterdir()}


BAD = {
    "missing": "HTTP 404",
    "down": "HTTP 500",
    "loop": "too many redirects",
    "tofile": "link that is not http or https",
    "truncated": "broken off in the middle",
    "page": "not a JPEG, PNG, WebP or GIF",
    "empty": "empty answer",
    "zeros": "larger than 20 MB",
    "endless": "larger than 20 MB",
    "silent": "no answer in time",
    "stalled": "no answer in time",
    "dripping": "too slow",
}
GOOD = {"good", "png", "webp", "gif", "recovering", "busy", "moved", "cutonce", "redirectbody"}


def test_every_bad_answer_is_set_aside_and_every_good_one_kept(server, folder):
    """One run over all of them, side by side, as it is in life."""
    links = {kind: server.link(f"{kind}/photo.jpg") for kind in [*BAD, *GOOD]}
    links |= {
        "refused": f"http://127.0.0.1:{free_port()}/photo.jpg",
        "sample": "https://photos.invalid/1.jpg",
        "file": "file:///etc/hostname",
        "ftp": "ftp://127.0.0.1/photo.jpg",
        "relative": "photo.jpg",
        "bracket": "http://[::1/photo.jpg",
        "null": None,
        "na": "N/A",
        "../escaped": server.link("good/escaped.jpg"),
        "/absolute": server.link("good/absolute.jpg"),
        ".hidden": server.link("good/hidden.jpg"),
    }
    write_links(folder, links)
    start = time.monotonic()
    result = fetch(folder, "--timeout", 0.5, "--workers", 40)
    assert time.monotonic() - start < 60
    assert result.returncode == 0, result.stderr
    assert result.stderr == ""

    report = report_of(folder)
    reasons = {image_id: reason for reason, ids in report["not fetched"].items() for image_id in ids}
    assert reasons == BAD | {
        "refused": "host not reachable",
        "sample": "host that does not exist (.invalid)",
        "file": "link that is not http or https",
        "ftp": "link that is not http or https",
        "relative": "link that is not http or https",
        "bracket": "link that is not an address",
        "null": "no link",
        "na": "no link",
        "../escaped": "id that cannot be a file name",
        "/absolute": "id that cannot be a file name",
        ".hidden": "id that cannot be a file name",
    }
    assert report["fetched"] == len(GOOD) and report["not tried"] == 0 and report["already there"] == 0
    photos = photos_in(folder)
    assert set(photos) == {f"{kind}.jpg" for kind in GOOD}
    formats = {"png": "PNG", "webp": "WEBP", "gif": "GIF"}
    assert all(photos[f"{kind}.jpg"] == picture(formats.get(kind, "JPEG")) for kind in GOOD)
    assert {path.name for path in folder.path.rglob("*.jpg")} == set(photos), "nothing outside images/"

    assert server.asked["/recovering/photo.jpg"] == 3 and server.asked["/busy/photo.jpg"] == 2
    assert server.asked["/missing/photo.jpg"] == 1 and server.asked["/page/photo.jpg"] == 1, "no use to ask again"
    assert server.asked["/down/photo.jpg"] == 3 and server.asked["/silent/photo.jpg"] == 3
    assert server.asked["/loop/photo.jpg"] <= 6
    assert server.sent < 60e6, "of three gigabytes no more is taken than is needed to know"
    assert "127.0.0.1" not in json.dumps(report), "a link may hold a signature, so no link is in the report"


def test_a_second_run_asks_only_for_what_is_missing(server, folder):
    write_links(folder, {f"image{i}": server.link(f"good/{i}.jpg") for i in range(4)})
    folder.images.mkdir(parents=True)
    (folder.images / "image0.JPEG").write_bytes(b"the user's own")
    assert fetch(folder, "--limit", 2).returncode == 0
    report = report_of(folder)
    assert (report["already there"], report["fetched"], report["not tried"]) == (1, 2, 1)
    assert fetch(folder).returncode == 0
    assert report_of(folder)["fetched"] == 1
    last = fetch(folder)
    assert last.returncode == 0 and last.stdout.startswith("nothing to fetch")
    assert server.asked == {f"/good/{i}.jpg": 1 for i in (1, 2, 3)}
    assert photos_in(folder)["image0.JPEG"] == b"the user's own"


def test_the_same_id_twice_is_fetched_once(server, folder):
    write_links(folder, [("a", server.link("good/1.jpg")), ("a", server.link("good/2.jpg"))])
    assert fetch(folder).returncode == 0
    assert server.asked == {"/good/1.jpg": 1}


def test_killed_in_the_middle_and_resumed(server, folder):
    links = {f"image{i}": server.link(f"slow/{i}.jpg") for i in range(80)}
    write_links(folder, links)
    process = start_fetch(folder, "--workers", 4)
    deadline = time.monotonic() + 30
    while not folder.images.is_dir() or len(list(folder.images.glob("*.jpg"))) < 10:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.kill()
    process.communicate()
    there = {path.name: path.read_bytes() for path in folder.images.glob("*.jpg")}
    assert 10 <= len(there) < 80 and set(there.values()) == {picture()}
    (folder.images / ".image79.jpg.partial").write_bytes(b"\xff\xd8\xff")  # what a killed run may leave
    asked = server.asked.total()
    assert fetch(folder).returncode == 0
    assert server.asked.total() - asked == 80 - len(there)
    assert photos_in(folder) == {f"{image_id}.jpg": picture() for image_id in links}


def test_ctrl_c_does_not_wait_for_a_silent_server(server, folder):
    write_links(folder, {"good": server.link("good/1.jpg")} | {f"s{i}": server.link(f"silent/{i}") for i in range(9)})
    process = start_fetch(folder, "--workers", 4)
    deadline = time.monotonic() + 30
    while not (folder.images / "good.jpg").exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    start = time.monotonic()
    process.send_signal(signal.SIGINT)
    output, errors = process.communicate(timeout=20)
    assert time.monotonic() - start < 5
    assert process.returncode == 130 and "Ctrl-C" in errors and "Traceback" not in errors
    assert "fetched: 1" in output and report_of(folder)["not tried"] == 9
    assert set(photos_in(folder)) == {"good.jpg"}


@pytest.mark.parametrize(
    ("link", "words"),
    [("http://127.0.0.1:{port}/{i}.jpg", "check the network"), ("https://photos.invalid/{i}.jpg", "prepare.py")],
)
def test_no_photo_at_all_is_a_fault_of_the_whole(link, words, folder):
    port = free_port()
    write_links(folder, {f"image{i}": link.format(port=port, i=i) for i in range(200)})
    start = time.monotonic()
    result = fetch(folder)
    assert time.monotonic() - start < 30, "a host that was never reached is given up"
    assert result.returncode == 1
    assert result.stderr.startswith("error: no photo could be fetched") and words in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert sum(map(len, report_of(folder)["not fetched"].values())) == 200


def test_one_unreachable_photo_does_not_spoil_a_folder_that_has_some(folder):
    write_links(folder, {"here": "https://photos.invalid/1.jpg", "gone": "https://photos.invalid/2.jpg"})
    folder.images.mkdir(parents=True)
    (folder.images / "here.jpg").write_bytes(picture())
    assert fetch(folder).returncode == 0


def test_without_a_table_it_says_what_to_run(folder):
    result = fetch(folder)
    assert result.returncode == 1 and "run download_products_table.py first" in result.stderr


def test_wrong_arguments(folder):
    for arguments in (("--workers", 0), ("--limit", "x"), ("--timeout", 0), ("--timeout", "nan")):
        assert fetch(folder, *arguments).returncode == 2


def test_names_links_and_photos_are_told_apart():
    assert all(is_file_name(name) for name in ("a", "63af89ee-25ac-40fc-b4af-c23943cbebeb", "A_1.b"))
    for name in ("", ".", "..", "../x", "a/b", "a\\b", "a\0b", "a\n", "x" * 201, "C:x", "é", None, 7):
        assert not is_file_name(name), name
    assert all(is_photo(picture(kind)) for kind in ("JPEG", "PNG", "WEBP", "GIF"))
    assert not any(is_photo(picture(kind)) for kind in ("TIFF", "BMP", "EPS"))
