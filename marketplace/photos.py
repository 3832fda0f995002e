"""Photos: which file is which photo, how one is cleaned, the folder of clean ones, and their pixels as arrays.

Every worker process imports this module, so it imports no pandas.
"""

import asyncio
import contextlib
import hashlib
import io
import json
import logging
import multiprocessing
import os
import re
import signal
import threading
import time
import warnings
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing.context import BaseContext
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO
from urllib.parse import quote

import numpy as np
from PIL import Image, ImageOps

import marketplace
from marketplace.command_line import progress_bar
from marketplace.data_folder import DataFolder, UserError, first_line, read_json, write_json, write_whole
from marketplace.listing_text import key_text

if TYPE_CHECKING:
    import pandas as pd

PHOTO_SIZE = 64  # side of the clean photos in pixels, unless a network was pretrained on larger ones
PHOTO_SUFFIXES = (".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".gif")  # in any case
MAX_STEM = 240  # characters; file systems allow names of 255 bytes
LINK = re.compile(r"\s*https?://", re.IGNORECASE)
FORMATS = ("JPEG", "PNG", "WEBP", "GIF")
MAX_PIXELS = 120_000_000  # the largest phone cameras have 108 megapixels; more is refused as a decompression bomb
MAX_PHOTO_BYTES = 20_000_000
QUALITY = 95
REDUCING_GAP = 2.0  # fast reduction (libjpeg, box filter) down to twice the size, then Lanczos
CLUSTER_SECONDS = 10  # to reach a scheduler, and for its first worker to appear
SILENCE_SECONDS = 120  # of a cluster; a task takes seconds
MANIFEST_VERSION = 3  # raise it when the same photo would come out differently: all photos are then cleaned again
TASK_PHOTOS = 16  # photos for a worker at a time: few, so that Ctrl-C need not wait long
WORKER_KILLED = (
    "a worker process was killed, perhaps for lack of memory: finished photos are kept, run the command again with "
    "fewer --workers."
)
Task = tuple[list[Path], Path, int]  # the arguments of `clean_files`


class PhotoError(Exception):
    """A photo that is rejected; the message is the reason, the same for all photos with the same fault."""


def image_rows(rows: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """The rows of the images table by image id; of several rows of one id the first with a link, else the first."""
    chosen: dict[str, dict[str, Any]] = {}
    for row in sorted(rows, key=lambda row: not LINK.match(str(row.get("bucket_link")))):
        chosen.setdefault(key_text(row.get("id")) or "", row | {"product_id": key_text(row.get("product_id"))})
    return chosen


def photo_stem(image_id: str) -> str:
    """The name of a photo's file without its ending: the image id, percent-encoded where it is no safe file name."""
    stem = quote(image_id, safe="", errors="surrogatepass")
    if len(stem) > MAX_STEM:
        return hashlib.sha256(stem.encode()).hexdigest()
    return f"%{ord(stem[0]):02X}{stem[1:]}" if stem.startswith((".", "-")) else stem


def photo_files(images: Path) -> dict[str, Path]:
    """The photos in a folder by the stem of their file; of several files of one stem the first of PHOTO_SUFFIXES."""
    paths = [Path(entry) for entry in os.scandir(images) if entry.is_file()] if images.is_dir() else []
    photos = [path for path in paths if path.suffix.lower() in PHOTO_SUFFIXES]
    photos.sort(key=lambda path: (path.stem, -PHOTO_SUFFIXES.index(path.suffix.lower()), path.name))
    return {path.stem: path for path in photos}


def photo_file(files: dict[str, Path], image_id: str) -> Path | None:
    """The file of a photo among `photo_files`, which is named by `photo_stem`, or by a user as the image id is."""
    return files.get(photo_stem(image_id)) or files.get(image_id)


def is_photo(content: bytes) -> bool:
    """Whether the first bytes are those of a JPEG, PNG, GIF or WebP file."""
    beginnings = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF87a", b"GIF89a")
    return content.startswith(beginnings) or (content[:4] == b"RIFF" and content[8:12] == b"WEBP")


def clean_photo(file: BinaryIO, size: int) -> Image.Image:
    """Read a photo and return it as a `size` x `size` RGB picture, centred on black.

    A large JPEG is reduced by libjpeg while it is decoded, which saves most of the time. First frame of an animation,
    EXIF orientation applied, transparency on black, samples of 16 bits scaled to 8.

    Raises PhotoError when the content is not a JPEG, PNG, WebP or GIF that Pillow can decode or is too large, OSError
    when the file cannot be read.
    """
    content = file.read(MAX_PHOTO_BYTES + 1)
    if len(content) > MAX_PHOTO_BYTES:
        raise PhotoError("too many bytes")
    if not is_photo(content):
        raise PhotoError("not a JPEG, PNG, WebP or GIF" if content else "empty file")
    try:
        with warnings.catch_warnings():  # Pillow warns of broken EXIF, and of large pictures, which are refused here
            warnings.simplefilter("ignore")
            image = Image.open(io.BytesIO(content), formats=FORMATS)
            if image.width * image.height > MAX_PIXELS:
                raise Image.DecompressionBombError
            return _fitted_on_black(image, size)
    except Image.DecompressionBombError:
        raise PhotoError("too many pixels") from None
    except Exception:  # Pillow's parsers raise exceptions of many types on broken files
        raise PhotoError("broken") from None


def fitted_size(width: int, height: int, size: int) -> tuple[int, int]:
    """Width and height after the longer side has become `size`; the shorter is at least 1 pixel."""
    longer = max(width, height)
    return max(1, round(width * size / longer)), max(1, round(height * size / longer))


def _fitted_on_black(image: Image.Image, size: int) -> Image.Image:
    width, height = fitted_size(*image.size, size)
    drafted = image.draft(None, (int(width * REDUCING_GAP), int(height * REDUCING_GAP)))  # None unless it is a JPEG
    image.load()
    if image.mode == "I;16":  # 16 bits of grey, which Pillow's own conversion would clip at 255
        image = image.point(lambda value: value * (1 / 256)).convert("L")
    image = image.convert("RGBA" if image.has_transparency_data else "RGB")
    box = drafted[1] if drafted else None
    image = image.resize((width, height), Image.Resampling.LANCZOS, box=box, reducing_gap=REDUCING_GAP)
    with contextlib.suppress(Exception):  # broken EXIF is common and does not spoil the photo
        ImageOps.exif_transpose(image, in_place=True)
    square = Image.new("RGB", (size, size))
    corner = (size - image.width) // 2, (size - image.height) // 2
    square.paste(image, corner, mask=image if image.mode == "RGBA" else None)
    return square


def encoded(image: Image.Image) -> bytes:
    """The picture as a JPEG file; without chroma subsampling, which would show at 64 pixels."""
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=QUALITY, subsampling=0)
    return buffer.getvalue()


def query_pixels(file: BinaryIO, size: int) -> np.ndarray:
    """Pixels (S, S, 3) uint8 of any photo, cleaned exactly as the photos of listings are, JPEG compression included.

    Raises PhotoError and OSError as `clean_photo`.
    """
    return np.array(Image.open(io.BytesIO(encoded(clean_photo(file, size)))))  # writable, as torch wants it


def load_query_photo(path: Path, size: int) -> np.ndarray:
    """`query_pixels` of a file; raises UserError when it is rejected, OSError when it cannot be opened."""
    try:
        with open(path, "rb") as file:
            return query_pixels(file, size)
    except PhotoError as error:
        raise UserError(
            f"the photo {path} cannot be read ({error}): give a JPEG, PNG, WebP or GIF of at most "
            f"{MAX_PIXELS // 1_000_000} megapixels and {MAX_PHOTO_BYTES // 1_000_000} MB."
        ) from None


def clean_file(source: Path, output: Path, size: int) -> str | None:
    """Clean one file; the output appears whole or not at all.

    Returns the reason why the photo is rejected, None when it is clean. Raises OSError when the output cannot be
    written.
    """
    try:
        with open(source, "rb") as file:
            content = encoded(clean_photo(file, size))
    except (PhotoError, OSError) as error:
        output.unlink(missing_ok=True)  # of an earlier source
        return str(error) if isinstance(error, PhotoError) else "cannot be read"
    with write_whole(output, flush=False) as partial:  # to flush each photo would take ten times as long
        partial.write_bytes(content)
    return None


def clean_files(sources: list[Path], outputs: Path, size: int) -> list[str | None]:
    """Clean photos of one folder into `outputs`, under their names as .jpg; returns what `clean_file` returns for each.

    Raises OSError when a folder is missing on this machine or an output cannot be written.
    """
    for folder in (sources[0].parent, outputs):
        os.stat(folder)  # else, on a worker that does not share it, every photo would only seem unreadable
    return [clean_file(source, outputs / f"{source.stem}.jpg", size) for source in sources]


def default_workers() -> int:
    """The number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextlib.contextmanager
def starting_workers(*modules: str) -> Iterator[BaseContext]:
    """Yield how to start worker processes: by a server that loads `modules` once, for a fork is unsafe beside threads.

    Ctrl-C is ignored meanwhile; the workers inherit that, so that it never reaches them.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(modules))
    handler = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield context
    finally:
        signal.signal(signal.SIGINT, handler)


def end_with_parent() -> None:
    """Let this worker process end when its parent has ended, even by SIGKILL."""

    def wait() -> None:
        multiprocessing.parent_process().join()  # type: ignore[union-attr]
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


@contextlib.contextmanager
def on_this_machine(tasks: list[Task], workers: int) -> Iterator[list[Future]]:
    """Clean with processes; leaving the context waits for the few tasks that they have begun.

    Raises UserError when a worker is killed.
    """
    try:
        with starting_workers("alive_progress", "numpy", "PIL.ImageOps") as context:
            pool = ProcessPoolExecutor(min(workers, len(tasks)), context, end_with_parent)
            futures = [pool.submit(clean_files, *task) for task in tasks]
        yield futures
    except BrokenProcessPool:
        raise UserError(WORKER_KILLED) from None
    finally:
        pool.shutdown(cancel_futures=True)


@contextlib.contextmanager
def on_cluster(tasks: list[Task], scheduler: str) -> Iterator[list[Future]]:
    """Clean with the workers of a Dask cluster, which see the folders under the same paths as this machine.

    Dask gives the tasks of a worker that dies to another. Raises UserError when Dask is not installed, or when the
    cluster cannot be reached, has no worker, stops answering or cannot use the folders.
    """
    try:
        import cloudpickle
        import distributed
    except ImportError:
        raise UserError("--scheduler needs Dask: pip install -r requirements-cluster.txt, then run it again.") from None
    cloudpickle.register_pickle_by_value(marketplace)  # so that workers need Pillow only, not this package
    logging.disable(logging.CRITICAL)  # Dask logs every lost connection; one sentence is enough
    try:
        # a Client would wait for minutes where the other end is silent
        asyncio.run(asyncio.wait_for(distributed.core.connect(scheduler), CLUSTER_SECONDS)).abort()
        with distributed.Client(scheduler, timeout=CLUSTER_SECONDS) as client:
            client.wait_for_workers(1, CLUSTER_SECONDS)
            pool = client.get_executor(pure=False)
            # a lambda, for Dask would pickle a function with a name by that name
            yield [pool.submit(lambda *task: clean_files(*task), *task) for task in tasks]
    except Exception as error:
        raise UserError(
            f"the Dask cluster at {scheduler} failed ({first_line(error)}): check the address, and that workers are "
            "alive and share the data folder under one path; finished photos are kept, run the command again."
        ) from None
    finally:
        logging.disable(logging.NOTSET)


def clean_photos(
    photos: dict[str, Path],
    outputs: Path,
    size: int,
    workers: int,
    scheduler: str | None,
    results: dict[str, str | None],
) -> None:
    """Clean photos, given by the stem of their file, and add the result of `clean_file` for each to `results` at once.

    Raises UserError when the workers fail.
    """
    names = list(photos)
    parts = [names[start : start + TASK_PHOTOS] for start in range(0, len(names), TASK_PHOTOS)]
    tasks = [([photos[name] for name in part], outputs, size) for part in parts]
    cleaning = on_cluster(tasks, scheduler) if scheduler else on_this_machine(tasks, workers)
    with cleaning as futures, progress_bar(len(names), "cleaning photos") as advance:
        for part, future in zip(parts, futures, strict=True):
            results |= zip(part, future.result(SILENCE_SECONDS if scheduler else None), strict=True)
            advance(len(part))


def read_manifest(path: Path) -> dict[str, list[int]]:
    """Size and mtime_ns of the source of each clean photo by the stem of its file; empty if missing, broken or old."""
    with contextlib.suppress(OSError, ValueError, TypeError, KeyError):
        manifest = json.loads(path.read_bytes())
        if manifest["version"] == MANIFEST_VERSION and isinstance(manifest["photos"], dict):
            return manifest["photos"]
    return {}


def clean_folder(images: Path, folder: DataFolder, size: int, workers: int, scheduler: str | None = None) -> dict:
    """Bring the folder of clean photos up to date with `images`; returns the report, which it also writes.

    A photo is skipped when its source has the size and time in the manifest. The output of a source that is gone is
    deleted.

    Raises UserError when there is nothing to clean, when no photo is usable, or when the workers fail.
    """
    start = time.monotonic()
    outputs, manifest_path = folder.clean_images(size).absolute(), folder.clean_images_manifest(size)
    photos = photo_files(images.absolute())
    if not photos:
        raise UserError(f"{images} holds no .jpg, .png or other photo: put photos there, or name another by --images.")
    if outputs.resolve() == images.resolve():
        raise UserError(f"{images} holds photos that are clean already: name the folder of the raw ones with --images.")
    outputs.mkdir(parents=True, exist_ok=True)
    present, manifest = set(os.listdir(outputs)), read_manifest(manifest_path)
    statuses = {name: path.stat() for name, path in photos.items()}
    sources = {name: [status.st_size, status.st_mtime_ns] for name, status in statuses.items()}
    clean = {name: sources[name] for name in photos if sources[name] == manifest.get(name) and f"{name}.jpg" in present}
    to_clean = {name: path for name, path in photos.items() if name not in clean}
    removed = [name for name in manifest if name not in photos and f"{name}.jpg" in present]
    skipped = len(clean)
    results: dict[str, str | None] = {}
    try:
        for name in removed:
            (outputs / f"{name}.jpg").unlink()
        if to_clean:
            clean_photos(to_clean, outputs, size, workers, scheduler, results)
    finally:
        clean |= {name: sources[name] for name, reason in results.items() if reason is None}
        if clean != manifest:
            with write_whole(manifest_path) as partial:
                partial.write_text(json.dumps({"version": MANIFEST_VERSION, "photos": clean}), encoding="ascii")

    rejected: dict[str, list[str]] = {}
    for name, reason in results.items():
        if reason is not None:
            rejected.setdefault(reason, []).append(photos[name].name)
    report = {
        "images": str(images),
        "size": size,
        "in": len(photos),
        "cleaned": len(clean) - skipped,
        "skipped": skipped,
        "rejected": rejected,
        "files not used": sorted(set(os.listdir(images)) - {path.name for path in photos.values()}),
        "removed": len(removed),
        "seconds": round(time.monotonic() - start, 2),
    }
    report_path = folder.report(f"clean_images_{size}")
    write_json(report_path, report)
    if not clean:
        raise UserError(f"none of the {len(photos)} photos in {images} can be used: {report_path} says why.")
    return report


def clean_missing_photos(folder: DataFolder, size: int) -> None:
    """Bring the clean photos of this size up to date with the raw photos in the data folder, if it has any.

    Raises UserError as `clean_folder`.
    """
    if photo_files(folder.images):
        report = clean_folder(folder.images, folder, size, default_workers())
        if report["cleaned"]:
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


def load_photos(data_dir: str | Path, products: "pd.DataFrame", image_size: int = PHOTO_SIZE) -> Photos:
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
    images = image_rows(read_json(folder.images_table, "download_products_table.py"))
    kept_id = read_json(folder.duplicates, "clean_tabular_data.py")
    row_of = {product_id: row for row, product_id in enumerate(products["id"])}
    rows = {name: row_of.get(kept_id.get(row["product_id"], row["product_id"])) for name, row in images.items()}
    clean = photo_files(directory)
    files = {name: path for name in rows if (path := photo_file(clean, name))}
    photos = sorted((row, name) for name, row in rows.items() if row is not None and name in files)
    pixels = np.empty((len(photos), image_size, image_size, 3), np.uint8)

    def decode(place: int) -> bool:
        """Decode a photo into its place in `pixels`, so that no photo is in memory twice; whether that is done."""
        try:
            with Image.open(files[photos[place][1]]) as image:
                if image.size == (image_size, image_size):
                    pixels[place] = np.asarray(image.convert("RGB"))
                return image.size == (image_size, image_size)
        except OSError:
            return False

    with ThreadPoolExecutor() as pool:
        places = [place for place, done in enumerate(pool.map(decode, range(len(photos)))) if done]
    if not places:
        raise UserError(f"{directory} has no photo of a listing in the table: run clean_images.py again.")
    if len(places) < len(photos):
        for new, old in enumerate(places):
            pixels[new] = pixels[old]
    return Photos(
        pixels=pixels[: len(places)],
        image_ids=[photos[place][1] for place in places],
        product_rows=np.array([photos[place][0] for place in places], np.int64),
        left_out={
            "of an unknown or dropped listing": sum(row is None and name in files for name, row in rows.items()),
            "without a clean file": sum(row is not None and name not in files for name, row in rows.items()),
            "unreadable or of another size": len(photos) - len(places),
        },
    )
