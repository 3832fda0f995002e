"""Make the photos ready for learning: square, RGB, on black, all of one size.

Reads:  images/*.jpg, *.jpeg (any case) in the data folder, or the folder given with --images
Writes: clean_images_<size>/<image id>.jpg, manifest.json in it, clean_images_<size>_report.json

    python clean_images.py --data-dir data --size 64
"""

import json
import os
import stat
import sys
import time
from collections.abc import Callable
from pathlib import Path

from marketplace.command_line import argument_parser, positive_int, print_report, progress_bar, run
from marketplace.data_folder import DataFolder, UserError, write_json, write_whole
from marketplace.photo_cleaning import Cleaned
from marketplace.photo_workers import Chunk, CleaningJob, Results, default_workers, on_cluster, on_this_machine

MANIFEST_VERSION = 1  # raise it when the same photo would come out otherwise: all photos are then done again
CHUNK_PHOTOS = 32
CHUNK_BYTES = 8_000_000
SAVE_SECONDS = 10.0
MAX_SIZE = 4096

Photos = dict[str, tuple[str, int, int]]  # by output name: source name, size, mtime_ns
Entry = list  # [source name, source size, source mtime_ns, output size, output mtime_ns]


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
    if not named:
        raise UserError(
            f"{images} holds no .jpg or .jpeg file: put the photos there, or name their folder with --images."
        )
    for entry in sorted(named, key=lambda entry: entry.name):
        output = os.path.splitext(entry.name)[0] + ".jpg"
        if output.casefold() in taken:
            reason = "same name as another, ignoring case"
        else:
            reason = reason_against(entry, inside)
        taken.add(output.casefold())
        if reason:
            set_aside.setdefault(reason, []).append(entry.name)
        else:
            status = entry.stat()
            photos[output] = (entry.name, status.st_size, status.st_mtime_ns)
    return photos, set_aside


def reason_against(entry: os.DirEntry, inside: str) -> str | None:
    """Why a file is set aside before anybody opens it; None when it is not."""
    if entry.is_symlink() and not os.path.realpath(entry.path).startswith(inside):
        return "link out of the folder"
    try:
        mode = entry.stat().st_mode
    except OSError:
        return "cannot be read"
    return None if stat.S_ISREG(mode) else "not a file"  # a pipe would keep its reader waiting for ever


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
    """Size and mtime_ns of each file in the output folder."""
    with os.scandir(outputs) as entries:
        found = {entry.name: entry.stat() for entry in entries if entry.is_file(follow_symlinks=False)}
    return {name: (status.st_size, status.st_mtime_ns) for name, status in found.items()}


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


def printable(name: str) -> str:
    """A file name that is no valid text (Linux allows any bytes) in a form that JSON and terminals take."""
    return name.encode("utf-8", "backslashreplace").decode()


class Progress:
    """What is clean so far; saved to the manifest now and then, so that a killed run loses seconds only.

    Single photos are not forced to the disk, which would take ten times as long as cleaning them. What a power cut
    takes is seen by its size: journaling file systems let a file grow only when its bytes have been written.
    """

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
        save_manifest(self.manifest, self.size, self.entries)
        self.changed = False
        now = time.monotonic()
        self.next_save = now + max(SAVE_SECONDS, 20 * (now - start))


def clean_folder(images: Path, folder: DataFolder, size: int, results_of: Callable[[CleaningJob], Results]) -> dict:
    """Bring the folder of clean photos up to date with `images`; returns the report, which it also writes.

    `results_of` says who does the work: `on_this_machine` or `on_cluster`. Raises UserError when there is nothing to
    clean, or nothing usable.
    """
    start = time.monotonic()
    photos, set_aside = find_photos(images)
    outputs, manifest_path = folder.clean_images(size), folder.clean_images_manifest(size)
    if outputs.resolve() == images.resolve():
        raise UserError(f"{images} holds photos that are clean already: name the folder of the raw ones with --images.")
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
            work = CleaningJob(images, outputs, size, chunks)
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
    if arguments.size > MAX_SIZE:
        parser.error(f"argument --size: {arguments.size} is above {MAX_SIZE}")
    folder = DataFolder(arguments.data_dir)

    def results_of(work: CleaningJob) -> Results:
        if arguments.scheduler:
            return on_cluster(work, arguments.scheduler)
        return on_this_machine(work, arguments.workers)

    print_report(clean_folder(arguments.images or folder.images, folder, arguments.size, results_of))


if __name__ == "__main__":
    run(main)
