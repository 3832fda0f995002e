"""A folder of clean photos that is kept up to date with a folder of raw ones: what `clean_images.py` does.

Its manifest says from which source each clean photo was made, so that only new and changed photos are cleaned.
"""

import json
import os
import stat
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from marketplace.command_line import progress_bar
from marketplace.data_folder import PARTIAL_SUFFIX, DataFolder, UserError, write_json, write_whole
from marketplace.photo_workers import default_workers, on_cluster, on_this_machine

MANIFEST_VERSION = 2  # raise it when the same photo would come out differently: all photos are then cleaned again
TASK_PHOTOS = 16  # photos for a worker at a time: few, so that Ctrl-C need not wait long
SAVE_SECONDS = 10.0

Photos = dict[str, tuple[str, int, int]]  # by output name: source name, size, mtime_ns
Entries = dict[str, tuple]  # of the manifest, by output name: source name, size, mtime_ns, output size, mtime_ns
SetAside = dict[str, list[str]]  # source names by reason


@dataclass
class CleaningJob:
    """What a run has to do, and its results so far, which the manifest holds for the next run.

    Photos are not flushed to the disk one by one, which would take ten times as long as cleaning them. After a power
    cut the sizes differ from the manifest: journaling file systems let a file grow only when its bytes are written.
    """

    images: Path
    outputs: Path
    size: int
    photos: Photos
    to_clean: list[str]  # output names
    clean: Entries
    manifest: Entries  # as last saved
    set_aside: SetAside
    gone: list[str]  # outputs whose source is gone
    foreign: list[str]  # files that this script did not make
    cleaned: int = 0

    def add(self, output: str, reason: str | None) -> None:
        """Add a result of `clean_file`; raises UserError when the output is not in this machine's folder."""
        if reason is not None:
            (self.outputs / output).unlink(missing_ok=True)
            self.set_aside.setdefault(reason, []).append(self.photos[output][0])
            return
        try:
            status = os.stat(self.outputs / output)
        except FileNotFoundError:
            raise UserError(
                f"a worker wrote into another {self.outputs}: let all machines share this folder under this path."
            ) from None
        self.clean[output] = (*self.photos[output], status.st_size, status.st_mtime_ns)
        self.cleaned += 1

    def save(self) -> None:
        """Write the manifest if it has changed."""
        if self.clean != self.manifest:
            with write_whole(self.outputs / "manifest.json") as partial:
                partial.write_text(json.dumps({"version": MANIFEST_VERSION, "photos": self.clean}), encoding="ascii")
            self.manifest = dict(self.clean)


def find_photos(images: Path) -> tuple[Photos, SetAside]:
    """The photos of a folder, and the files set aside without opening them.

    Raises UserError when the folder is missing or holds no photo.
    """
    if not images.is_dir():
        raise UserError(f"{images} is missing or no folder: put the photos there, or name their folder with --images.")
    photos: Photos = {}
    set_aside: SetAside = {}
    taken: set[str] = set()
    for entry in sorted(os.scandir(images), key=lambda entry: entry.name):
        stem, ending = os.path.splitext(entry.name)
        if ending.lower() not in (".jpg", ".jpeg"):
            continue
        reason = "same name as another, ignoring case" if stem.casefold() in taken else reason_to_set_aside(entry)
        taken.add(stem.casefold())
        if reason:
            set_aside.setdefault(reason, []).append(entry.name)
        else:
            status = entry.stat()
            photos[f"{stem}.jpg"] = (entry.name, status.st_size, status.st_mtime_ns)
    if not taken:
        raise UserError(f"{images} holds no .jpg or .jpeg file: put the photos there, or name another with --images.")
    return photos, set_aside


def reason_to_set_aside(entry: os.DirEntry) -> str | None:
    """Why a file is set aside without being opened, or None."""
    if entry.is_symlink() and Path(entry).parent.resolve() not in Path(entry).resolve().parents:
        return "link out of the folder"
    try:
        mode = entry.stat().st_mode
    except OSError:
        return "cannot be read"
    return None if stat.S_ISREG(mode) else "not a file"  # reading a pipe would never end


def read_manifest(path: Path) -> Entries:
    """Entries of the manifest; none when it is missing, broken or of another version."""
    try:
        manifest = json.loads(path.read_bytes())
        entries = manifest["photos"] if manifest["version"] == MANIFEST_VERSION else {}
        return {name: tuple(entry) for name, entry in entries.items()}
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return {}


def stat_outputs(outputs: Path) -> dict[str, tuple[int, int]]:
    """Size and mtime_ns of each file in the output folder, partial files left out."""
    with os.scandir(outputs) as entries:
        files = [entry for entry in entries if entry.is_file(follow_symlinks=False)]
    stats = {entry.name: entry.stat() for entry in files if not entry.name.endswith(PARTIAL_SUFFIX)}
    return {name: (status.st_size, status.st_mtime_ns) for name, status in stats.items()}


def plan_job(images: Path, folder: DataFolder, size: int) -> CleaningJob:
    """Compare the raw photos with the manifest and the outputs.

    Raises UserError when there is nothing to clean.
    """
    photos, set_aside = find_photos(images)
    outputs, manifest_path = folder.clean_images(size), folder.clean_images_manifest(size)
    if outputs.resolve() == images.resolve():
        raise UserError(f"{images} holds photos that are clean already: name the folder of the raw ones with --images.")
    outputs.mkdir(parents=True, exist_ok=True)
    manifest, present = read_manifest(manifest_path), stat_outputs(outputs)
    clean = {
        output: entry
        for output, entry in manifest.items()
        if photos.get(output) == entry[:3] and present.get(output) == entry[3:]
    }
    return CleaningJob(
        images,
        outputs,
        size,
        photos,
        to_clean=[output for output in photos if output not in clean],
        clean=clean,
        manifest=manifest,
        set_aside=set_aside,
        gone=[name for name in manifest if name in present and name not in photos],
        foreign=list(present.keys() - photos.keys() - manifest.keys() - {manifest_path.name}),
    )


def clean_photos(job: CleaningJob, workers: int, scheduler: str | None) -> None:
    """Clean the photos of a job, and save its manifest every SAVE_SECONDS."""
    names = [(job.photos[output][0], output) for output in job.to_clean]
    parts = [names[start : start + TASK_PHOTOS] for start in range(0, len(names), TASK_PHOTOS)]
    tasks = [(job.images, job.outputs, part, job.size) for part in parts]
    cleaning = on_cluster(tasks, scheduler) if scheduler else on_this_machine(tasks, workers)
    next_save = time.monotonic() + SAVE_SECONDS
    with cleaning as results, progress_bar(len(names), "cleaning photos") as bar:
        for output, reason in zip(job.to_clean, results, strict=True):
            job.add(output, reason)
            bar()
            if time.monotonic() >= next_save:
                job.save()
                next_save = time.monotonic() + SAVE_SECONDS


def clean_folder(images: Path, folder: DataFolder, size: int, workers: int, scheduler: str | None = None) -> dict:
    """Bring the folder of clean photos up to date with `images`; returns the report, which it also writes.

    Raises UserError when there is nothing to clean, when no photo is usable, or when the workers fail.
    """
    start = time.monotonic()
    job = plan_job(images, folder, size)
    found = len(job.photos) + sum(map(len, job.set_aside.values()))
    skipped = len(job.clean)
    for name in job.gone:
        (job.outputs / name).unlink()
    try:
        if job.to_clean:
            clean_photos(job, workers, scheduler)
    except KeyboardInterrupt:
        print(f"of {found} photos {job.cleaned} cleaned now, {skipped} before", file=sys.stderr)
        raise
    finally:
        job.save()

    report = {
        "images": str(images),
        "size": size,
        "in": found,
        "cleaned": job.cleaned,
        "skipped": skipped,
        "set_aside": {reason: sorted(names) for reason, names in sorted(job.set_aside.items())},
        "removed": len(job.gone),
        "foreign_files": sorted(job.foreign),
        "seconds": round(time.monotonic() - start, 2),
    }
    report_path = folder.report(f"clean_images_{size}")
    write_json(report_path, report)
    if not job.clean:
        raise UserError(f"none of the {found} photos in {images} can be used: {report_path} says why for each.")
    return report


def clean_missing_photos(folder: DataFolder, size: int) -> None:
    """Clean the raw photos of a data folder unless that was done for this size, or there are none.

    Raises UserError as `clean_folder`.
    """
    if folder.images.is_dir() and not folder.clean_images_manifest(size).is_file():
        report = clean_folder(folder.images, folder, size, default_workers())
        print(f"{report['cleaned']:,} photos cleaned to {size} pixels in {report['seconds']:.0f} s.")
