"""Fetch the photos that the images table links to and that are not in the data folder yet, or are empty.

Reads:  images_table.json (columns id, bucket_link) in the data folder.
Writes: images/<image id>.jpg, each whole or not at all, and download_images_report.json.
Usage:  python download_images.py [--data-dir data] [--workers 16] [--limit N] [--timeout 60]
"""

import multiprocessing
import re
import signal
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

import requests
import urllib3
from requests.adapters import HTTPAdapter

from marketplace.command_line import argument_parser, positive_int, print_report, progress_bar, run
from marketplace.data_folder import (
    NEEDED_COLUMNS,
    DataFolder,
    UserError,
    remove_old_partial_files,
    write_json,
    write_whole,
)
from marketplace.photos import (
    MAX_PHOTO_BYTES,
    WORKER_KILLED,
    PhotoError,
    end_with_parent,
    is_photo,
    photo_files,
    starting_workers,
)

FILE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,199}")  # no folder, no hidden file, no special character
MAX_SECONDS = 86_400  # sockets take no number of milliseconds above 2**31
session = requests.Session()  # of each worker process


def prepare_worker() -> None:
    """Limit the seconds of a photo, and try again where a server is busy or fails for a moment."""
    end_with_parent()
    signal.signal(signal.SIGALRM, stop_slow_photo)
    retry = urllib3.Retry(2, status_forcelist=(429, 500, 502, 503, 504), backoff_factor=0.5, raise_on_status=False)
    for scheme in ("http://", "https://"):
        session.mount(scheme, HTTPAdapter(max_retries=retry))
    session.headers["Accept-Encoding"] = "identity"  # photos are compressed already


def stop_slow_photo(*_: object) -> None:
    raise PhotoError("too slow")


def fetch(link: str, seconds: int) -> bytes:
    """The bytes of a photo; raises PhotoError, whose reason never holds the link: that may contain a signature.

    The alarm ends the whole, also where a server sends its headers byte by byte; the timeout of requests would start
    again with each byte.
    """
    signal.alarm(seconds)
    try:
        with session.get(link, timeout=seconds, stream=True) as response:
            if response.status_code != 200:
                raise PhotoError(f"HTTP {response.status_code}")
            content = response.raw.read(MAX_PHOTO_BYTES)
            if response.raw.read(1):  # where bytes are missing, this second call says so
                raise PhotoError("too many bytes")
    except (requests.RequestException, urllib3.exceptions.HTTPError, OSError, ValueError) as error:
        raise PhotoError(type(error).__name__) from None
    finally:
        signal.alarm(0)
    if not is_photo(content):
        raise PhotoError("not a JPEG, PNG, WebP or GIF")
    return content


def fetch_to_file(photo: tuple[str, str, Path, int]) -> tuple[str, str | None]:
    """Fetch (image id, link, folder, seconds) into a folder; returns the image id, and the reason if it is rejected."""
    image_id, link, images, seconds = photo
    try:
        content = fetch(link, seconds)
    except PhotoError as error:
        return image_id, str(error)
    with write_whole(images / f"{image_id}.jpg", flush=False) as partial:
        partial.write_bytes(content)
    return image_id, None


def rejected_row(image_id: object, link: object) -> str | None:
    """Why a row of the images table is not fetched, or None."""
    if not isinstance(image_id, str) or not FILE_NAME.fullmatch(image_id):
        return "id is no file name"
    if not isinstance(link, str) or not link.startswith(("http://", "https://")):
        return "no http link"
    return None


def main() -> None:
    parser = argument_parser("Fetch the photos that the images table links to.")
    parser.add_argument("--workers", type=positive_int, default=16, help="photos fetched at the same time")
    parser.add_argument("--limit", type=positive_int, metavar="N", help="at most N photos")
    parser.add_argument("--timeout", type=positive_int, default=60, metavar="SECONDS", help="time limit of one photo")
    arguments = parser.parse_args()

    from marketplace.listings import read_table  # pandas takes a second, which --help and the workers need not wait for

    start = time.perf_counter()
    folder = DataFolder(arguments.data_dir)
    seconds = min(arguments.timeout, MAX_SECONDS)
    table = read_table(folder.images_table, "download_products_table.py", NEEDED_COLUMNS["images"])
    rows = dict(zip(table["id"], table["bucket_link"], strict=True))
    folder.images.mkdir(parents=True, exist_ok=True)
    remove_old_partial_files(folder.images)
    present = {image_id for image_id, path in photo_files(folder.images).items() if path.stat().st_size}
    rejected: dict[str, list[str]] = {}
    links: dict[str, str] = {}
    for image_id, link in rows.items():
        if image_id in present:
            continue
        if reason := rejected_row(image_id, link):
            rejected.setdefault(reason, []).append(str(image_id))
        else:
            links[image_id] = link
    tasks = [(image_id, link, folder.images, seconds) for image_id, link in links.items()][: arguments.limit]
    report: dict[str, Any] = {
        "rows of the table": len(rows),
        "present": len(present & rows.keys()),
        "fetched": 0,
        "not tried": len(links),
        "rejected": rejected,
    }
    try:
        with starting_workers("alive_progress", "numpy", "PIL.ImageOps", "requests") as context:
            pool = ProcessPoolExecutor(min(arguments.workers, max(1, len(tasks))), context, prepare_worker)
            futures = [pool.submit(fetch_to_file, task) for task in tasks]
        with progress_bar(len(tasks), "photos") as advance:
            for future in as_completed(futures):
                image_id, reason = future.result()
                report["not tried"] -= 1
                if reason is None:
                    report["fetched"] += 1
                else:
                    rejected.setdefault(reason, []).append(image_id)
                advance()
    except BrokenProcessPool:
        raise UserError(WORKER_KILLED) from None
    finally:  # a run that is stopped reports what it has done, and does not wait for a silent server
        for process in multiprocessing.active_children():
            process.terminate()
        report["seconds"] = round(time.perf_counter() - start, 3)
        write_json(folder.report("download_images"), report)
        print_report(report)
    if rejected and not report["fetched"] and not present:
        reason = max(rejected, key=lambda name: len(rejected[name]))
        raise UserError(f"no photo could be fetched ({reason}): check the network and the links of the images table.")


if __name__ == "__main__":
    run(main)
