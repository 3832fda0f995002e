"""Fetch the photos that the images table links to and that are not in the data folder yet.

Reads:  images_table.json (columns id, bucket_link) in the data folder.
Writes: images/<image id>.jpg, each whole or not at all, and download_images_report.json.
Usage:  python download_images.py [--data-dir data] [--workers 16] [--limit N]
"""

import argparse
import contextlib
import queue
import random
import re
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from urllib.parse import urljoin, urlsplit

import pandas as pd
import requests
import urllib3

from marketplace.command_line import argument_parser, positive_int, print_report, progress_bar, run
from marketplace.data_folder import DataFolder, UserError, write_json, write_whole
from marketplace.tables import read_table

MAX_BYTES = 20_000_000
MAX_REDIRECTS = 5
TRIES = 3
FIRST_PAUSE = 0.5  # seconds before the second try; doubled before each further one
LONGEST_PAUSE = 30.0  # even where a server asks for more
DEAD_HOST = 20  # so many photos unreachable, and none ever reached: the host is not asked again
RETRIED_STATUS = (408, 425, 429, 500, 502, 503, 504)

UNREACHABLE = "host not reachable"
SILENT = "no answer in time"
BROKEN_OFF = "broken off in the middle"
NO_SUCH_HOST = "host that does not exist (.invalid)"


class NotFetchedError(Exception):
    """A photo that could not be had. `reason` never holds the link: a signed link is a secret."""

    def __init__(self, reason: str, retry: bool = False, pause: float = 0.0):
        super().__init__(reason)
        self.reason = reason
        self.retry = retry
        self.pause = pause


class PhotoSession(requests.Session):
    """A session that leaves redirects to `open_link`: requests itself reads the whole body of each, however large."""

    def get_redirect_target(self, resp: requests.Response) -> None:
        return None


def is_file_name(image_id: object) -> bool:
    """Whether an id may become the name of a file: no folder, no hidden file, nothing a file system trips over."""
    return isinstance(image_id, str) and re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,199}", image_id) is not None


def check_link(link: object) -> str:
    """Return the link, or raise NotFetchedError when no server can be asked for it."""
    if not isinstance(link, str) or link.strip() in ("", "N/A", "null"):
        raise NotFetchedError("no link")
    try:
        parts = urlsplit(link.strip())
        host = parts.hostname
    except ValueError:
        raise NotFetchedError("link that is not an address") from None
    if parts.scheme not in ("http", "https") or not host:
        raise NotFetchedError("link that is not http or https")
    if host.rstrip(".").endswith(".invalid"):
        raise NotFetchedError(NO_SUCH_HOST)
    return link.strip()


def is_photo(content: bytes) -> bool:
    """Whether the first bytes are those of a JPEG, PNG, GIF or WebP file."""
    beginnings = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF87a", b"GIF89a")
    return content.startswith(beginnings) or (content[:4] == b"RIFF" and content[8:12] == b"WEBP")


def pause_asked_for(response: requests.Response) -> float:
    """Seconds of the Retry-After header; 0 when there is none, or a date."""
    text = response.headers.get("Retry-After", "")
    return min(float(text), LONGEST_PAUSE) if re.fullmatch(r"[0-9]{1,9}", text) else 0.0


def open_link(session: requests.Session, link: str, timeout: float) -> requests.Response:
    """The answer at the end of a link's redirects, each of whose targets is checked; no body is read yet."""
    for _ in range(MAX_REDIRECTS + 1):
        response = session.get(check_link(link), timeout=timeout, stream=True, allow_redirects=False)
        if not response.is_redirect:
            return response
        response.close()
        link = urljoin(link, response.headers["Location"])
    raise NotFetchedError("too many redirects")


def read_body(response: requests.Response, deadline: float) -> bytes:
    """The body, refused as soon as it is known to be too large, too slow or no photo."""
    if int(response.headers.get("Content-Length") or 0) > MAX_BYTES:
        raise NotFetchedError("larger than 20 MB")
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


def fetch_once(session: requests.Session, link: str, timeout: float) -> bytes:
    """One try for one photo: its bytes, or NotFetchedError with the reason and whether another try may help."""
    try:
        with open_link(session, link, timeout) as response:
            if response.status_code != 200:
                again = response.status_code in RETRIED_STATUS
                raise NotFetchedError(f"HTTP {response.status_code}", again, pause_asked_for(response))
            return read_body(response, time.monotonic() + 6 * timeout)
    except (requests.Timeout, urllib3.exceptions.TimeoutError):
        raise NotFetchedError(SILENT, retry=True) from None
    except requests.exceptions.SSLError:
        raise NotFetchedError("TLS certificate refused") from None
    except requests.ConnectionError as error:
        answered = "RemoteDisconnected" in repr(error) or "Connection aborted" in repr(error)
        raise NotFetchedError(BROKEN_OFF if answered else UNREACHABLE, retry=True) from None
    except (urllib3.exceptions.HTTPError, OSError):
        raise NotFetchedError(BROKEN_OFF, retry=True) from None
    except (requests.RequestException, ValueError):
        raise NotFetchedError("link or answer that is not proper HTTP") from None


def fetch_photo(session: requests.Session, link: str, timeout: float, stopping: threading.Event) -> bytes:
    """A photo's bytes, after at most TRIES tries with growing pauses between them."""
    for attempt in range(TRIES):
        try:
            return fetch_once(session, link, timeout)
        except NotFetchedError as error:
            if not error.retry or attempt == TRIES - 1:
                raise
            pause = FIRST_PAUSE * 2**attempt * random.uniform(0.75, 1.25)  # so that workers don't come all at once
            if stopping.wait(max(pause, error.pause)):
                raise
    raise AssertionError("not reached")


class Hosts:
    """Which hosts answer, so that a dead network does not cost every photo its tries."""

    def __init__(self):
        self.reached: set[str | None] = set()
        self.failures: Counter = Counter()

    def is_dead(self, host: str | None) -> bool:
        return host not in self.reached and self.failures[host] >= DEAD_HOST

    def note(self, host: str | None, reason: str | None) -> None:
        if reason in (UNREACHABLE, SILENT):
            self.failures[host] += 1
        else:
            self.reached.add(host)


def fetch_all(
    links: Iterable[tuple[str, str]], images: Path, workers: int, timeout: float
) -> Iterator[tuple[str, str | None, int]]:
    """Fetch (image id, link) pairs with threads; yield (image id, reason or None, bytes) as each is done.

    The threads are daemons and stop when the caller does: Ctrl-C need not wait for a silent server.
    """
    jobs: queue.SimpleQueue = queue.SimpleQueue()
    for job in links:
        jobs.put(job)
    outcomes: queue.SimpleQueue = queue.SimpleQueue()
    stopping = threading.Event()
    hosts = Hosts()

    def fetch_to_file(session: requests.Session, image_id: str, link: str) -> tuple[str, str | None, int]:
        try:
            host = urlsplit(check_link(link)).hostname
        except NotFetchedError as error:
            return image_id, error.reason, 0
        if hosts.is_dead(host):
            return image_id, UNREACHABLE, 0
        try:
            content = fetch_photo(session, link, timeout, stopping)
        except NotFetchedError as error:
            hosts.note(host, error.reason)
            return image_id, error.reason, 0
        hosts.note(host, None)
        if not stopping.is_set():
            with write_whole(images / f"{image_id}.jpg", flush=False) as partial:
                partial.write_bytes(content)
        return image_id, None, len(content)

    def work() -> None:
        with PhotoSession() as session:
            session.headers["Accept-Encoding"] = "identity"  # photos are compressed already
            while not stopping.is_set():
                try:
                    outcomes.put(fetch_to_file(session, *jobs.get_nowait()))
                except queue.Empty:
                    return
                except BaseException as error:
                    outcomes.put(error)
                    return

    count = jobs.qsize()
    threads = [threading.Thread(target=work, daemon=True) for _ in range(min(workers, count))]
    for thread in threads:
        thread.start()
    try:
        for _ in range(count):
            outcome = outcomes.get()
            if isinstance(outcome, BaseException):
                raise outcome
            yield outcome
    finally:
        stopping.set()
        end = time.monotonic() + 1
        for thread in threads:  # one that is writing finishes its file; one that waits for a server is left behind
            thread.join(max(0.0, end - time.monotonic()))


def photos_there(images: Path) -> set[str]:
    """Ids whose photo is in the folder."""
    if not images.is_dir():
        return set()
    return {path.stem for path in images.iterdir() if path.suffix.lower() in (".jpg", ".jpeg")}


def choose_links(table: pd.DataFrame, there: set[str]) -> tuple[list[tuple[str, str]], list[str]]:
    """The (id, link) pairs to fetch, each id once, and the ids that cannot name a file."""
    table = table[~table["id"].isin(there)].drop_duplicates("id")
    usable = table["id"].map(is_file_name).astype(bool)
    links = list(zip(table["id"][usable], table["bucket_link"][usable], strict=True))
    return links, [str(image_id) for image_id in table["id"][~usable]]


def complain(report: dict) -> None:
    """Raise UserError when the folder has no photo and none could be had, with the reason of most of them."""
    missing = report["not fetched"]
    if not missing or report["fetched"] or report["already there"]:
        return
    reason = max(missing, key=lambda name: len(missing[name]))
    advice = {
        UNREACHABLE: "check the network, then run the command again",
        SILENT: "check the network, then run the command again",
        NO_SUCH_HOST: "the sample's links lead nowhere, run python make_sample_marketplace.py for its photos",
    }.get(reason, "look at bucket_link in the images table")
    raise UserError(f"no photo could be fetched ({reason}): {advice}.")


def parse_arguments() -> argparse.Namespace:
    parser = argument_parser("Fetch the photos that the images table links to.")
    parser.add_argument("--workers", type=positive_int, default=16, help="photos fetched at the same time")
    parser.add_argument("--limit", type=positive_int, default=argparse.SUPPRESS, metavar="N", help="at most N photos")
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
    there = photos_there(folder.images)
    links, no_names = choose_links(table, there)
    chosen = links[: getattr(arguments, "limit", len(links))]
    if not links:
        print(f"nothing to fetch: {folder.images} has every photo that the table links to")
    folder.images.mkdir(parents=True, exist_ok=True)

    report = {
        "rows of the table": len(table),
        "already there": int(table["id"].isin(there).sum()),
        "fetched": 0,
        "bytes": 0,
        "not tried": len(links),
        "not fetched": {"id that cannot be a file name": no_names} if no_names else {},
    }
    try:
        outcomes = fetch_all(chosen, folder.images, arguments.workers, arguments.timeout)
        with contextlib.closing(outcomes), progress_bar(len(chosen), "photos") as advance:
            for image_id, reason, size in outcomes:
                report["not tried"] -= 1
                if reason is None:
                    report["fetched"] += 1
                    report["bytes"] += size
                else:
                    report["not fetched"].setdefault(reason, []).append(image_id)
                advance()
    finally:  # a run that is stopped reports what it had done
        report["seconds"] = round(time.perf_counter() - start, 3)
        write_json(folder.report("download_images"), report)
        print_report(report)
    complain(report)


if __name__ == "__main__":
    run(main)
