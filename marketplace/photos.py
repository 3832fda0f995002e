"""Photos: which files are photos, how one is cleaned, a folder of clean ones, and their pixels as arrays."""

import collections
import contextlib
import functools
import hashlib
import io
import itertools
import json
import logging
import multiprocessing
import os
import signal
import stat
import sys
import threading
import time
import warnings
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pandas as pd

# imported so that Pillow does not load its plugins for all fifty formats at the first photo that it cannot identify
from PIL import GifImagePlugin, Image, ImageChops, ImageOps, JpegImagePlugin, PngImagePlugin, WebPImagePlugin  # noqa: F401

import marketplace
from marketplace.command_line import progress_bar
from marketplace.data_folder import (
    PARTIAL_SUFFIX,
    DataFolder,
    UserError,
    first_line,
    read_json,
    write_json,
    write_whole,
)
from marketplace.listings import read_table

FORMATS = ("JPEG", "PNG", "WEBP", "GIF")
MAX_PIXELS = 120_000_000  # the largest phone cameras have 108 megapixels; more is refused as a decompression bomb
MAX_BYTES = 100_000_000
QUALITY = 95
REDUCING_GAP = 2.0  # fast reduction (libjpeg, box filter) down to twice the size, then Lanczos
CLUSTER_SECONDS = 10  # to reach a scheduler, and for its first worker to appear
SILENCE_SECONDS = 120  # of a cluster; a task takes seconds
Task = tuple[Path, Path, list[tuple[str, str]], int]  # the arguments of `clean_files`
Results = Iterator[str | None]  # of all photos of all tasks, in their order
MANIFEST_VERSION = 2  # raise it when the same photo would come out differently: all photos are then cleaned again
TASK_PHOTOS = 16  # photos for a worker at a time: few, so that Ctrl-C need not wait long
SAVE_SECONDS = 10.0
RawPhotos = dict[str, tuple[str, int, int]]  # by output name: source name, size, mtime_ns
Entries = dict[str, tuple]  # of the manifest, by output name: source name, size, mtime_ns, output size, mtime_ns
SetAside = dict[str, list[str]]  # source names by reason


class PhotoError(Exception):
    """A photo that is set aside; the message is the reason, the same for all photos with the same fault."""


def fitted_size(width: int, height: int, size: int) -> tuple[int, int]:
    """Width and height after the longer side has become `size`; the shorter is at least 1 pixel."""
    longer = max(width, height)
    return max(1, round(width * size / longer)), max(1, round(height * size / longer))


def is_photo(content: bytes | bytearray) -> bool:
    """Whether the first bytes are those of a JPEG, PNG, GIF or WebP file."""
    beginnings = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF87a", b"GIF89a")
    return content.startswith(beginnings) or (content[:4] == b"RIFF" and content[8:12] == b"WEBP")


def clean_photo(file: BinaryIO, size: int) -> Image.Image:
    """Read a photo and return it as a `size` x `size` RGB picture, centred on black.

    A large JPEG is reduced by libjpeg while it is decoded, which saves most of the time. First frame of an animation,
    EXIF orientation applied, transparency on black, samples of any depth scaled to 8 bits.

    Raises PhotoError when the content is not a JPEG, PNG, WebP or GIF that can be decoded, OSError when the file cannot
    be read.
    """
    content = file.read(MAX_BYTES + 1)
    if not content:
        raise PhotoError("empty file")
    if len(content) > MAX_BYTES:
        raise PhotoError("too many bytes")
    if not is_photo(content):
        raise PhotoError("not a JPEG, PNG, WebP or GIF")
    if content.startswith(b"\x89PNG"):
        content = _without_metadata(content)
    try:
        with warnings.catch_warnings():  # Pillow warns of broken EXIF, and of large pictures, which are refused here
            warnings.simplefilter("ignore")
            image = Image.open(io.BytesIO(content), formats=FORMATS)
            if image.width * image.height > MAX_PIXELS:
                raise PhotoError("too many pixels")
            return _fitted_on_black(image, size, content)
    except PhotoError:
        raise
    except Image.DecompressionBombError:
        raise PhotoError("too many pixels") from None
    except Image.UnidentifiedImageError:
        raise PhotoError("broken or unusual header") from None
    except Exception:  # Pillow's parsers raise exceptions of many types on broken files
        raise PhotoError("broken") from None


def _without_metadata(png: bytes) -> bytes:
    """The chunks of a PNG that hold the picture and its orientation; Pillow would refuse it for faults in the others.

    Raises PhotoError for a wrong checksum of the picture; Pillow does not compare that of the pixels.
    """
    view = memoryview(png)  # whose slices are no copies
    kept, start, name = [view[:8]], 8, b""
    while start < len(png) and name != b"IEND":
        end = start + 12 + int.from_bytes(view[start : start + 4], "big")
        name, chunk = png[start + 4 : start + 8], view[start:end]
        right = zlib.crc32(chunk[4:-4]) == int.from_bytes(chunk[-4:], "big")
        if name in (b"IHDR", b"PLTE", b"tRNS", b"IDAT") or (name == b"eXIf" and right):
            if not right and end <= len(png):
                raise PhotoError("broken (wrong checksum)")
            kept.append(chunk)
        start = end
    return b"".join(kept)


def _fitted_on_black(image: Image.Image, size: int, content: bytes) -> Image.Image:
    width, height = fitted_size(*image.size, size)
    box = None
    if image.format in ("JPEG", "MPO"):
        drafted = image.draft(None, (int(width * REDUCING_GAP), int(height * REDUCING_GAP)))
        box = drafted[1] if drafted else None
    image.load()
    if image.mode not in ("RGB", "L") or image.has_transparency_data:
        image = _opaque_rgb(image, content)
    image = image.resize((width, height), Image.Resampling.LANCZOS, box=box, reducing_gap=REDUCING_GAP)
    with contextlib.suppress(Exception):  # broken EXIF is common and does not spoil the photo
        ImageOps.exif_transpose(image, in_place=True)
    square = Image.new("RGB", (size, size))
    square.paste(image, ((size - image.width) // 2, (size - image.height) // 2))
    return square


def _opaque_rgb(image: Image.Image, content: bytes) -> Image.Image:
    """RGB of any mode; transparent parts become black.

    Pillow scales the samples of a PNG to 8 bits, but not the transparent colour.
    """
    depth = content[24] if image.format == "PNG" else 8
    colour = image.info.get("transparency")
    if image.mode == "L" and colour is not None:
        image.info["transparency"] = colour * 255 // (2**depth - 1)
    elif image.mode == "I;16":  # Pillow's own conversion would clip at 255
        samples = image.convert("I")
        image = samples.point(lambda value: value * (1 / 257) + 0.5).convert("L")
        if colour is not None:
            image.putalpha(samples.point([255 * (value != colour) for value in range(65536)], "L"))
    elif image.mode == "RGB" and depth == 16 and colour is not None:
        low = Image.open(io.BytesIO(content), formats=FORMATS)
        low.tile = [low.tile[0]._replace(args="RGB;16L")]  # reads the low byte of each sample instead of the high one
        parts = (image, tuple(value >> 8 for value in colour)), (low, tuple(value & 255 for value in colour))
        differences = [ImageChops.difference(part, Image.new("RGB", image.size, value)) for part, value in parts]
        differing = functools.reduce(ImageChops.lighter, ImageChops.lighter(*differences).split())
        image.putalpha(differing.point(lambda value: 255 * (value > 0)))
    if not image.has_transparency_data:
        return image.convert("RGB")
    image = image.convert("RGBA")
    opaque = image.convert("RGB")
    opaque.paste("black", mask=ImageChops.invert(image.getchannel("A")))
    return opaque


def encoded(image: Image.Image) -> bytes:
    """The picture as a JPEG file; without chroma subsampling, which would show at 64 pixels."""
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=QUALITY, subsampling=0)
    return buffer.getvalue()


def clean_file(source: Path, output: Path, size: int) -> str | None:
    """Clean one file; the output appears whole or not at all.

    Returns the reason why the photo is set aside, None when it is clean. Raises OSError when the output cannot be
    written.
    """
    try:
        with open(source, "rb") as file:
            content = encoded(clean_photo(file, size))
    except PhotoError as error:
        return str(error)
    except PermissionError:
        return "may not be read"
    except OSError:
        return "cannot be read"
    with write_whole(output, flush=False) as partial:
        partial.write_bytes(content)
    return None


def clean_files(images: Path, outputs: Path, names: list[tuple[str, str]], size: int) -> list[str | None]:
    """Clean photos, given as (source name, output name), from folder `images` into folder `outputs`.

    Returns what `clean_file` returns for each. Raises OSError when a folder is missing on this machine or an output
    cannot be written.
    """
    for folder in (images, outputs):
        os.stat(folder)  # else, on a worker that does not share it, every photo would only seem unreadable
    return [clean_file(images / source, outputs / output, size) for source, output in names]


def default_workers() -> int:
    """The number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def submit(executor: Executor, function: Callable, tasks: list[Task], seconds: float | None) -> Results:
    """Submit all tasks and return an iterator over their results; each task is waited for at most `seconds`."""
    futures = collections.deque(executor.submit(function, *task) for task in tasks)
    return itertools.chain.from_iterable(futures.popleft().result(seconds) for _ in tasks)


def prepare_worker() -> None:
    """Leave Ctrl-C to the parent process, and end when that has ended, even by SIGKILL."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=end_with, args=[multiprocessing.parent_process()], daemon=True).start()


def end_with(parent: BaseProcess) -> None:
    """End this process as soon as `parent` has ended."""
    parent.join()
    os._exit(1)


@contextlib.contextmanager
def on_this_machine(tasks: list[Task], workers: int) -> Iterator[Results]:
    """Clean with processes; joblib's loky would take half a second longer to start.

    Leaving the context early, as Ctrl-C does, waits for the few tasks that workers have begun.
    Raises UserError when a worker is killed.
    """
    # fork is the fastest way to start; the default of other systems is used there
    context = multiprocessing.get_context("fork" if sys.platform == "linux" else None)
    pool = ProcessPoolExecutor(min(workers, len(tasks)), context, prepare_worker)
    try:
        # Ctrl-C waits until all workers have started: in between it would leave workers that nobody ends
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            results = submit(pool, clean_files, tasks, None)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        yield results
    except BrokenProcessPool:
        raise UserError(
            "a worker process was killed, perhaps for lack of memory: finished photos are kept, "
            "run the command again with fewer --workers."
        ) from None
    finally:
        pool.shutdown(cancel_futures=True)


@contextlib.contextmanager
def on_cluster(tasks: list[Task], scheduler: str) -> Iterator[Results]:
    """Clean with the workers of a Dask cluster, which see the folders under the same paths as this machine.

    Dask gives the tasks of a worker that dies to another. Raises UserError when Dask is not installed, or when the
    cluster cannot be reached, has no worker or stops answering.
    """
    try:
        import cloudpickle
        import distributed
    except ImportError:
        raise UserError("--scheduler needs Dask: pip install -r requirements-cluster.txt, then run it again.") from None
    cloudpickle.register_pickle_by_value(marketplace)  # so that workers need Pillow only, not this package
    logging.disable(logging.CRITICAL)  # Dask logs every lost connection; one sentence is enough
    try:
        with distributed.Client(scheduler, timeout=CLUSTER_SECONDS) as client:
            client.wait_for_workers(1, CLUSTER_SECONDS)
            absolute = [(images.absolute(), outputs.absolute(), names, size) for images, outputs, names, size in tasks]
            # a lambda, for Dask would pickle a function with a name by that name
            yield submit(client.get_executor(pure=False), lambda *task: clean_files(*task), absolute, SILENCE_SECONDS)
    except Exception as error:
        of_a_disk = isinstance(error, OSError) and error.errno and not isinstance(error, ConnectionError)
        if of_a_disk or isinstance(error, UserError):
            raise
        raise UserError(
            f"the Dask cluster at {scheduler} failed ({first_line(error)}): check the address, and that scheduler and "
            "workers are alive; finished photos are kept, run the command again."
        ) from None
    finally:
        logging.disable(logging.NOTSET)


@dataclass
class CleaningJob:
    """What a run has to do, and its results so far, which the manifest holds for the next run.

    Photos are not flushed to the disk one by one, which would take ten times as long as cleaning them. After a power
    cut the sizes differ from the manifest: journaling file systems let a file grow only when its bytes are written.
    """

    images: Path
    outputs: Path
    size: int
    photos: RawPhotos
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


def find_photos(images: Path) -> tuple[RawPhotos, SetAside]:
    """The photos of a folder, and the files set aside without opening them.

    Raises UserError when the folder is missing or holds no photo.
    """
    if not images.is_dir():
        raise UserError(f"{images} is missing or no folder: put the photos there, or name their folder with --images.")
    photos: RawPhotos = {}
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


@dataclass
class Photos:
    """The decoded photos of a data folder."""

    pixels: np.ndarray  # (P, S, S, 3) uint8
    image_ids: list[str]
    product_rows: np.ndarray  # (P,) int64, ascending
    left_out: dict[str, int]  # number of photos that are not used, by reason

    def __len__(self) -> int:
        return len(self.image_ids)

    def hashes(self) -> np.ndarray:
        """sha256 (P,) of the pixels of each photo: equal photos have equal clean photos."""
        return np.array([hashlib.sha256(pixels.tobytes()).hexdigest() for pixels in self.pixels])


def _decode(path: Path, size: int) -> np.ndarray | None:
    """Pixels (S, S, 3) uint8 of a clean photo, or None when it cannot be read or has another size."""
    try:
        with Image.open(path) as image:
            pixels = np.asarray(image.convert("RGB"))
    except (OSError, ValueError, SyntaxError):
        return None
    return pixels if pixels.shape == (size, size, 3) else None


def query_pixels(file: BinaryIO, size: int) -> np.ndarray:
    """Pixels (S, S, 3) uint8 of any photo, cleaned exactly as the photos of listings are, JPEG compression included.

    Raises PhotoError and OSError as `clean_photo`.
    """
    return np.asarray(Image.open(io.BytesIO(encoded(clean_photo(file, size)))))


def load_query_photo(path: Path, size: int) -> np.ndarray:
    """`query_pixels` of a file; raises UserError when it cannot be read."""
    try:
        with open(path, "rb") as file:
            return query_pixels(file, size)
    except PhotoError as error:
        raise UserError(
            f"the photo {path} cannot be read ({error}): give a JPEG, PNG, WebP or GIF of at most "
            f"{MAX_PIXELS // 1_000_000} megapixels and {MAX_BYTES // 1_000_000} MB."
        ) from None
    except OSError as error:
        raise UserError(
            f"the photo {path} cannot be opened ({error.strerror}): give the path of a file, not a folder or a link."
        ) from None


def load_photos(data_dir: str | Path, products: pd.DataFrame, image_size: int = 64) -> Photos:
    """Decode the clean photos of the listings in `products`, in the order of the listings and then of the photo ids.

    Photos of a dropped duplicate belong to the listing that was kept. Photos of unknown listings, photos without a
    clean file and unreadable ones are left out and counted.

    Raises UserError when there are no clean photos of that size.
    """
    folder = DataFolder(data_dir)
    directory = folder.clean_images(image_size)
    if not directory.is_dir():
        raise UserError(
            f"{directory} is missing: run clean_images.py --size {image_size} --data-dir {folder.path} first."
        )
    table = read_table(folder.images_table, "download_products_table.py", ("id", "product_id"))
    table = table.dropna(subset=["id", "product_id"]).drop_duplicates("id")
    kept_id = read_json(folder.duplicates, "clean_tabular_data.py")
    row_of = {product_id: row for row, product_id in enumerate(products["id"])}
    rows = table["product_id"].map(lambda product_id: row_of.get(kept_id.get(product_id, product_id)))
    has_file = table["id"].isin({path.stem for path in directory.glob("*.jpg")})
    photos = table.assign(row=rows)[rows.notna() & has_file].sort_values(["row", "id"])
    with ThreadPoolExecutor() as pool:
        decoded = list(pool.map(lambda name: _decode(directory / f"{name}.jpg", image_size), photos["id"]))
    photos = photos[[pixels is not None for pixels in decoded]]
    if photos.empty:
        raise UserError(f"{directory} has no photo of a listing in the table: run clean_images.py again.")
    return Photos(
        pixels=np.stack([pixels for pixels in decoded if pixels is not None]),
        image_ids=photos["id"].tolist(),
        product_rows=photos["row"].to_numpy(np.int64),
        left_out={
            "of an unknown or dropped listing": int((rows.isna() & has_file).sum()),
            "without a clean file": int((rows.notna() & ~has_file).sum()),
            "unreadable or of another size": len(decoded) - len(photos),
        },
    )
