"""download_images.py: photos are fetched by their links from a web server that makes every kind of fault."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time

import pytest
from photo_server import photo_server, picture
from postgres_server import free_port
from repository import ROOT, run_script

import download_images
from download_images import is_file_name, is_photo
from marketplace.data_folder import DataFolder, UserError, write_json

SCRIPT = ROOT / "download_images.py"


@pytest.fixture
def server():
    with photo_server() as running:
        yield running


@pytest.fixture
def folder(tmp_path):
    return DataFolder(tmp_path / "data")


@pytest.fixture
def fetch(folder, monkeypatch):
    """A function that runs the script in this process, without a proxy, and returns its report."""
    monkeypatch.setenv("NO_PROXY", "*")

    def run_main(*arguments: object) -> dict:
        monkeypatch.setattr(sys, "argv", ["download_images.py", "--data-dir", str(folder.path), *map(str, arguments)])
        download_images.main()
        return report_of(folder)

    return run_main


def write_links(folder: DataFolder, links: dict[str, str | None] | list[tuple[str, str | None]]) -> None:
    pairs = links.items() if isinstance(links, dict) else links
    rows = [{"id": image_id, "product_id": "p", "bucket_link": link} for image_id, link in pairs]
    write_json(folder.images_table, rows)


def start_fetch(folder: DataFolder, *arguments: object) -> subprocess.Popen:
    """The script as a process that runs while the test goes on."""
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
    "differinglengths": "answer that is not proper HTTP",
    "page": "not a JPEG, PNG, WebP or GIF",
    "empty": "empty answer",
    "zeros": "not a JPEG, PNG, WebP or GIF",
    "endless": "larger than 20 MB",
    "silent": "no answer in time",
    "stalled": "no answer in time",
    "dripping": "too slow",
}
GOOD = {"good", "png", "webp", "gif", "recovering", "busy", "moved", "cutonce", "redirectbody", "twolengths"}
GOOD |= {"listedlengths", "secondhand", "chunked"}


def test_every_bad_answer_is_set_aside_and_every_good_one_kept(server, folder):
    links = {kind: server.link(f"{kind}/photo.jpg") for kind in [*BAD, *GOOD]}
    links |= {
        "refused": f"http://127.0.0.1:{free_port()}/photo.jpg",
        "file": "file:///etc/hostname",
        "ftp": "ftp://127.0.0.1/photo.jpg",
        "script": "javascript:alert(1)",
        "relative": "photo.jpg",
        "bracket": "http://[::1/photo.jpg",
        "no_host": "http://",
        "null": None,
        "na": "N/A",
        "../escaped": server.link("good/escaped.jpg"),
        "/absolute": server.link("good/absolute.jpg"),
        ".hidden": server.link("good/hidden.jpg"),
    }
    write_links(folder, links)
    process = start_fetch(folder, "--timeout", 0.5, "--workers", 40)
    errors = process.communicate(timeout=60)[1]
    assert (process.returncode, errors) == (0, "")

    report = report_of(folder)
    reasons = {image_id: reason for reason, ids in report["not fetched"].items() for image_id in ids}
    assert reasons == BAD | {
        "refused": "host not reachable",
        "file": "link that is not http or https",
        "ftp": "link that is not http or https",
        "script": "link that is not http or https",
        "relative": "link that is not http or https",
        "bracket": "link that is not http or https",
        "no_host": "link that is not http or https",
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


def test_a_second_run_asks_only_for_what_is_missing(server, folder, fetch, capsys):
    write_links(folder, {f"image{i}": server.link(f"good/{i}.jpg") for i in range(4)})
    folder.images.mkdir(parents=True)
    (folder.images / "image0.JPEG").write_bytes(b"the user's own")
    report = fetch("--limit", 2)
    assert (report["already there"], report["fetched"], report["not tried"]) == (1, 2, 1)
    assert fetch()["fetched"] == 1
    capsys.readouterr()
    assert fetch()["fetched"] == 0 and capsys.readouterr().out.startswith("nothing to fetch")
    assert server.asked == {f"/good/{i}.jpg": 1 for i in (1, 2, 3)}
    assert photos_in(folder)["image0.JPEG"] == b"the user's own"


def test_empty_and_broken_photos_are_fetched_again(server, folder, fetch):
    """And only by a good answer is a photo replaced."""
    kinds = {"empty": "good", "cut": "good", "spoilt": "spoilt", "gone": "missing", "restored": "good", "fine": "good"}
    write_links(folder, {image_id: server.link(f"{kind}/{image_id}") for image_id, kind in kinds.items()})
    folder.images.mkdir(parents=True)
    cut = picture()[:-200]
    files = {"empty.jpg": b"", "cut.jpg": cut, "spoilt.jpg": cut[:-9], "gone.jpg": cut, "fine.jpg": picture()}
    files |= {"restored.jpg": cut, "notes.jpg": b"no photo"}
    for name, content in files.items():
        (folder.images / name).write_bytes(content)
    (folder.images / "link.jpg").symlink_to("nothing")

    def clean(size: int = 64) -> None:
        assert run_script("clean_images.py", "--data-dir", folder.path, "--size", size).returncode == 0

    clean()
    clean(32)
    saved = folder.path / "saved.jpg"
    saved.write_bytes(picture())
    os.utime(saved, (0, 10**9))
    shutil.copy2(saved, folder.images / "restored.jpg")  # by the user, with an old time
    report = fetch()
    assert (report["fetched"], report["already there"]) == (3, 2) and report["not fetched"] == {"HTTP 404": ["gone"]}
    files |= {"empty.jpg": picture(), "cut.jpg": picture(), "spoilt.jpg": cut, "restored.jpg": picture()}
    assert {path.name: path.read_bytes() for path in folder.images.glob("*.*") if path.exists()} == files

    fetch()
    assert server.asked == {"/good/empty": 1, "/good/cut": 1, "/spoilt/spoilt": 1, "/missing/gone": 2}
    clean()
    assert fetch()["fetched"] == 1 and server.asked["/spoilt/spoilt"] == 2, "once for each report"


def test_the_same_id_twice_is_fetched_once(server, folder, fetch):
    write_links(folder, [("a", server.link("good/1.jpg")), ("a", server.link("good/2.jpg"))])
    fetch()
    assert server.asked == {"/good/1.jpg": 1}


def test_killed_in_the_middle_and_resumed(server, folder, fetch):
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
    for partial in folder.images.glob(".*.partial"):
        partial.unlink()
    old, young = folder.images / ".image79.jpg.partial", folder.images / ".0123456789abcdef.partial"
    for partial in (old, young):
        partial.write_bytes(b"\xff\xd8\xff")
    os.utime(old, (0, 0))
    report = fetch()
    assert (report["already there"], report["fetched"]) == (len(there), 80 - len(there))
    assert photos_in(folder) == {f"{image_id}.jpg": picture() for image_id in links} | {young.name: b"\xff\xd8\xff"}


def test_ctrl_c_does_not_wait_for_a_silent_server(server, folder):
    write_links(folder, {"good": server.link("good/1.jpg")} | {f"s{i}": server.link(f"silent/{i}") for i in range(9)})
    process = start_fetch(folder, "--workers", 4)
    deadline = time.monotonic() + 30
    while not (folder.images / "good.jpg").exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    time.sleep(0.3)  # until the report counts it
    start = time.monotonic()
    process.send_signal(signal.SIGINT)
    output, errors = process.communicate(timeout=20)
    assert time.monotonic() - start < 5
    assert process.returncode == 130 and "Ctrl-C" in errors and "Traceback" not in errors
    assert "fetched: 1" in output and report_of(folder)["not tried"] == 9
    assert set(photos_in(folder)) == {"good.jpg"}


def test_no_photo_at_all_is_one_sentence(folder, fetch, monkeypatch):
    monkeypatch.setattr(download_images, "PAUSES", (0, 0))
    port = free_port()
    write_links(folder, {f"image{i}": f"http://127.0.0.1:{port}/{i}.jpg" for i in range(200)})
    start = time.monotonic()
    with pytest.raises(UserError, match=r"^no photo could be fetched \(host not reachable\): check the network"):
        fetch("--workers", 40)
    assert time.monotonic() - start < 30, "a host that never answers is given up"
    assert list(map(len, report_of(folder)["not fetched"].values())) == [200]

    folder.images.mkdir(exist_ok=True)
    (folder.images / "image0.jpg").write_bytes(picture())
    assert fetch("--limit", 1)["already there"] == 1, "a folder that has photos is no fault"


def test_without_a_table_it_says_what_to_run(fetch):
    with pytest.raises(UserError, match="run download_products_table"):
        fetch()


def test_wrong_arguments(fetch):
    for arguments in (("--workers", 0), ("--limit", "x"), ("--timeout", 0), ("--timeout", "nan")):
        with pytest.raises(SystemExit, match="2"):
            fetch(*arguments)


def test_names_and_photos_are_told_apart():
    assert all(is_file_name(name) for name in ("a", "63af89ee-25ac-40fc-b4af-c23943cbebeb", "A_1.b"))
    for name in ("", ".", "..", "../x", "a/b", "a\\b", "a\0b", "a\n", "x" * 201, "C:x", "é", None, 7):
        assert not is_file_name(name), name
    assert all(is_photo(picture(kind)) for kind in ("JPEG", "PNG", "WEBP", "GIF"))
    assert not any(is_photo(picture(kind)) for kind in ("TIFF", "BMP", "EPS"))
