"""Requests a second, latency and memory of serve.py, against starting rank_products.py for each query.

    python -m benchmarks.serving [--data-dir data/sample] [--requests 200] [--soak 2000] [--starts 3] [--save]

Starts a server process on this machine's loopback and sends it the names, photos and ids of listings, by one client and
by eight at once, each over a connection that it keeps. Every answer must be 200 with ten listings.
"""

import argparse
import http.client
import json
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import cycle
from pathlib import Path
from urllib.parse import urlencode

import numpy as np

from benchmarks.saving import add_save_option, save_rows
from evaluation.tables import dataset_name, markdown, rows_table
from marketplace.command_line import argument_parser, positive_int, run
from marketplace.data_folder import ROOT, DataFolder, UserError, read_json

CLIENTS = (1, 8)
QUERIES = 100  # different ones of each kind
FORM = "application/x-www-form-urlencoded"
Request = tuple[str, bytes]  # content type and body


def parse_arguments() -> argparse.Namespace:
    parser = argument_parser("Measure the server.")
    parser.set_defaults(data_dir=Path("data/sample"))
    parser.add_argument("--requests", type=positive_int, default=200, help="of each kind and number of clients")
    parser.add_argument("--soak", type=positive_int, default=2000, help="requests over which the memory is watched")
    parser.add_argument("--starts", type=positive_int, default=3, help="of the command, for each kind of query")
    add_save_option(parser)
    return parser.parse_args()


def photo_form(photo: bytes) -> Request:
    head = b'--boundary\r\nContent-Disposition: form-data; name="photo"; filename="photo.jpg"\r\n\r\n'
    return "multipart/form-data; boundary=boundary", head + photo + b"\r\n--boundary--\r\n"


def queries_of(folder: DataFolder) -> tuple[dict[str, list[Request]], dict[str, list[str]]]:
    """By kind of query: the bodies of requests, and the arguments of one start of the command."""
    listings = read_json(folder.products_table_clean, "clean_tabular_data.py")[:QUERIES]
    photos = sorted(folder.images.glob("*.jpg"))[:QUERIES]
    if not photos:
        raise UserError(f"{folder.images} has no photo: give a data folder with photos.")
    requests = {
        "text": [(FORM, urlencode({"text": listing["product_name"]}).encode()) for listing in listings],
        "photo": [photo_form(path.read_bytes()) for path in photos],
        "product": [(FORM, urlencode({"product": listing["id"]}).encode()) for listing in listings],
    }
    arguments = {"text": ["--text", listings[0]["product_name"]], "photo": ["--image", str(photos[0])]}
    return requests, arguments | {"product": ["--product", listings[0]["id"]]}


@contextmanager
def running_server(folder: DataFolder) -> Iterator[tuple[int, int]]:
    """A server process; gives its port and its process id."""
    command = [sys.executable, "serve.py", "--data-dir", str(folder.path.resolve()), "--port", "0"]
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr is not None
            running = (re.search(r"running on http://.+:(\d+) ", line) for line in process.stderr)
            port = next((match[1] for match in running if match), None)
            if port is None:
                raise UserError(f"serve.py did not start in {folder.path}: run it by hand to see why.")
            yield int(port), process.pid
        finally:
            process.terminate()


def ask(connection: http.client.HTTPConnection, request: Request) -> float:
    """Milliseconds of one request; raises UserError when it fails."""
    start = time.perf_counter()
    connection.request("POST", "/api/rank", request[1], {"Content-Type": request[0]})
    answer = connection.getresponse()
    content = answer.read()
    milliseconds = 1000 * (time.perf_counter() - start)
    if answer.status != 200 or len(json.loads(content)["results"]) != 10:
        raise UserError(f"the server answered {answer.status} with {content[:200]!r}: look at its terminal.")
    return milliseconds


def ask_all(port: int, requests: Sequence[Request], clients: int, count: int) -> tuple[float, np.ndarray]:
    """Seconds that `clients` clients need for `count` requests in all, and the milliseconds of each request."""
    milliseconds: list[float] = []
    failures: list[Exception] = []
    waiting = iter([request for request, _ in zip(cycle(requests), range(count), strict=False)])
    lock = threading.Lock()

    def work() -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
        try:
            while not failures:
                with lock:
                    request = next(waiting, None)
                if request is None:
                    break
                milliseconds.append(ask(connection, request))
        except Exception as error:  # of a thread, which would be lost
            failures.append(error)
        finally:
            connection.close()

    threads = [threading.Thread(target=work) for _ in range(clients)]
    start = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]
    return time.perf_counter() - start, np.array(milliseconds)


def memory_mb(pid: int) -> float:
    """Resident memory of a process (Linux)."""
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    return int(re.search(r"VmRSS:\s+(\d+)", status)[1]) / 1000  # type: ignore[index]


def seconds_of(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def command_row(folder: DataFolder, kind: str, arguments: list[str], starts: int) -> dict[str, str | float]:
    """The row of the straightforward way: a process for each query."""
    command = [sys.executable, "rank_products.py", "--data-dir", str(folder.path.resolve()), "--json", *arguments]
    times = [
        seconds_of(lambda: subprocess.run(command, cwd=ROOT, check=True, capture_output=True)) for _ in range(starts)
    ]
    median = float(np.median(times))
    return {"query": kind, "clients": "command", "requests/s": 1 / median, "50th, ms": 1000 * median}


def served_row(port: int, kind: str, requests: Sequence[Request], clients: int, count: int) -> dict[str, str | float]:
    """The row of `count` requests to the server."""
    seconds, milliseconds = ask_all(port, requests, clients, count)
    middle, last = np.percentile(milliseconds, (50, 99))
    row: dict[str, str | float] = {"query": kind, "clients": clients, "requests/s": count / seconds}
    return row | {"50th, ms": float(middle), "99th, ms": float(last)}


def main() -> None:
    arguments = parse_arguments()
    folder = DataFolder(arguments.data_dir)
    requests, commands = queries_of(folder)
    rows = [command_row(folder, kind, words, arguments.starts) for kind, words in commands.items()]
    with running_server(folder) as (port, pid):
        for kind, of_kind in requests.items():
            ask_all(port, of_kind, max(CLIENTS), 2 * max(CLIENTS))  # so that all threads have started
            rows += [served_row(port, kind, of_kind, clients, arguments.requests) for clients in CLIENTS]
        mixed = [request for together in zip(*requests.values(), strict=False) for request in together]
        memory = {"MB before": memory_mb(pid)}
        row = served_row(port, f"mixed, {arguments.soak:,}", mixed, max(CLIENTS), arguments.soak)
        rows.append(row | memory | {"MB after": memory_mb(pid)})
    print(markdown(rows_table(rows, list(rows[-1]))))
    if arguments.save:
        save_rows("serving", rows, dataset=dataset_name(arguments.data_dir))


if __name__ == "__main__":
    run(main)
