"""load_photos: the clean photos of the listings as arrays, on a small folder and on the prepared sample."""

import json
import tracemalloc

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from clean_tabular_data import count_photos
from marketplace.data_folder import DataFolder, UserError
from marketplace.listings import SPLITS, examples_of_split, load_products
from marketplace.photos import load_photos

PRODUCTS = pd.DataFrame({"id": [f"product-{number}" for number in range(4)]})


def write_photo(folder: DataFolder, name: str, shade: int, size: int = 8) -> None:
    folder.clean_images(8).mkdir(exist_ok=True)
    Image.new("RGB", (size, size), (shade, 0, 0)).save(folder.clean_images(8) / f"{name}.jpg", quality=95)


@pytest.fixture
def folder(tmp_path) -> DataFolder:
    """Photos of four listings; product-9 was dropped as a copy of product-1."""
    folder = DataFolder(tmp_path)
    folder.duplicates.write_text(json.dumps({"product-9": "product-1"}))
    photos = {"b": 1, "a": 1, "of-copy": 9, "c": 0, "of-nobody": 77, "not-cleaned": 2, "damaged": 0, "too-large": 0}
    images = [{"id": name, "product_id": f"product-{number}"} for name, number in photos.items()]
    folder.images_table.write_text(json.dumps(images))
    for number, name in enumerate(("b", "a", "of-copy", "c", "of-nobody")):
        write_photo(folder, name, 40 * number)
    (folder.clean_images(8) / "damaged.jpg").write_bytes(b"\xff\xd8 no photo")
    write_photo(folder, "too-large", 10, size=16)
    return folder


def test_photos_of_a_dropped_copy_belong_to_the_listing_that_was_kept(folder):
    photos = load_photos(folder.path, PRODUCTS, 8)
    assert photos.image_ids == ["c", "a", "b", "of-copy"]
    assert photos.product_rows.tolist() == [0, 1, 1, 1] and photos.product_rows.dtype == np.int64
    assert np.abs(photos.pixels[:, 0, 0, 0] - [120.0, 40, 0, 80]).max() < 4, (
        "the pixels of an unreadable photo are none"
    )


def test_an_image_of_several_rows_belongs_to_the_first_with_a_link(folder):
    links = {
        "product-0": None,
        "product-1": " HTTPS://photos.invalid/a.jpg",
        "product-2": "https://photos.invalid/b.jpg",
    }
    images = [{"id": "a", "product_id": product, "bucket_link": link} for product, link in links.items()]
    folder.images_table.write_text(json.dumps([*images, {"id": "b\u200b", "product_id": " product-3"}]))
    assert load_photos(folder.path, PRODUCTS, 8).product_rows.tolist() == [1, 3]
    assert count_photos(folder, PRODUCTS, {})["clean listings without photo"] == ["product-0", "product-2"]


def test_photos_that_cannot_be_used_are_counted_by_reason(folder):
    assert load_photos(folder.path, PRODUCTS, 8).left_out == {
        "of an unknown or dropped listing": 1,
        "without a clean file": 1,
        "unreadable or of another size": 2,
    }


def test_photos_of_the_sample(sample_folder):
    products = load_products(sample_folder)
    photos = load_photos(sample_folder, products, 64)
    assert photos.pixels.dtype == np.uint8 and photos.pixels.shape == (len(photos), 64, 64, 3)
    with Image.open(DataFolder(sample_folder).clean_images(64) / f"{photos.image_ids[5]}.jpg") as image:
        assert (np.asarray(image) == photos.pixels[5]).all()
    images = json.loads(DataFolder(sample_folder).images_table.read_text())
    owner = {image["id"]: image["product_id"] for image in images}
    kept = json.loads(DataFolder(sample_folder).duplicates.read_text())
    for name, row in zip(photos.image_ids, photos.product_rows, strict=True):
        assert kept.get(owner[name], owner[name]) == products["id"][row]
    everywhere = np.concatenate([examples_of_split(photos, products, split) for split in SPLITS])
    assert sorted(everywhere) == list(range(len(photos)))


def test_pixels_are_in_memory_once(tmp_path):
    folder, size = DataFolder(tmp_path), 128
    images = [{"id": f"{number:03}", "product_id": "product-0"} for number in range(400)]
    folder.images_table.write_text(json.dumps(images))
    folder.duplicates.write_text("{}")
    folder.clean_images(size).mkdir()
    for image in images:
        Image.new("RGB", (size, size), (90, 60, 30)).save(folder.clean_images(size) / f"{image['id']}.jpg")
    (folder.clean_images(size) / "007.jpg").write_bytes(b"damaged")
    tracemalloc.start()
    try:
        photos = load_photos(folder.path, PRODUCTS, size)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert len(photos) == 399 and peak < 1.4 * photos.pixels.nbytes


def test_missing_inputs_name_the_script_to_run(folder):
    with pytest.raises(UserError, match=r"clean_images\.py --size 32"):
        load_photos(folder.path, PRODUCTS, 32)
    folder.images_table.write_text(json.dumps([{"id": "a", "product_id": "product-77"}]))
    with pytest.raises(UserError, match="no photo of a listing"):
        load_photos(folder.path, PRODUCTS, 8)
    folder.duplicates.unlink()
    with pytest.raises(UserError, match=r"clean_tabular_data\.py"):
        load_photos(folder.path, PRODUCTS, 8)
