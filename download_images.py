"""Fetch the photos that the images table links to and that are not in the data folder yet, or are empty.

Reads:  images_table.json (columns id, bucket_link) in the data folder.
Writes: images/<image id>.jpg, each whole or not at all, and download_images_report.json.
Usage:  python download_images.py [--data-dir data] [--workers 16] [--limit N] [--timeout 60]
"""

import multiprocessing
import signal
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

import requests
import urllib3
from requests.adapters import HTTPAdapter

from marketplace import photos
from marketplace.command_line import argument_parser, positive_int, print_report, progress_bar, run
from marketplace.data_folder import DataFolder, UserError, read_json, remove_old_partial_files, write_json, write_whole

MAX_SECONDS = 86_400  # sockets take no number of milliseconds above 2**31
session = requests.Session()  # of each worker process


def prepare_worker(seconds: int) -> None:
    """Limit the seconds of a photo; try again where a server is busy, and pause as it asks if the limit allows it."""
    photos.end_with_parent()
    signal.signal(signal.SIGALRM, stop_slow_photo)
    retry = urllib3.Retry(2, status_forcelist=(429, 500, 502, 503, 504), backoff_factor=0.5, raise_on_status=False)
    retry.retry_after_max = min(30, seconds // 3)
    for scheme in ("http://", "https://"):
        session.mount(scheme, HTTPAdapter(max_retries=retry))
    session.headers["Accept-Encoding"] = "identity"  # photos are compressed already


def stop_slow_photo(*_: object) -> None:
    raise photos.PhotoError("too slow")


def fetch(link: str, seconds: int) -> bytes:
    """The bytes of a photo; raises PhotoError, whose reason never holds the link: that may contain a signature.

    The alarm ends the whole, also where a server sends its headers byte by byte; the timeout of requests would start
    again with each byte.
    """
    signal.alarm(seconds)
    try:
        with session.get(link, timeout=seconds, stream=True) as response:
            if response.status_code != 200:
                raise photos.PhotoError(f"HTTP {response.status_code}")
            content = response.raw.read(photos.MAX_PHOTO_BYTES)
            if response.raw.read(1):  # where bytes are missing, this second call says so
                raise photos.PhotoError("too many bytes")
    except photos.PhotoError:
        raise
    except Exception as error:  # the libraries of the network raise exceptions of many types
        cause = getattr(error.args[0], "reason", error) if error.args else error  # of a ConnectionError
        raise photos.PhotoError(type(cause).__name__) from None
    finally:
        signal.alarm(0)
    if not photos.is_photo(content):
        raise photos.PhotoError("not a JPEG, PNG, WebP or GIF")
    return content


def fetch_to_file(photo: tuple[str, str, Path, int]) -> tuple[str, str | None]:
    """Fetch (image id, link, path, seconds) into a file; returns the image id, and the reason if it is rejected."""
    image_id, link, path, seconds = photo
    try:
        content = fetch(link, seconds)
    except photos.PhotoError as error:
        return image_id, str(error)
    with write_whole(path, flush=False) as partial:
        partial.write_bytes(content)
    return image_id, None


def main() -> None:
    parser = argument_parser("Fetch the photos that the images table links to.")
    parser.add_argument("--workers", type=positive_int, default=16, help="photos fetched at the same time")
    parser.add_argument("--limit", type=positive_int, metavar="N", help="at most N photos")
    parser.add_argument("--timeout", type=positive_int, default=60, metavar="SECONDS", help="time limit of one photo")
    arguments = parser.parse_args()
    start = time.perf_counter()
    folder = DataFolder(arguments.data_dir)
    seconds = min(arguments.timeout, MAX_SECONDS)
    rows = photos.image_rows(read_json(folder.images_table, "download_products_table.py"))
    folder.images.mkdir(parents=True, exist_ok=True)
    remove_old_partial_files(folder.images)
    files = photos.photo_files(folder.images)
    present = 0
    rejected: dict[str, list[str]] = {}
    wanted: list[tuple[str, str, Path, int]] = []
    for image_id, row in rows.items():
        path, link = photos.photo_file(files, image_id), str(row.get("bucket_link"))
        if path and path.stat().st_size:
            present += 1
        elif image_id and photos.LINK.match(link):
            path = path or folder.images / f"{photos.photo_stem(image_id)}.jpg"
            wanted.append((image_id, link.strip(), path, seconds))
        else:
            rejected.setdefault("no http link" if image_id else "no id", []).append(image_id)
    tasks = wanted[: arguments.limit]
    report: dict[str, Any] = {
        "rows of the table": len(rows),
        "present": present,
        "fetched": 0,
        "not tried": len(wanted),
        "rejected": rejected,
    }
    try:
        with photos.starting_workers("alive_progress", "numpy", "PIL.ImageOps", "requests") as context:
            workers = min(arguments.workers, max(1, len(tasks)))
            pool = ProcessPoolExecutor(workers, context, prepare_worker, (seconds,))
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
        raise UserError(photos.WORKER_KILLED) from None
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
