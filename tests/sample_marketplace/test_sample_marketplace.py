"""The sample marketplace: the same for one seed, like the real table in its faults, never over photos of others."""

import re
import sqlite3
from collections import Counter
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from repository import ROOT, run_script

from marketplace.gazetteer import locate
from sample_marketplace.contact_sheet import write_contact_sheet
from sample_marketplace.drawing import PhotoSpec, draw_photo
from sample_marketplace.kinds import CATEGORY_SIZES, KINDS
from sample_marketplace.shapes import SHAPES
from sample_marketplace.tables import PRODUCT_COLUMNS, Chunk, make_chunk

SCRIPT = ROOT / "make_sample_marketplace.py"


@pytest.fixture(scope="module")
def chunk() -> Chunk:
    return make_chunk(seed=7, number=0, listings=3000)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("marketplace")
    assert run_script(SCRIPT, "--listings", 40, "--data-dir", path, "--workers", 2).returncode == 0
    return path


def rows_of(folder: Path, table: str) -> list[tuple]:
    with closing(sqlite3.connect(folder / "marketplace.db")) as connection:
        return connection.execute(f"SELECT * FROM {table}").fetchall()


def decoded(folder: Path) -> dict[str, bytes | None]:
    """Pixels of every photo by file name, None for those that cannot be read."""
    pixels: dict[str, bytes | None] = {}
    for path in sorted((folder / "images").iterdir()):
        try:
            with Image.open(path) as image:
                pixels[path.name] = image.tobytes()
        except OSError:
            pixels[path.name] = None
    return pixels


def test_same_seed_gives_same_rows_and_another_seed_others(chunk):
    assert make_chunk(7, 0, 3000) == chunk
    assert make_chunk(7, 0, 3000, with_photos=False).products == chunk.products
    ids = {row[0] for row in chunk.products}
    assert ids.isdisjoint(row[0] for row in make_chunk(8, 0, 3000).products + make_chunk(7, 1, 3000).products)


def test_same_seed_gives_same_pixels_whatever_the_number_of_processes(folder, tmp_path):
    assert run_script(SCRIPT, "--listings", 40, "--data-dir", tmp_path, "--workers", 1).returncode == 0
    assert rows_of(tmp_path, "products") == rows_of(folder, "products")
    assert decoded(tmp_path) == decoded(folder)
    assert sum(value is None for value in decoded(folder).values()) == 3, "three photos are unreadable"


def test_the_table_has_the_faults_of_the_real_one(chunk):
    products = [dict(zip(PRODUCT_COLUMNS, row, strict=True)) for row in chunk.products]
    texts = [row["product_description"] for row in products]
    counts = Counter(row["category"].split(" / ")[0] for row in products if row["category"] != "N/A")
    assert counts.keys() == CATEGORY_SIZES.keys() and len(counts) == 13
    assert 0.04 < np.mean(["N/A" in row.values() for row in products]) < 0.06
    copies = Counter((row["product_name"], row["product_description"], row["location"]) for row in products)
    assert sum(count - 1 for count in copies.values()) == 30
    banner = re.compile(r" [^.]+\. Posted by a seller in [^.]+, [^.]+ in [^.]+\. \d+ [A-Z][a-z]+ 20\d\d$")
    assert 0.065 < np.mean([bool(banner.search(text)) for text in texts]) < 0.095
    assert 0.15 < np.mean(["\r" in text for text in texts]) < 0.45
    assert any("\N{SMILING FACE WITH SMILING EYES}" in text for text in texts)
    prices = [row["price"] for row in products if row["price"] != "N/A"]
    assert all(re.fullmatch(r"£\d{1,3}(,\d{3})*\.\d\d", price) for price in prices)
    assert "£0.00" in prices and max(map(len, prices)) > len("£10,000.00")
    assert all(locate(row["location"]) for row in products if row["location"] != "N/A")


def test_photos_belong_to_listings_and_some_are_copies(chunk):
    listings, owners = {row[0] for row in chunk.products}, Counter(row[1] for row in chunk.images)
    assert owners.keys() <= listings
    assert 0.02 < 1 - len(owners) / 3000 < 0.07
    assert {row[0] for row in chunk.images} == {spec.image_id for spec in chunk.photos} | chunk.copied_photos.keys()
    assert 5 < len(chunk.copied_photos) < 25


@pytest.mark.parametrize("part", range(3))
def test_every_shape_can_be_seen_in_any_colour(part):
    assert {kind.shape for kind in KINDS} == SHAPES.keys()
    for shape in sorted(SHAPES)[part::3]:
        red, blue = (np.asarray(draw_photo(PhotoSpec("a", shape, c, "thing", "photo")), float) for c in ("red", "blue"))
        assert np.abs(red - blue).mean() > 0.5, f"{shape} does not show its colour"
        assert red.std() > 8, f"{shape} cannot be seen"


def test_a_second_run_does_nothing_and_other_settings_make_it_again(folder, tmp_path):
    assert "skipped" in run_script(SCRIPT, "--listings", 40, "--data-dir", folder).stdout
    for listings in (30, 50):
        assert run_script(SCRIPT, "--listings", listings, "--no-photos", "--data-dir", tmp_path).returncode == 0
        assert len(rows_of(tmp_path, "products")) == listings
    assert not (tmp_path / "images").exists()


def test_photos_that_it_did_not_make_are_never_replaced(tmp_path):
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "mine.jpg").write_bytes(b"my own photo")
    result = run_script(SCRIPT, "--listings", 20, "--data-dir", tmp_path)
    assert result.returncode == 1 and result.stderr.startswith("error: ")
    assert (tmp_path / "images" / "mine.jpg").read_bytes() == b"my own photo"
    assert not (tmp_path / "marketplace.db").exists()


def test_contact_sheet_shows_a_row_for_each_category(tmp_path):
    write_contact_sheet(tmp_path / "sheet.png", seed=7, columns=2)
    with Image.open(tmp_path / "sheet.png") as image:
        assert image.height > 13 * 60 and image.width < 400
