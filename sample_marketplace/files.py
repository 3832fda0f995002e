"""Writes a sample marketplace into a data folder: rows into its database, photos into its images folder."""

import contextlib
import multiprocessing
import random
import shutil
import sqlite3
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from marketplace.command_line import progress_bar
from marketplace.data_folder import DataFolder, UserError, write_whole
from sample_marketplace.drawing import PhotoSpec, encode_photo
from sample_marketplace.tables import IMAGE_COLUMNS, PRODUCT_COLUMNS, Chunk, chunk_sizes, image_row, make_chunk, new_id

VERSION = 6  # raise it when the same seed gives another marketplace, so that older folders are made again
CHUNKS_AHEAD = 4  # of the writer, by which memory stays bounded

SCHEMA = """
CREATE TABLE products (
    id TEXT PRIMARY KEY, product_name TEXT, category TEXT, product_description TEXT, price TEXT, location TEXT,
    page_id INTEGER, create_time TIMESTAMP
);
CREATE TABLE images (
    id TEXT PRIMARY KEY, product_id TEXT, bucket_link TEXT, image_ref TEXT, create_time TIMESTAMP
);
CREATE TABLE sample_settings (name TEXT PRIMARY KEY, value TEXT);
"""


@dataclass(frozen=True)
class Settings:
    """What the content of a sample marketplace depends on."""

    listings: int = 1300
    photos: bool = True
    seed: int = 7

    def as_rows(self) -> dict[str, str]:
        """The settings as they are kept in the database."""
        return {"version": str(VERSION), **{name: str(value) for name, value in vars(self).items()}}


def existing_settings(database: Path) -> dict[str, str]:
    """The settings of the marketplace already there; empty when there is none."""
    if not database.is_file():
        return {}
    try:
        with contextlib.closing(sqlite3.connect(f"{database.absolute().as_uri()}?mode=ro", uri=True)) as connection:
            return dict(connection.execute("SELECT name, value FROM sample_settings"))
    except sqlite3.DatabaseError:
        return {}


def generated_chunks(settings: Settings, pool: ProcessPoolExecutor) -> Iterator[Chunk]:
    """Chunks in order; workers are at most CHUNKS_AHEAD chunks ahead."""
    sizes = chunk_sizes(settings.listings)
    waiting: deque[Future[Chunk]] = deque()
    while True:
        for number, listings in islice(sizes, CHUNKS_AHEAD - len(waiting)):
            waiting.append(pool.submit(make_chunk, settings.seed, number, listings, settings.photos))
        if not waiting:
            return
        yield waiting.popleft().result()


def stray_photos(seed: int) -> tuple[list[tuple], list[PhotoSpec]]:
    """Two photos without listing: one has a row in images whose listing is gone, one has a file only."""
    rng = random.Random(f"sample marketplace/{seed}/strays")
    gone, unknown, listing = new_id(rng), new_id(rng), new_id(rng)
    row = image_row(rng, gone, listing, "2022-02-25 00:00:00.000000")
    return [row], [PhotoSpec(image_id, "books", "green", image_id, image_id) for image_id in (gone, unknown)]


def fill_database(
    connection: sqlite3.Connection, settings: Settings, pool: ProcessPoolExecutor
) -> tuple[list[PhotoSpec], dict[str, str]]:
    """Insert all rows. Returns the photos to draw and, by image id, the image ids whose files others repeat."""
    photos: list[PhotoSpec] = []
    copies: dict[str, str] = {}
    insert_product = f"INSERT INTO products VALUES ({', '.join('?' * len(PRODUCT_COLUMNS))})"
    insert_image = f"INSERT INTO images VALUES ({', '.join('?' * len(IMAGE_COLUMNS))})"
    connection.executescript("PRAGMA journal_mode=OFF; PRAGMA synchronous=OFF;" + SCHEMA)
    with progress_bar(settings.listings, "listings") as bar:
        for chunk in generated_chunks(settings, pool):
            connection.executemany(insert_product, chunk.products)
            connection.executemany(insert_image, chunk.images)
            photos += chunk.photos
            copies |= chunk.copied_photos
            bar(len(chunk.products))
    rows, strays = stray_photos(settings.seed)
    connection.executemany(insert_image, rows)
    connection.executemany("INSERT INTO sample_settings VALUES (?, ?)", settings.as_rows().items())
    connection.commit()
    return photos + (strays if settings.photos else []), copies


def unreadable_photos(seed: int, photos: list[PhotoSpec]) -> dict[str, str]:
    """The fault of each of three photos, by image id: `cut` off, `empty`, or a web `page` instead of a photo."""
    if len(photos) < 20:
        return {}
    chosen = random.Random(f"sample marketplace/{seed}/unreadable").sample(photos[:-2], 3)
    return dict(zip((spec.image_id for spec in chosen), ("cut", "empty", "page"), strict=True))


def photo_bytes(spec: PhotoSpec, fault: str | None) -> bytes:
    if fault == "empty":
        return b""
    if fault == "page":
        return b"<!DOCTYPE html><title>404</title><p>This photo has been removed.</p>\n"
    data = encode_photo(spec)
    return data[: len(data) // 3] if fault == "cut" else data


def write_photo(task: tuple[PhotoSpec, str | None, Path]) -> None:
    """Draw one photo into its file; runs in a worker."""
    spec, fault, folder = task
    (folder / f"{spec.image_id}.jpg").write_bytes(photo_bytes(spec, fault))


def draw_photos(
    folder: Path, seed: int, photos: list[PhotoSpec], copies: dict[str, str], pool: ProcessPoolExecutor
) -> None:
    """Draw all photos into a new folder beside the old one, then replace the old one."""
    partial = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    faults = unreadable_photos(seed, photos)
    try:
        with progress_bar(len(photos), "photos") as bar:
            tasks = ((spec, faults.get(spec.image_id), partial) for spec in photos)
            for _ in pool.map(write_photo, tasks, chunksize=16):
                bar()
        for copy, original in copies.items():
            shutil.copyfile(partial / f"{original}.jpg", partial / f"{copy}.jpg")
        shutil.rmtree(folder, ignore_errors=True)
        partial.rename(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def make_marketplace(folder: DataFolder, settings: Settings, workers: int, force: bool = False) -> str:
    """Make the marketplace in `folder` unless it is there with these settings. Returns a line that says what was done.

    Raises UserError when the folder holds photos that are not of a sample marketplace.
    """
    existing = existing_settings(folder.database)
    if existing == settings.as_rows() and not force:
        return f"{folder.database} is already there with these settings: skipped, --force makes it again."
    if folder.images.is_symlink() or (folder.images.exists() and not existing):
        raise UserError(f"{folder.images} holds photos that this script did not make: choose another --data-dir.")
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context) as pool, write_whole(folder.database) as partial:
        with contextlib.closing(sqlite3.connect(partial)) as connection:
            photos, copies = fill_database(connection, settings, pool)
        if settings.photos:
            draw_photos(folder.images, settings.seed, photos, copies, pool)
    drawn = f", {len(photos) + len(copies)} photos in {folder.images}" if settings.photos else ""
    return f"{folder.database}: {settings.listings} listings{drawn}"
