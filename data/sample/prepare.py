"""Make the sample marketplace: an embedded stand-in for the database and the photo folder.

Reads nothing. Writes marketplace.db (SQLite, tables products and images) and images/<image id>.jpg into the data
folder, by default the one this script lies in. The same seed gives the same rows and the same decoded pixels.

    python data/sample/prepare.py [--listings 1300] [--photos / --no-photos] [--seed 7]
"""

import argparse
import contextlib
import multiprocessing
import os
import random
import shutil
import sqlite3
import sys
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from itertools import islice
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from data.sample.contact_sheet import write_contact_sheet
from data.sample.drawing import PhotoSpec, encode_photo
from data.sample.tables import (
    IMAGE_COLUMNS,
    PRODUCT_COLUMNS,
    Chunk,
    chunk_sizes,
    image_row,
    make_chunk,
    new_id,
)
from data_folder import DataFolder, UserError, argument_parser, positive_int, progress_bar, run, write_whole

VERSION = 5  # raise it when the same seed gives another marketplace, so that older folders are made again
IN_FLIGHT = 4  # chunks that workers may be ahead of the writer, so that memory stays bounded

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


def parse_arguments() -> argparse.Namespace:
    parser = argument_parser(__doc__.splitlines()[0])
    parser.set_defaults(data_dir=Path(__file__).resolve().parent)
    parser.add_argument("--listings", type=positive_int, default=1300, metavar="N", help="rows of products")
    parser.add_argument("--photos", action=argparse.BooleanOptionalAction, default=True, help="draw the photos")
    parser.add_argument("--seed", type=int, default=7, help="another seed, another marketplace")
    parser.add_argument("--workers", type=positive_int, default=os.cpu_count(), metavar="N", help="processes")
    parser.add_argument("--force", action="store_true", help="make it again though it is there")
    parser.add_argument("--contact-sheet", type=Path, metavar="FILE", help="only draw examples by category into FILE")
    return parser.parse_args()


def settings(arguments: argparse.Namespace) -> dict[str, str]:
    """What decides the content of the marketplace, as kept in its database."""
    return {
        "version": str(VERSION),
        "listings": str(arguments.listings),
        "photos": str(arguments.photos),
        "seed": str(arguments.seed),
    }


def existing_settings(database: Path) -> dict[str, str]:
    """The settings of the marketplace already there; empty when there is none."""
    if not database.is_file():
        return {}
    try:
        with contextlib.closing(sqlite3.connect(f"{database.absolute().as_uri()}?mode=ro", uri=True)) as connection:
            return dict(connection.execute("SELECT name, value FROM sample_settings"))
    except sqlite3.DatabaseError:
        return {}


def generated_chunks(arguments: argparse.Namespace, pool: ProcessPoolExecutor) -> Iterator[Chunk]:
    """Chunks in order; workers are at most IN_FLIGHT chunks ahead."""
    sizes = chunk_sizes(arguments.listings)
    waiting: deque[Future[Chunk]] = deque()
    while True:
        for number, listings in islice(sizes, IN_FLIGHT - len(waiting)):
            waiting.append(pool.submit(make_chunk, arguments.seed, number, listings, arguments.photos))
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
    connection: sqlite3.Connection, arguments: argparse.Namespace, pool: ProcessPoolExecutor
) -> tuple[list[PhotoSpec], dict[str, str]]:
    """Insert all rows; give back the photos to draw and those that repeat another."""
    photos: list[PhotoSpec] = []
    copies: dict[str, str] = {}
    insert_product = f"INSERT INTO products VALUES ({', '.join('?' * len(PRODUCT_COLUMNS))})"
    insert_image = f"INSERT INTO images VALUES ({', '.join('?' * len(IMAGE_COLUMNS))})"
    connection.executescript("PRAGMA journal_mode=OFF; PRAGMA synchronous=OFF;" + SCHEMA)
    with progress_bar(arguments.listings, "listings") as bar:
        for chunk in generated_chunks(arguments, pool):
            connection.executemany(insert_product, chunk.products)
            connection.executemany(insert_image, chunk.images)
            photos += chunk.photos
            copies |= chunk.copied_photos
            bar(len(chunk.products))
    rows, strays = stray_photos(arguments.seed)
    connection.executemany(insert_image, rows)
    connection.executemany("INSERT INTO sample_settings VALUES (?, ?)", settings(arguments).items())
    connection.commit()
    return photos + (strays if arguments.photos else []), copies


def spoil(seed: int, photos: list[PhotoSpec]) -> dict[str, str]:
    """Three photos that are to be unreadable, with how: cut off, empty, or no picture at all."""
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
    """Draw all photos into a new folder beside the old one, then put it in its place."""
    partial = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    faults = spoil(seed, photos)
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


def main() -> None:
    arguments = parse_arguments()
    if arguments.contact_sheet:
        write_contact_sheet(arguments.contact_sheet, arguments.seed)
        print(f"contact sheet written to {arguments.contact_sheet}")
        return
    folder = DataFolder(arguments.data_dir)
    if existing_settings(folder.database) == settings(arguments) and not arguments.force:
        print(f"{folder.database} is already there with these settings: skipped, --force makes it again.")
        return
    if folder.images.is_symlink() or (folder.images.exists() and not existing_settings(folder.database)):
        raise UserError(f"{folder.images} holds photos that this script did not make: choose another --data-dir.")
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(arguments.workers, mp_context=context) as pool, write_whole(folder.database) as partial:
        partial.unlink(missing_ok=True)
        with contextlib.closing(sqlite3.connect(partial)) as connection:
            photos, copies = fill_database(connection, arguments, pool)
        if arguments.photos:
            draw_photos(folder.images, arguments.seed, photos, copies, pool)
    drawn = f", {len(photos) + len(copies)} photos in {folder.images}" if arguments.photos else ""
    print(f"{folder.database}: {arguments.listings} listings{drawn}")


if __name__ == "__main__":
    run(main)
