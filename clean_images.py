"""Make the photos ready for learning: square, RGB, on black, all of one size.

Reads:  images/*.jpg, *.jpeg (any case) in the data folder, or the folder given with --images
Writes: clean_images_<size>/<image id>.jpg, manifest.json in it, clean_images_<size>_report.json

    python clean_images.py --data-dir data --size 64
"""

import concurrent.futures
import contextlib
import json
import multiprocessing
import multiprocessing.connection
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import NamedTuple

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
CHUNK_PHOTOS = 64
CHUNK_BYTES = 8_000_000
SAVE_SECONDS = 10.0

Chunk = list[tuple[str, str]]
Entry = list  # [source name, source size, source mtime_ns, output size, output mtime_ns]


class Plan(NamedTuple):
    """What there is to do: photos in all, chunks of (source, output) names, counts and reasons."""

    found: int
    chunks: list[Chunk]
    skipped: dict[str, Entry]
    set_aside: dict[str, list[str]]


def find_photos(images: Path) -> tuple[dict[str, tuple[str, int, int]], dict[str, list[str]]]:
    """Photos of a folder by output name, as (source name, size, mtime_ns), and names set aside by reason.

    Raises UserError when the folder is missing or holds no photo.
    """
    if not images.is_dir():
        raise UserError(f"{images} is missing or no folder: put the photos there, or name their folder with --images.")
    inside = os.path.join(os.path.realpath(images), "")
    photos, taken, set_aside = {}, set(), {}
    with os.scandir(images) as entries:
        named = sorted((e for e in entries if e.name.lower().endswith((".jpg", ".jpeg"))), key=lambda e: e.name)
    for entry in named:
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
        return {name: entry for name, entry in manifest["photos"].items() if len(entry) == 5}
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


def make_plan(photos, set_aside, manifest: dict[str, Entry], outputs: dict[str, tuple[int, int]]) -> Plan:
    """Compare sources, manifest and outputs: a photo is clean when all three agree on sizes and times."""
    skipped, chunks = {}, []
    photos_left, bytes_left = 0, 0
    for output, source in photos.items():
        entry = manifest.get(output)
        if entry and tuple(entry[:3]) == source and tuple(entry[3:]) == outputs.get(output):
            skipped[output] = entry
            continue
        if photos_left < 1 or bytes_left < source[1]:
            chunks.append([])
            photos_left, bytes_left = CHUNK_PHOTOS, CHUNK_BYTES
        chunks[-1].append((source[0], output))
        photos_left, bytes_left = photos_left - 1, bytes_left - source[1]
    found = len(photos) + sum(map(len, set_aside.values()))
    return Plan(found, chunks, skipped, set_aside)


def start_worker() -> None:
    """Prepare a worker: Ctrl-C is the parent's business, and without the parent there is nothing left to do."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()

    def end_with_parent():
        multiprocessing.connection.wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=end_with_parent, daemon=True).start()


def clean_on_this_machine(chunks, images: Path, outputs: Path, size: int, workers: int) -> Iterator[list[Cleaned]]:
    """Yield the results of each chunk as it is finished, by `workers` processes.

    Raises UserError when a worker is killed.
    """
    # fork starts a worker in milliseconds and is safe while no thread of ours runs; elsewhere the platform decides
    context = multiprocessing.get_context("fork" if sys.platform == "linux" else None)
    pool = concurrent.futures.ProcessPoolExecutor(min(workers, len(chunks)), context, start_worker)
    waiting, running = iter(chunks), set()
    try:
        for chunk in waiting:
            running.add(pool.submit(clean_files, images, outputs, chunk, size))
            if len(running) < 2 * workers:
                continue
            done, running = concurrent.futures.wait(running, return_when=concurrent.futures.FIRST_COMPLETED)
            for future in done:
                yield future.result()
        for future in concurrent.futures.as_completed(running):
            yield future.result()
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


def default_workers() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def printable(name: str) -> str:
    """A file name that is no valid text (Linux allows any bytes) in a form that JSON and terminals take."""
    return name.encode("utf-8", "backslashreplace").decode()


class Progress:
    """What is clean so far; saves it to the manifest now and then, so that a killed run loses seconds only."""

    def __init__(self, manifest: Path, size: int, plan: Plan):
        self.manifest, self.size = manifest, size
        self.entries = dict(plan.skipped)
        self.set_aside = {reason: list(names) for reason, names in plan.set_aside.items()}
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
        save_manifest(self.manifest, self.size, self.entries)
        self.changed = False
        now = time.monotonic()
        self.next_save = now + max(SAVE_SECONDS, 20 * (now - start))


def clean_folder(images: Path, folder: DataFolder, size: int, clean_chunks) -> dict:
    """Bring the folder of clean photos up to date with `images`; returns the report.

    `clean_chunks(chunks, images, outputs, size)` yields the results of chunks. Raises UserError when there is nothing
    to clean or nothing usable.
    """
    start = time.monotonic()
    photos, set_aside = find_photos(images)
    outputs = folder.clean_images(size)
    outputs.mkdir(parents=True, exist_ok=True)
    manifest_path = folder.clean_images_manifest(size)
    manifest = read_manifest(manifest_path, size)
    present = stat_outputs(outputs)
    gone = [name for name in manifest if name in present and name not in photos]
    for name in gone:
        (outputs / name).unlink(missing_ok=True)
    foreign = sorted(present.keys() - photos.keys() - manifest.keys() - {manifest_path.name})
    plan = make_plan(photos, set_aside, manifest, present)
    progress = Progress(manifest_path, size, plan)
    progress.changed = progress.entries.keys() != manifest.keys()
    try:
        if plan.chunks:
            results = clean_chunks(plan.chunks, images, outputs, size)
            total = sum(map(len, plan.chunks))
            with contextlib.closing(results), progress_bar(total, "cleaning photos") as bar:
                for result in results:
                    for photo in result:
                        progress.add(photo)
                    bar(len(result))
                    progress.save(only_when_due=True)
    except KeyboardInterrupt:
        print(f"cleaned {progress.cleaned}, already clean {len(plan.skipped)}, of {plan.found}", file=sys.stderr)
        raise
    finally:
        stat_outputs(outputs)  # what killed workers left half-written
        progress.save()
    report = {
        "images": str(images),
        "size": size,
        "in": plan.found,
        "cleaned": progress.cleaned,
        "skipped": len(plan.skipped),
        "set_aside": {reason: sorted(map(printable, names)) for reason, names in sorted(progress.set_aside.items())},
        "removed": len(gone),
        "foreign_files": list(map(printable, foreign)),
        "seconds": round(time.monotonic() - start, 2),
    }
    write_json(folder.report(f"clean_images_{size}"), report)
    if not progress.entries:
        raise UserError(f"none of the {plan.found} photos in {images} can be used: see the reasons in the report.")
    return report


def main() -> None:
    parser = argument_parser(__doc__.splitlines()[0])
    parser.add_argument("--size", type=positive_int, default=64, metavar="PIXELS", help="side of the clean photos")
    parser.add_argument("--workers", type=positive_int, default=default_workers(), metavar="N", help="processes")
    parser.add_argument("--images", type=Path, metavar="DIR", help="raw photos (default: images in the data folder)")
    parser.add_argument("--scheduler", metavar="tcp://HOST:PORT", help="let a Dask cluster do it, over a shared folder")
    arguments = parser.parse_args()
    folder = DataFolder(arguments.data_dir)

    def clean_chunks(*work):
        return clean_on_this_machine(*work, arguments.workers)

    print_report(clean_folder(arguments.images or folder.images, folder, arguments.size, clean_chunks))


if __name__ == "__main__":
    run(main)
