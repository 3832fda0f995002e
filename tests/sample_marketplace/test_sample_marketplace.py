"""The sample marketplace behaves like the real one: its tables, its dirt, its photos, and the script that makes it."""

import io
import math
import re
import sqlite3
import sys
from collections import Counter
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps, UnidentifiedImageError
from repository import ROOT, run_script

from marketplace.gazetteer import Gazetteer
from sample_marketplace.contact_sheet import write_contact_sheet
from sample_marketplace.drawing import EXIF_ORIENTATION, PhotoSpec, draw_photo, encode_photo
from sample_marketplace.kinds import CATEGORY_SIZES, KINDS
from sample_marketplace.shapes import SHAPES
from sample_marketplace.tables import IMAGE_COLUMNS, PRODUCT_COLUMNS, Chunk, make_chunk

SCRIPT = ROOT / "make_sample_marketplace.py"


@pytest.fixture(scope="module")
def chunk() -> Chunk:
    return make_chunk(seed=7, number=0, listings=5000)


@pytest.fixture(scope="module")
def products(chunk) -> list[dict]:
    return [dict(zip(PRODUCT_COLUMNS, row, strict=True)) for row in chunk.products]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("marketplace")
    result = run_script(SCRIPT, "--listings", 40, "--data-dir", path, "--workers", 2)
    assert result.returncode == 0, result.stderr
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
    assert make_chunk(7, 0, 5000) == chunk
    assert make_chunk(7, 0, 5000, with_photos=False).products == chunk.products
    ids = {row[0] for row in chunk.products}
    assert ids.isdisjoint(row[0] for row in make_chunk(8, 0, 5000).products)
    assert ids.isdisjoint(row[0] for row in make_chunk(7, 1, 5000).products)


def test_same_seed_gives_same_pixels_whatever_the_number_of_processes(folder, tmp_path):
    assert run_script(SCRIPT, "--listings", 40, "--data-dir", tmp_path, "--workers", 1).returncode == 0
    assert rows_of(tmp_path, "products") == rows_of(folder, "products")
    assert rows_of(tmp_path, "images") == rows_of(folder, "images")
    assert decoded(tmp_path) == decoded(folder)


def test_thirteen_main_categories_of_uneven_sizes_each_with_leaves_and_kinds(products):
    counts = Counter(row["category"].split(" / ")[0] for row in products if row["category"] != "N/A")
    assert counts.keys() == CATEGORY_SIZES.keys()
    assert len(counts) == 13
    assert 1.7 < counts["Home & Garden"] / counts["Clothes, Footwear & Accessories"] < 2.6
    for main in CATEGORY_SIZES:
        leaves = {row["category"] for row in products if row["category"].startswith(main)}
        assert len(leaves) >= 5
        assert len({kind.shape for kind in KINDS if kind.main_category == main}) >= 5


def test_five_in_a_hundred_rows_lack_one_field(products):
    gaps = Counter(sum(value == "N/A" for value in row.values()) for row in products)
    assert set(gaps) == {0, 1}
    assert 0.04 < gaps[1] / len(products) < 0.06
    fields = {name for row in products for name, value in row.items() if value == "N/A"}
    assert fields == {"product_name", "category", "product_description", "price", "location"}


def test_one_in_a_hundred_listings_is_a_copy_under_another_id(chunk, products):
    keys = Counter((row["product_name"], row["product_description"], row["location"]) for row in products)
    assert sum(count - 1 for count in keys.values()) == 50
    assert len({row["id"] for row in products}) == 5000
    assert 10 < len(chunk.copied_photos) < 40
    images = {row[0]: row[1] for row in chunk.images}
    by_id = {row["id"]: row for row in products}
    for copy, original in chunk.copied_photos.items():
        first, second = by_id[images[copy]], by_id[images[original]]
        assert first["id"] != second["id"]
        assert first["product_name"] == second["product_name"]


def test_no_two_listings_but_the_copies_share_a_description(products):
    texts = Counter(row["product_description"] for row in products if row["product_description"] != "N/A")
    assert sum(count - 1 for count in texts.values()) <= 50


def test_texts_have_six_to_ninety_words_some_cr_some_emoji(products):
    texts = [row["product_description"] for row in products if row["product_description"] != "N/A"]
    words = np.array([len(text.split()) for text in texts if "Posted by" not in text])
    assert words.min() >= 6
    assert words.max() <= 120
    assert np.quantile(words, 0.1) < 14
    assert 75 < np.quantile(words, 0.99) < 105
    assert 0.15 < np.mean(["\r" in text for text in texts]) < 0.45
    assert 0.03 < np.mean([bool(re.search("[\U0001f300-\U0001faff✅⭐❤]", text)) for text in texts]) < 0.12


def test_names_end_in_the_place_and_the_site(products):
    for row in products:
        if "N/A" not in (row["product_name"], row["location"]):
            assert row["product_name"].endswith(f" | in {row['location']} | Gumtree")


def test_words_of_other_categories_are_mixed_in(products):
    nouns = {kind.main_category: [] for kind in KINDS}
    for kind in KINDS:
        nouns[kind.main_category] += kind.nouns
    foreign = 0
    for row in products:
        main = row["category"].split(" / ")[0]
        text = row["product_description"].split("Posted by")[0]
        foreign += any(noun in text for other, words in nouns.items() if other != main for noun in words)
    assert 0.12 < foreign / len(products) < 0.25


BANNER_FORMS = {
    "usual": r"\. Posted by a seller in [^.]+, [^.]+ in [^.]+\. \d+ [A-Z][a-z]+ 20\d\d$",
    "month first": r"\. Posted by a seller in [^.]+, [^.]+ in [^.]+\. [A-Z][a-z]+ \d+, 20\d\d$",
    "day with a stop": r"\. Posted by a seller in [^.]+, [^.]+ in [^.]+\. \d+\. [A-Z][a-z]+ 20\d\d$",
    "no category and no date": r"\. Posted by a seller in [^.,]+\. $",
    "by name": r"\. Posted by [A-Z][a-z]+\.[^.]+\. \d+ [A-Z][a-z]+ 20\d\d$",
    "glued to the text": r"\S\.Posted by a seller in [^.]+, [^.]+ in [^.]+\. \d+ [A-Z][a-z]+ 20\d\d$",
    "no stop before": r"[^. ] Posted by a seller in [^.]+, [^.]+ in [^.]+\. \d+ [A-Z][a-z]+ 20\d\d$",
    "text after": r"\. Posted by a seller in [^.]+, [^.]+ in [^.]+\. \d+ [A-Z][a-z]+ 20\d\d \w.*[.]$",
}


def test_eight_in_a_hundred_descriptions_carry_the_banner_in_all_its_forms(products):
    banners = [row for row in products if "Posted by" in row["product_description"]]
    assert 0.065 < len(banners) / len(products) < 0.095
    forms = Counter()
    for row in banners:
        found = [name for name, form in BANNER_FORMS.items() if re.search(form, row["product_description"])]
        assert found, row["product_description"]
        forms.update(found)
    assert set(forms) == set(BANNER_FORMS)
    assert forms["usual"] / len(banners) > 0.55
    named = sum(row["category"].split(" / ")[-1] in row["product_description"] for row in banners)
    assert named / len(banners) > 0.8


def test_prices_are_written_as_on_the_site_and_are_log_normal(products):
    prices = [row["price"] for row in products if row["price"] != "N/A"]
    assert all(re.fullmatch(r"£\d{1,3}(,\d{3})*\.\d\d", price) for price in prices)
    pounds = np.array([float(price[1:].replace(",", "")) for price in prices])
    assert 30 < np.median(pounds) < 50
    assert 0.005 < np.mean(pounds == 0) < 0.03
    assert 0.001 < np.mean(pounds > 10_000) < 0.01
    logs = np.log(pounds[(pounds > 0.5) & (pounds < 10_000)])
    assert abs(logs.mean() - np.median(logs)) < 0.15
    assert 0.8 < logs.std() < 1.4


def test_prices_follow_kind_and_condition(products):
    def median(part: str, text: str = "") -> float:
        found = [
            float(row["price"][1:].replace(",", ""))
            for row in products
            if part in row["category"] and text in row["product_description"].lower() and row["price"] != "N/A"
        ]
        return float(np.median(found))

    assert median("Arcade") > 3 * median("Cassettes")
    assert median("", "brand new") > 1.5 * median("", "sold as seen")


def test_places_give_every_rule_something_to_do(products):
    gazetteer = Gazetteer()
    names = {row["location"] for row in products if row["location"] != "N/A"}
    rules = Counter(place.rule if (place := gazetteer.locate(name)) else None for name in names)
    assert rules["town"] / sum(rules.values()) > 0.6
    assert len(rules) >= 3
    assert len(names) > 300


def test_photos_per_listing_and_their_links(chunk):
    assert 1.70 < len(chunk.images) / 5000 < 1.82
    owners = Counter(row[1] for row in chunk.images)
    assert 0.02 < 1 - len(owners) / 5000 < 0.07
    for row in chunk.images[:200]:
        image = dict(zip(IMAGE_COLUMNS, row, strict=True))
        assert re.fullmatch(rf"https://[a-z.-]+\.invalid/\S+/{image['id']}\.jpg", image["bucket_link"])
    assert {row[0] for row in chunk.images} == {spec.image_id for spec in chunk.photos} | chunk.copied_photos.keys()


def test_there_are_at_least_sixty_shapes_and_each_is_used():
    assert len(SHAPES) >= 60
    assert {kind.shape for kind in KINDS} == SHAPES.keys()


@pytest.mark.parametrize("part", range(6))
def test_every_shape_can_be_seen_in_any_colour(part):
    for shape in sorted(SHAPES)[part::6]:
        red = np.asarray(draw_photo(PhotoSpec("a", shape, "red", "thing", "photo")), dtype=np.float32)
        blue = np.asarray(draw_photo(PhotoSpec("a", shape, "blue", "thing", "photo")), dtype=np.float32)
        assert red.shape == blue.shape
        assert np.abs(red - blue).mean() > 0.5, f"{shape} does not show its colour"
        assert red.std() > 8, f"{shape} cannot be seen"


def test_photos_of_one_listing_show_it_in_other_ways():
    first, second = (np.asarray(draw_photo(PhotoSpec("a", "sofa", "red", "thing", photo))) for photo in ("1", "2"))
    assert first.shape != second.shape or np.abs(first.astype(float) - second).mean() > 5


@pytest.fixture(scope="module")
def encoded(chunk) -> list[tuple[PhotoSpec, Image.Image]]:
    return [(spec, Image.open(io.BytesIO(encode_photo(spec)))) for spec in chunk.photos[80:140]]


def test_photos_differ_in_size_format_mode_and_orientation(encoded):
    images = [image for _, image in encoded]
    assert all(min(image.size) >= 300 and max(image.size) <= 1600 for image in images)
    assert max(max(image.size) for image in images) > 1200
    assert min(max(image.size) for image in images) < 400
    upright = [image for image in images if EXIF_ORIENTATION not in image.getexif()]
    assert {"portrait", "landscape"} <= {"portrait" if image.height > image.width else "landscape" for image in upright}
    assert {image.mode for image in images} == {"RGB", "L", "CMYK"}
    assert 0 < len(images) - len(upright) < 40


def test_exif_turned_photos_are_upright_for_those_who_follow_the_tag(encoded):
    turned = [(spec, image) for spec, image in encoded if image.getexif().get(EXIF_ORIENTATION) in (6, 8)]
    assert turned
    for spec, image in turned[:3]:
        upright = draw_photo(spec)
        assert image.size == upright.size[::-1]
        shown = np.asarray(ImageOps.exif_transpose(image).convert("RGB"), dtype=np.float32)
        assert np.abs(shown - np.asarray(upright, dtype=np.float32)).mean() < 8


def test_three_photos_are_unreadable_two_have_no_listing(folder):
    pixels = decoded(folder)
    assert sum(value is None for value in pixels.values()) == 3
    listings = {row[0] for row in rows_of(folder, "products")}
    owners = {f"{row[0]}.jpg": row[1] for row in rows_of(folder, "images")}
    assert sum(owners.get(name) not in listings for name in pixels) == 2
    assert owners.keys() <= pixels.keys()
    with pytest.raises(UnidentifiedImageError):
        Image.open(next(folder / "images" / name for name in pixels if (folder / "images" / name).stat().st_size == 0))


def test_database_has_the_columns_of_the_real_one(folder):
    with closing(sqlite3.connect(folder / "marketplace.db")) as connection:
        for table, columns in (("products", PRODUCT_COLUMNS), ("images", IMAGE_COLUMNS)):
            assert tuple(row[1] for row in connection.execute(f"PRAGMA table_info({table})")) == columns
    assert len(rows_of(folder, "products")) == 40


def test_a_second_run_does_nothing_and_other_settings_make_it_again(folder, tmp_path):
    before = (folder / "marketplace.db").stat().st_mtime_ns
    again = run_script(SCRIPT, "--listings", 40, "--data-dir", folder)
    assert again.returncode == 0
    assert "skipped" in again.stdout
    assert (folder / "marketplace.db").stat().st_mtime_ns == before
    for listings in (30, 50):
        assert run_script(SCRIPT, "--listings", listings, "--no-photos", "--data-dir", tmp_path).returncode == 0
        assert len(rows_of(tmp_path, "products")) == listings
    assert not (tmp_path / "images").exists()
    assert not list(tmp_path.glob(".*"))


def test_photos_that_it_did_not_make_are_never_replaced(tmp_path):
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "mine.jpg").write_bytes(b"my own photo")
    result = run_script(SCRIPT, "--listings", 20, "--data-dir", tmp_path)
    assert result.returncode == 1
    assert result.stderr.startswith("error: ")
    assert len(result.stderr.splitlines()) == 1
    assert (tmp_path / "images" / "mine.jpg").read_bytes() == b"my own photo"
    assert not (tmp_path / "marketplace.db").exists()


def test_memory_does_not_grow_with_the_listings(tmp_path):
    code = (
        "import resource, subprocess, sys; subprocess.run(sys.argv[1:], check=True); "
        "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"
    )
    peaks = []
    for listings in (2000, 40_000):
        command = (sys.executable, SCRIPT, "--no-photos", "--listings", listings, "--data-dir", tmp_path)
        result = run_script("-c", code, *map(str, command))
        assert result.returncode == 0, result.stderr
        peaks.append(int(result.stdout.splitlines()[-1]) / 1024)  # MiB
    assert len(rows_of(tmp_path, "products")) == 40_000
    assert peaks[1] - peaks[0] < 60
    assert math.isclose(len(rows_of(tmp_path, "images")) / 40_000, 1.76, abs_tol=0.03)


def test_contact_sheet_shows_a_row_for_each_category(tmp_path):
    write_contact_sheet(tmp_path / "sheet.png", seed=7, columns=2)
    with Image.open(tmp_path / "sheet.png") as image:
        assert image.height > 13 * 60 and image.width < 400
