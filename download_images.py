"""Fetch the photos that the images table links to and that are not in the data folder yet, empty, or called broken.

Reads:  images_table.json (columns id, bucket_link) and clean_images_*_report.json in the data folder.
Writes: images/<image id>.jpg, each whole or not at all, and download_images_report.json.
Usage:  python download_images.py [--data-dir data] [--workers 16] [--limit N]
"""

import argparse
import re
import time
from collections import Counter
from multiprocessing.pool import ThreadPool
from pathlib import Path
from typing import Any

import pandas as pd
import requests
import urllib3
from requests.adapters import HTTPAdapter

from marketplace.command_line import argument_parser, positive_int, print_report, progress_bar, run
from marketplace.data_folder import DataFolder, UserError, read_json, remove_old_partial_files, write_json, write_whole
from marketplace.listings import read_table
from marketplace.photos import is_photo

MAX_BYTES = 20_000_000
MAX_REDIRECTS = 5  # each may take as long as the time limit, and requests would follow 30
PAUSES = (0.5, 1.0)  # seconds before the second and the third try
LONGEST_PAUSE = 30.0  # even where a server asks for more
DEAD_HOST = 20  # a host that has never answered is skipped after so many failed photos

UNREACHABLE = "host not reachable"
BROKEN_OFF = "broken off in the middle"


class NotFetchedError(Exception):
    """A photo that could not be fetched. The reason never holds the link, which may contain a signature.

    `pause` is None where another try is useless, else the seconds that the server asks to wait before it.
    """

    def __init__(self, reason: str, pause: float | None = None):
        super().__init__(reason)
        self.pause = pause


def is_file_name(image_id: object) -> bool:
    """Whether an id may become the name of a file: no folder, no hidden file, no special characters."""
    return isinstance(image_id, str) and re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,199}", image_id) is not None


def host_of(link: str) -> str:
    """The part of a link before its path."""
    return "/".join(link.split("/")[:3])


def read_body(response: requests.Response, deadline: float) -> bytes:
    """The body, refused as soon as it is known to be too large, too slow or no photo.

    `iter_content` of requests would wait for a whole piece, however slowly it comes.
    """
    content = bytearray()
    while piece := response.raw.read1(65536, decode_content=True):
        content += piece
        if len(content) > MAX_BYTES:
            raise NotFetchedError("larger than 20 MB")
        if len(content) >= 12 and not is_photo(content):
            break
        if time.monotonic() > deadline:
            raise NotFetchedError("too slow")
    if not is_photo(content):
        raise NotFetchedError("not a JPEG, PNG, WebP or GIF" if content else "empty answer")
    return bytes(content)


def failure(response: requests.Response) -> NotFetchedError:
    """The error for a status other than 200; a busy or failing server (429, 5xx) is worth another try."""
    text = response.headers.get("Retry-After", "")
    pause = min(float(text), LONGEST_PAUSE) if text.isdecimal() else 0.0
    try_again = response.status_code == 429 or response.status_code >= 500
    return NotFetchedError(f"HTTP {response.status_code}", pause if try_again else None)


def close_redirect(response: requests.Response, **_: Any) -> None:
    """Response hook: requests would read the body of a redirect, however large."""
    if response.is_redirect:
        response.close()


class Downloader:
    """Fetches photos into a folder; its threads share it."""

    def __init__(self, images: Path, threads: int, timeout: float):
        self.images, self.timeout = images, timeout
        self.answered: set[str] = set()  # hosts
        self.failures: Counter[str] = Counter()  # of hosts
        self.session = requests.Session()
        self.session.headers["Accept-Encoding"] = "identity"  # photos are compressed already
        self.session.max_redirects = MAX_REDIRECTS
        self.session.hooks["response"] = [close_redirect]
        for scheme in ("http://", "https://"):
            self.session.mount(scheme, HTTPAdapter(pool_maxsize=threads))

    def fetch_once(self, link: str) -> bytes:
        """The bytes of a photo, after one try; raises NotFetchedError."""
        try:
            with self.session.get(link, timeout=self.timeout, stream=True) as response:
                self.answered.add(host_of(link))
                if not 200 <= response.status_code <= 203:  # the others have no photo, or part of one
                    raise failure(response)
                return read_body(response, time.monotonic() + 6 * self.timeout)
        except (requests.Timeout, urllib3.exceptions.TimeoutError):
            raise NotFetchedError("no answer in time", 0) from None
        except requests.exceptions.SSLError:
            raise NotFetchedError("TLS certificate refused") from None
        except requests.ConnectionError as error:
            connected = not isinstance(error.args[0], urllib3.exceptions.MaxRetryError)
            raise NotFetchedError(BROKEN_OFF if connected else UNREACHABLE, 0) from None
        except requests.TooManyRedirects:
            raise NotFetchedError("too many redirects") from None
        except requests.exceptions.InvalidHeader:
            raise NotFetchedError("answer that is not proper HTTP") from None
        except (requests.RequestException, ValueError):
            raise NotFetchedError("link that is not http or https") from None
        except (urllib3.exceptions.HTTPError, OSError):
            raise NotFetchedError(BROKEN_OFF, 0) from None

    def fetch(self, link: str) -> bytes:
        """The bytes of a photo, after at most three tries; raises NotFetchedError.

        urllib3's Retry does not try again when a body breaks off, and reads the whole body of a failure.
        """
        for pause in PAUSES:
            try:
                return self.fetch_once(link)
            except NotFetchedError as error:
                if error.pause is None:
                    raise
                time.sleep(max(pause, error.pause))
        return self.fetch_once(link)

    def fetch_to_file(self, photo: tuple[str, str]) -> tuple[str, str | None]:
        """Fetch (image id, link) into the folder; returns the image id, and the reason when it was not fetched."""
        image_id, link = photo
        host = host_of(link)
        if host not in self.answered and self.failures[host] >= DEAD_HOST:
            return image_id, UNREACHABLE
        try:
            content = self.fetch(link)
        except NotFetchedError as error:
            self.failures[host] += error.pause is not None
            return image_id, str(error)
        with write_whole(self.images / f"{image_id}.jpg", flush=False) as partial:
            partial.write_bytes(content)
        return image_id, None


def photos_in(folder: DataFolder) -> set[str]:
    """Ids whose photo is in the folder, but for those of zero bytes and those that clean_images.py calls broken.

    A file that has changed since the report is not called broken. So a photo that is broken on the server, too, is
    fetched once for each report, not at every run.
    """
    broken: dict[str, float] = {}  # time of the latest report by file name
    for report in sorted(folder.path.glob("clean_images_*_report.json"), key=lambda path: path.stat().st_mtime):
        for reason, names in read_json(report, "clean_images.py")["set_aside"].items():
            if reason.startswith("broken"):
                broken |= dict.fromkeys(names, report.stat().st_mtime)
    photos = [path for path in folder.images.iterdir() if path.suffix.lower() in (".jpg", ".jpeg")]
    bad = {
        path.stem
        for path in photos
        if path.suffix == ".jpg" and path.is_file()  # the name under which a photo is written; no link to nothing
        if path.stat().st_size == 0 or path.stat().st_ctime <= broken.get(path.name, 0)
    }
    return {path.stem for path in photos} - bad


def choose_links(table: pd.DataFrame, there: set[str]) -> tuple[list[tuple[str, str]], dict[str, list[str]]]:
    """The (image id, link) pairs to fetch, each id once, and the ids left out by reason."""
    table = table[~table["id"].isin(there)].drop_duplicates("id")
    links: list[tuple[str, str]] = []
    left_out: dict[str, list[str]] = {}
    for image_id, link in zip(table["id"], table["bucket_link"], strict=True):
        if not is_file_name(image_id):
            left_out.setdefault("id that cannot be a file name", []).append(str(image_id))
        elif not isinstance(link, str) or link.strip() in ("", "N/A"):
            left_out.setdefault("no link", []).append(image_id)
        else:
            links.append((image_id, link.strip()))
    return links, left_out


def parse_arguments() -> argparse.Namespace:
    parser = argument_parser("Fetch the photos that the images table links to.")
    parser.add_argument("--workers", type=positive_int, default=16, help="photos fetched at the same time")
    parser.add_argument("--limit", type=positive_int, metavar="N", help="at most N photos")
    parser.add_argument("--timeout", type=float, default=20, metavar="SECONDS", help="longest silence of a server")
    arguments = parser.parse_args()
    if not 0.1 <= arguments.timeout <= 3600:
        parser.error("--timeout is a number of seconds from 0.1 to 3600")
    return arguments


def main() -> None:
    arguments = parse_arguments()
    start = time.perf_counter()
    folder = DataFolder(arguments.data_dir)
    table = read_table(folder.images_table, "download_products_table.py", ("id", "bucket_link"))
    folder.images.mkdir(parents=True, exist_ok=True)
    remove_old_partial_files(folder.images)
    there = photos_in(folder)
    links, not_fetched = choose_links(table, there)
    chosen = links[: arguments.limit]
    if not links:
        print(f"nothing to fetch: {folder.images} has every photo that the table links to")

    report: dict[str, Any] = {
        "rows of the table": len(table),
        "already there": int(table["id"].isin(there).sum()),
        "fetched": 0,
        "not tried": len(links),
        "not fetched": not_fetched,
    }
    downloader = Downloader(folder.images, arguments.workers, arguments.timeout)
    try:  # leaving the pool does not wait for its threads, one of which may wait for a silent server
        with (
            ThreadPool(min(arguments.workers, max(1, len(chosen)))) as pool,
            progress_bar(len(chosen), "photos") as advance,
        ):
            for image_id, reason in pool.imap_unordered(downloader.fetch_to_file, chosen):
                report["not tried"] -= 1
                if reason is None:
                    report["fetched"] += 1
                else:
                    not_fetched.setdefault(reason, []).append(image_id)
                advance()
    finally:  # a run that is stopped reports what it has done
        report["seconds"] = round(time.perf_counter() - start, 3)
        write_json(folder.report("download_images"), report)
        print_report(report)
    if not_fetched and not report["fetched"] and not there:
        reason = max(not_fetched, key=lambda name: len(not_fetched[name]))
        raise UserError(f"no photo could be fetched ({reason}): check the network and the links of the images table.")


if __name__ == "__main__":
    run(main)
