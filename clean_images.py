"""Make the photos ready for learning: square, RGB, on black, all of one size.

Reads:  images/*.jpg, *.jpeg (any case) in the data folder, or the folder given with --images
Writes: clean_images_<size>/<image id>.jpg, manifest.json in it, clean_images_<size>_report.json

    python clean_images.py --data-dir data --size 64
"""

import concurrent.futures
import contextlib
import itertools
import json
import logging
import multiprocessing
import multiprocessing.connection
import os
import re
import signal
import stat
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import NamedTuple

import photo_cleaning
from data_folder import (
    DataFolder,
    UserError,
    argument_parser,
    positive_int,
    print_report,
    progress_bar,
    run,
    write_json,
    write_whole,
)
from photo_cleaning import PARTIAL_SUFFIX, Cleaned, clean_files

MANIFEST_VERSION = 1  # raise it when the same photo would come out otherwise: all photos are then done again
CHUNK_PHOTOS = 32
CHUNK_BYTES = 8_000_000
SAVE_SECONDS = 10.0
CLUSTER_SECONDS = 10  # to reach a scheduler, and for its first worker to appear
CLUSTER_SILENCE_SECONDS = 120  # a chunk takes seconds

Chunk = list[tuple[str, str]]
Photos = dict[str, tuple[str, int, int]]  # by output name: source name, size, mtime_ns
Entry = list  # [source name, source size, source mtime_ns, output size, output mtime_ns]


class Work(NamedTuple):
    """What there is to do: chunks of (source name, output name), from one folder into another."""

    images: Path
    outputs: Path
    size: int
    chunks: list[Chunk]


Results = contextlib.AbstractContextManager[Iterator[list[Cleaned]]]


def find_photos(images: Path) -> tuple[Photos, dict[str, list[str]]]:
    """Photos of a folder, and names set aside by reason.

    Raises UserError when the folder is missing or holds no photo.
    """
    if not images.is_dir():
        raise UserError(f"{images} is missing or no folder: put the photos there, or name their folder with --images.")
    inside = os.path.join(os.path.realpath(images), "")
    photos, taken, set_aside = {}, set(), {}
    with os.scandir(images) as entries:
        named = [entry for entry in entries if os.path.splitext(entry.name)[1].lower() in (".jpg", ".jpeg")]
    for entry in sorted(named, key=lambda entry: entry.name):
        output = os.path.splitext(entry.name)[0] + ".jpg"
        key = output.casefold()
        try:
            status = entry.stat()
        except OSError:
            status = None
        if key in taken:
            reason = "same name as another, ignoring case"
        elif entry.is_symlink() and not os.path.realpath(entry.path).startswith(inside):
            reason = "link out of the folder"
        elif status is None:
            reason = "cannot be read"
        elif not stat.S_ISREG(status.st_mode):  # a pipe of that name would keep a worker waiting for ever
            reason = "not a file"
        else:
            photos[output] = (entry.name, status.st_size, status.st_mtime_ns)
            reason = None
        taken.add(key)
        if reason:
            set_aside.setdefault(reason, []).append(entry.name)
    if not named:
        raise UserError(
            f"{images} holds no .jpg or .jpeg file: put the photos there, or name their folder by --images."
        )
    return photos, set_aside


def read_manifest(path: Path, size: int) -> dict[str, Entry]:
    """Entries of the manifest by output name; none when it is missing, broken or of another version."""
    try:
        manifest = json.loads(path.read_bytes())
        if manifest["version"] != MANIFEST_VERSION or manifest["size"] != size:
            return {}
        entries = manifest["photos"].items()
        return {name: entry for name, entry in entries if isinstance(entry, list) and len(entry) == 5}
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return {}


def save_manifest(path: Path, size: int, entries: dict[str, Entry]) -> None:
    """Write the manifest whole, one photo a line."""
    with write_whole(path) as partial, open(partial, "w", encoding="ascii") as file:
        file.write(f'{{"version": {MANIFEST_VERSION}, "size": {size}, "photos": {{')
        separator = "\n"
        for name in sorted(entries):
            file.write(f"{separator}{json.dumps(name)}: {json.dumps(entries[name])}")
            separator = ",\n"
        file.write("\n}}\n")


def stat_outputs(outputs: Path) -> dict[str, tuple[int, int]]:
    """Size and mtime_ns of each file in the output folder; removes what a killed run left half-written."""
    found = {}
    with os.scandir(outputs) as entries:
        for entry in entries:
            if entry.name.startswith(".") and entry.name.endswith(PARTIAL_SUFFIX):
                os.unlink(entry.path)
            elif entry.is_file(follow_symlinks=False):
                status = entry.stat()
                found[entry.name] = (status.st_size, status.st_mtime_ns)
    return found


def already_clean(photos: Photos, manifest: dict[str, Entry], present: dict[str, tuple[int, int]]) -> dict[str, Entry]:
    """Entries of the photos whose source and output both have the size and the time that the manifest tells."""
    clean = {}
    for output, source in photos.items():
        entry = manifest.get(output)
        if entry and tuple(entry[:3]) == source and tuple(entry[3:]) == present.get(output):
            clean[output] = entry
    return clean


def chunked(photos: Photos) -> list[Chunk]:
    """Cut the work into pieces of about equal size, each small enough to be lost without regret."""
    chunks, photos_left, bytes_left = [], 0, 0
    for output, (source, size, _) in photos.items():
        if photos_left == 0 or bytes_left < size:
            chunks.append([])
            photos_left, bytes_left = CHUNK_PHOTOS, CHUNK_BYTES
        chunks[-1].append((source, output))
        photos_left, bytes_left = photos_left - 1, bytes_left - size
    return chunks


def end_with_parent() -> None:
    """Prepare a worker: when the parent is gone, even by SIGKILL, it ends too."""

    def watch():
        multiprocessing.connection.wait([multiprocessing.parent_process().sentinel])
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


@contextlib.contextmanager
def on_this_machine(work: Work, workers: int) -> Iterator[Iterator[list[Cleaned]]]:
    """Give an iterator over the results of chunks, as they are finished by `workers` processes.

    Only a few chunks wait at a time, so that memory does not grow with the number of photos. Raises UserError when a
    worker is killed.
    """
    # fork starts a worker in milliseconds, and no thread runs here yet; elsewhere the platform knows best
    context = multiprocessing.get_context("fork" if sys.platform == "linux" else None)
    pool = concurrent.futures.ProcessPoolExecutor(min(workers, len(work.chunks)), context, end_with_parent)
    waiting = iter(work.chunks)

    def submit(count: int) -> set[concurrent.futures.Future]:
        chunks = itertools.islice(waiting, count)
        return {pool.submit(clean_files, work.images, work.outputs, chunk, work.size) for chunk in chunks}

    def results(running):
        while running:
            done, running = concurrent.futures.wait(running, return_when=concurrent.futures.FIRST_COMPLETED)
            running |= submit(len(done))
            for future in done:
                yield future.result()

    try:
        handler = signal.signal(signal.SIGINT, signal.SIG_IGN)  # inherited: Ctrl-C is the parent's business
        try:
            running = submit(2 * workers)
        finally:
            signal.signal(signal.SIGINT, handler)
        yield results(running)
    except BaseException as error:  # Ctrl-C above all: nobody waits for photos that nobody wants any more
        for process in multiprocessing.active_children():
            process.terminate()
        if isinstance(error, BrokenProcessPool):
            raise UserError(
                "a worker process was killed, perhaps for want of memory: what is finished is kept, "
                "run the command again, with fewer --workers."
            ) from None
        raise
    finally:
        pool.shutdown(cancel_futures=True)


@contextlib.contextmanager
def on_cluster(work: Work, scheduler: str) -> Iterator[Iterator[list[Cleaned]]]:
    """Give an iterator over the results of chunks, as they are finished by the workers of a Dask cluster.

    All of them must see the two folders under the same path. Dask gives the chunks of a worker that dies to another;
    to a cluster of one thread joblib hands nothing, but works here.
    Raises UserError when Dask is not installed, or the cluster cannot be reached, has no worker or falls silent.
    """
    if not re.fullmatch(r"(tcp|tls)://[^/]+:[0-9]{1,5}", scheduler):
        raise UserError(f"{scheduler!r} is no address of a scheduler: give one like tcp://127.0.0.1:8786.")
    try:
        import distributed
        import joblib
    except ImportError:
        raise UserError("--scheduler needs Dask: pip install -r requirements-cluster.txt, then run it again.") from None
    logging.disable(logging.CRITICAL)  # what goes wrong is told in a sentence of ours
    try:
        client = distributed.Client(scheduler, timeout=CLUSTER_SECONDS)
    except (OSError, ValueError):
        raise UserError(
            f"no Dask scheduler answers at {scheduler}: check the address, or start one with `dask scheduler`."
        ) from None
    images, outputs = work.images.resolve(), work.outputs.resolve()
    try:
        client.upload_file(photo_cleaning.__file__)  # all that a worker needs, beside Pillow
        with joblib.parallel_config(backend="dask", client=client, wait_for_workers_timeout=CLUSTER_SECONDS):
            parallel = joblib.Parallel(return_as="generator_unordered", timeout=CLUSTER_SILENCE_SECONDS)
            tasks = (joblib.delayed(clean_files)(images, outputs, chunk, work.size) for chunk in work.chunks)
            yield (seen_from_here(result, outputs) for result in parallel(tasks))
    except Exception as error:
        if isinstance(error, UserError) or (isinstance(error, OSError) and error.errno):
            raise  # a full disk, for example, is told as it is without a cluster
        raise UserError(
            f"the Dask cluster at {scheduler} does not answer ({type(error).__name__}): see whether its scheduler and "
            "workers are alive; what is finished is kept, run the command again."
        ) from None
    finally:
        client.close()
        logging.disable(logging.NOTSET)


def seen_from_here(result: list[Cleaned], outputs: Path) -> list[Cleaned]:
    """What a worker wrote, with sizes and times as this machine sees them.

    Raises UserError when the worker's folder is not this machine's.
    """
    seen = []
    for photo in result:
        if photo.reason is None:
            try:
                status = os.stat(outputs / photo.output)
            except FileNotFoundError:
                raise UserError(
                    f"a worker wrote into a {outputs} of its own: let all machines share this folder under this path."
                ) from None
            photo = photo._replace(output_size=status.st_size, output_mtime_ns=status.st_mtime_ns)
        seen.append(photo)
    return seen


def default_workers() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def printable(name: str) -> str:
    """A file name that is no valid text (Linux allows any bytes) in a form that JSON and terminals take."""
    return name.encode("utf-8", "backslashreplace").decode()


class Progress:
    """What is clean so far; saved to the manifest now and then, so that a killed run loses seconds only."""

    def __init__(self, manifest: Path, size: int, entries: dict[str, Entry], set_aside: dict[str, list[str]]):
        self.manifest, self.size = manifest, size
        self.entries, self.set_aside = entries, set_aside
        self.cleaned = 0
        self.changed = False
        self.next_save = time.monotonic() + SAVE_SECONDS

    def add(self, photo: Cleaned) -> None:
        if photo.reason is None:
            self.entries[photo.output] = [photo.source, *photo[3:]]
            self.cleaned += 1
            self.changed = True
        else:
            (self.manifest.parent / photo.output).unlink(missing_ok=True)
            self.set_aside.setdefault(photo.reason, []).append(photo.source)

    def save(self, only_when_due: bool = False) -> None:
        start = time.monotonic()
        if not self.changed or (only_when_due and start < self.next_save):
            return
        if hasattr(os, "sync"):
            os.sync()  # once for all photos, not once a photo: the manifest never vouches for what a power cut can take
        save_manifest(self.manifest, self.size, self.entries)
        self.changed = False
        now = time.monotonic()
        self.next_save = now + max(SAVE_SECONDS, 20 * (now - start))


def clean_folder(images: Path, folder: DataFolder, size: int, results_of: Callable[[Work], Results]) -> dict:
    """Bring the folder of clean photos up to date with `images`; returns the report, which it also writes.

    `results_of` says who does the work: `on_this_machine` or `on_cluster`. Raises UserError when there is nothing to
    clean, or nothing usable.
    """
    start = time.monotonic()
    photos, set_aside = find_photos(images)
    outputs, manifest_path = folder.clean_images(size), folder.clean_images_manifest(size)
    outputs.mkdir(parents=True, exist_ok=True)
    manifest = read_manifest(manifest_path, size)
    present = stat_outputs(outputs)
    gone = [name for name in manifest if name in present and name not in photos]
    for name in gone:
        (outputs / name).unlink()
    foreign = present.keys() - photos.keys() - manifest.keys() - {manifest_path.name}

    clean = already_clean(photos, manifest, present)
    skipped = len(clean)
    chunks = chunked({output: source for output, source in photos.items() if output not in clean})
    found = len(photos) + sum(map(len, set_aside.values()))
    progress = Progress(manifest_path, size, clean, set_aside)
    progress.changed = clean.keys() != manifest.keys()
    try:
        if chunks:
            work = Work(images, outputs, size, chunks)
            with results_of(work) as results, progress_bar(len(photos) - skipped, "cleaning photos") as bar:
                for result in results:
                    for photo in result:
                        progress.add(photo)
                    bar(len(result))
                    progress.save(only_when_due=True)
    except KeyboardInterrupt:
        print(f"of {found} photos {progress.cleaned} cleaned now, {skipped} clean before", file=sys.stderr)
        raise
    finally:
        stat_outputs(outputs)  # removes what killed workers left half-written
        progress.save()

    report = {
        "images": str(images),
        "size": size,
        "in": found,
        "cleaned": progress.cleaned,
        "skipped": skipped,
        "set_aside": {reason: sorted(map(printable, names)) for reason, names in sorted(set_aside.items())},
        "removed": len(gone),
        "foreign_files": sorted(map(printable, foreign)),
        "seconds": round(time.monotonic() - start, 2),
    }
    report_path = folder.report(f"clean_images_{size}")
    write_json(report_path, report)
    if not progress.entries:
        raise UserError(f"none of the {found} photos in {images} can be used: {report_path} says why for each.")
    return report


def main() -> None:
    parser = argument_parser(__doc__.splitlines()[0])
    parser.add_argument("--size", type=positive_int, default=64, metavar="PIXELS", help="side of the clean photos")
    parser.add_argument("--workers", type=positive_int, default=default_workers(), metavar="N", help="processes")
    parser.add_argument("--images", type=Path, metavar="DIR", help="raw photos (default: images in the data folder)")
    parser.add_argument("--scheduler", metavar="tcp://HOST:PORT", help="let a Dask cluster do it, over a shared folder")
    arguments = parser.parse_args()
    folder = DataFolder(arguments.data_dir)

    def results_of(work: Work) -> Results:
        if arguments.scheduler:
            return on_cluster(work, arguments.scheduler)
        return on_this_machine(work, arguments.workers)

    print_report(clean_folder(arguments.images or folder.images, folder, arguments.size, results_of))


if __name__ == "__main__":
    run(main)
