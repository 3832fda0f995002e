"""download_images.py: photos are fetched by their links from a web server that makes every kind of fault."""

import itertools
import json
import os
import re
import signal
import subprocess
import sys
import time

import pandas as pd
import psutil
import pytest
from photo_server import PHOTO, photo_server
from postgres_server import free_port
from repository import ROOT

from clean_tabular_data import count_photos
from marketplace.data_folder import DataFolder, write_json
from marketplace.photos import clean_folder, load_photos, photo_stem
from ranking.gallery import photo_jpeg, photo_paths


@pytest.fixture
def server():
    with photo_server() as running:
        yield running


@pytest.fixture
def folder(tmp_path):
    return DataFolder(tmp_path / "data")


def write_links(folder: DataFolder, links: dict[str, str | None]) -> None:
    rows = [{"id": image_id, "product_id": "p", "bucket_link": link} for image_id, link in links.items()]
    write_json(folder.images_table, rows)


def start_fetch(folder: DataFolder, *arguments: object) -> subprocess.Popen:
    """The script as a process that runs while the test goes on, without a proxy."""
    command = [sys.executable, "download_images.py", "--data-dir", str(folder.path), *map(str, arguments)]
    environment = os.environ | {"NO_PROXY": "*"}
    pipe = subprocess.PIPE
    return subprocess.Popen(
        command, cwd=ROOT, stdout=pipe, stderr=pipe, text=True, env=environment, start_new_session=True
    )


def fetch(folder: DataFolder, *arguments: object) -> dict:
    """Run the script; returns its report."""
    process = start_fetch(folder, *arguments)
    errors = process.communicate(timeout=120)[1]
    assert (process.returncode, errors) == (0, "")
    return report_of(folder)


def report_of(folder: DataFolder) -> dict:
    return json.loads(folder.report("download_images").read_text(encoding="utf-8"))


def photos_in(folder: DataFolder) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.images.iterdir()}


def wait_for(condition) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


BAD = {
    "missing": "HTTP 404",
    "down": "HTTP 500",
    "later": "HTTP 429",
    "never": "OverflowError",
    "headers": "ProtocolError",
    "loop": "TooManyRedirects",
    "tofile": "InvalidSchema",
    "truncated": "ProtocolError",
    "page": "not a JPEG, PNG, WebP or GIF",
    "empty": "not a JPEG, PNG, WebP or GIF",
    "endless": "too many bytes",
    "silent": "too slow",
    "dripping": "too slow",
    "drippingheaders": "too slow",
    "drippingchunks": "too slow",
}
GOOD = {"good", "recovering", "busy", "moved", "chunked", "gzip"}


def test_every_bad_answer_is_rejected_and_every_good_one_kept(server, folder):
    links = {kind: server.link(f"{kind}/photo.jpg?signature=secret") for kind in [*BAD, *GOOD]}
    links |= {
        "refused": f"http://127.0.0.1:{free_port()}/photo.jpg?signature=secret",
        "bracket": "http://[::1/secret.jpg",
        "file": "file:///etc/hostname",
        "null": None,
        "tls": server.link("good/photo.jpg").replace("http:", "https:"),
        "": server.link("good/photo.jpg"),
    }
    write_links(folder, links)
    report = fetch(folder, "--timeout", 6, "--workers", 8)
    reasons = {image_id: reason for reason, ids in report["rejected"].items() for image_id in ids}
    assert reasons == BAD | {
        "refused": "NewConnectionError",
        "bracket": "InvalidURL",
        "file": "no http link",
        "null": "no http link",
        "tls": "SSLError",
        "": "no id",
    }
    assert report["fetched"] == len(GOOD) and report["not tried"] == 0 and report["present"] == 0
    assert photos_in(folder) == {f"{kind}.jpg": PHOTO for kind in GOOD}
    assert {path.name for path in folder.path.rglob("*.jpg")} == {f"{kind}.jpg" for kind in GOOD}
    asked = {path.split("/")[1]: times for path, times in server.asked.items()}
    assert (asked["recovering"], asked["busy"], asked["down"]) == (3, 2, 3), "Retry-After is obeyed"
    assert asked["missing"] == asked["page"] == 1, "no use to ask again"
    assert server.sent < 60e6, "of a gigabyte no more is taken than is needed to know"
    assert "secret" not in json.dumps(report) and "127.0.0.1" not in json.dumps(report)


ODD = ("-MvX", "aW1nOjE=", "img:1", "img%3A1", "Объявление 1", "../up", "/absolute", ".hidden", "p\ud83d", "x" * 300)


def test_odd_ids_become_safe_file_names_and_are_found_again(server, folder):
    write_links(folder, {image_id: server.link("good/photo.jpg") for image_id in ODD})
    assert fetch(folder)["fetched"] == len(ODD) and fetch(folder)["present"] == len(ODD)
    assert all(re.fullmatch(r"[A-Za-z0-9%][A-Za-z0-9%._-]{1,250}", name) for name in photos_in(folder))
    (folder.images / "img%3A1.jpg").rename(folder.images / "img:1.PNG")  # as a user would name it
    (folder.images / photo_stem("p\ud83d")).with_suffix(".jpg").rename(folder.images / "without row.jpg")
    write_json(folder.duplicates, {})
    products = pd.DataFrame({"id": ["p"]})
    assert clean_folder(folder.images, folder, 8, workers=1)["cleaned"] == len(ODD)
    assert set(load_photos(folder.path, products, 8).image_ids) == {*ODD} - {"p\ud83d"}
    assert count_photos(folder, products, {})["photos without clean listing"] == ["without row"]
    for place, image_id in itertools.product((folder.images, folder.clean_images(8)), {*ODD} - {"p\ud83d"}):
        assert photo_jpeg([path for path in photo_paths(folder, [image_id], 8) if path.parent == place])


def test_a_second_run_asks_only_for_what_is_missing_or_empty(server, folder):
    write_links(folder, {f"image{i}": server.link(f"good/{i}.jpg") for i in range(5)})
    folder.images.mkdir(parents=True)
    (folder.images / "image0.JPEG").write_bytes(b"the user's own")
    (folder.images / "image1.jpg").touch()
    report = fetch(folder, "--limit", 2)
    assert (report["present"], report["fetched"], report["not tried"]) == (1, 2, 2)
    assert fetch(folder)["fetched"] == 2
    assert fetch(folder)["present"] == 5
    assert server.asked == {f"/good/{i}.jpg": 1 for i in (1, 2, 3, 4)}
    assert photos_in(folder)["image0.JPEG"] == b"the user's own" and photos_in(folder)["image1.jpg"] == PHOTO


def test_killed_in_the_middle_and_resumed(server, folder):
    write_links(folder, {f"image{i}": server.link(f"slow/{i}.jpg") for i in range(80)})
    process = start_fetch(folder, "--workers", 2)
    wait_for(lambda: folder.images.is_dir() and len(list(folder.images.glob("*.jpg"))) >= 10)
    process.kill()
    process.communicate()
    present = {path.name: path.read_bytes() for path in folder.images.glob("*.jpg")}
    assert 10 <= len(present) < 80 and set(present.values()) == {PHOTO}
    old = folder.images / ".0123456789abcdef.partial"
    old.write_bytes(b"\xff\xd8\xff")
    os.utime(old, (0, 0))
    report = fetch(folder)
    assert report["present"] + report["fetched"] == 80 and not old.exists()
    assert len(list(folder.images.glob("*.jpg"))) == 80


def test_ctrl_c_does_not_wait_for_a_silent_server(server, folder):
    write_links(folder, {"good": server.link("good/1.jpg")} | {f"s{i}": server.link(f"silent/{i}") for i in range(9)})
    process = start_fetch(folder, "--workers", 2)
    wait_for((folder.images / "good.jpg").exists)
    time.sleep(0.5)  # until the report counts it
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to the workers too
    output, errors = process.communicate(timeout=20)
    assert process.returncode == 130 and "Ctrl-C" in errors and errors.count("\n") == 1, errors
    assert "fetched: 1" in output and report_of(folder)["not tried"] == 9
    assert set(photos_in(folder)) == {"good.jpg"}


def test_a_killed_worker_ends_the_run_in_one_sentence(server, folder):
    write_links(folder, {"good": server.link("good/1.jpg"), "slow": server.link("silent/1")})
    process = start_fetch(folder, "--workers", 2, "--timeout", 3)
    wait_for((folder.images / "good.jpg").exists)
    for server_of_workers in psutil.Process(process.pid).children():
        for worker in server_of_workers.children():
            worker.kill()
    errors = process.communicate(timeout=120)[1]
    assert process.returncode == 1 and "a worker process was killed" in errors, errors


def test_no_photo_at_all_is_one_sentence(folder):
    port = free_port()
    write_links(folder, {f"image{i}": f"http://127.0.0.1:{port}/{i}.jpg" for i in range(3)})
    process = start_fetch(folder, "--workers", 3)
    errors = process.communicate(timeout=60)[1]
    assert process.returncode == 1 and errors.count("\n") == 1, errors
    assert errors.startswith("error: no photo could be fetched (NewConnectionError): check the network")
    assert sorted(report_of(folder)["rejected"]["NewConnectionError"]) == ["image0", "image1", "image2"]
