"""Joining table, photos and splits: on the prepared sample, and on a small folder written by hand."""

import json

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from marketplace.data_folder import DataFolder, UserError
from marketplace.listing_text import normalised_text
from marketplace.listings import (
    LABELS,
    SPLITS,
    listings_seen_in_training,
    load_main_categories,
    load_products,
    mean_per_product,
    near_copy_keys,
    rows_of_split,
    split_of,
    with_shuffled_labels,
)
from marketplace.photos import Photos, load_photos

NAMES = ("lamp", "chair", "kettle", "drill")
DESCRIPTIONS = (
    "A brass reading lamp with a green shade.",
    "Folding chair in beech, one scratch.",
    "A brass reading lamp with a green shade, boxed.",
    "Cordless drill and two batteries.",
)


def listing(number: int, split: str) -> dict:
    return {
        "id": f"product-{number}",
        "product_name": NAMES[number],
        "product_description": DESCRIPTIONS[number],
        "category": "Tools / All",
        "main_category": "Tools",
        "main_category_code": 0,
        "price": 5.0,
        "location": "Bath, Somerset",
        "latitude": 51.4,
        "longitude": -2.4,
        "split": split,
    }


def write_photo(folder: DataFolder, name: str, shade: int, size: int = 8) -> None:
    folder.clean_images(8).mkdir(exist_ok=True)
    Image.new("RGB", (size, size), (shade, 0, 0)).save(folder.clean_images(8) / f"{name}.jpg", quality=95)


@pytest.fixture
def folder(tmp_path) -> DataFolder:
    """Four listings, the table out of order; product-9 was dropped as a copy of product-1."""
    folder = DataFolder(tmp_path)
    splits = ("train", "train", "test", "validation")
    table = [listing(number, split) for number, split in enumerate(splits)][::-1]
    folder.products_table_clean.write_text(json.dumps(table))
    folder.main_categories.write_text(json.dumps(["Tools"]))
    folder.duplicates.write_text(json.dumps({"product-9": "product-1"}))
    photos = {"b": 1, "a": 1, "of-copy": 9, "c": 0, "of-nobody": 77, "not-cleaned": 2, "damaged": 2, "too-large": 3}
    images = [{"id": name, "product_id": f"product-{number}"} for name, number in photos.items()]
    folder.images_table.write_text(json.dumps(images))
    for shade, name in enumerate(("b", "a", "of-copy", "c", "of-nobody")):
        write_photo(folder, name, 40 * shade)
    (folder.clean_images(8) / "damaged.jpg").write_bytes(b"\xff\xd8 no photo")
    write_photo(folder, "too-large", 10, size=16)
    return folder


def test_no_normalised_description_stands_in_two_splits(sample_folder):
    products = load_products(sample_folder)
    assert products.groupby("group")["split"].nunique().max() == 1
    assert set(products["split"]) == set(SPLITS)
    assert (products["group"].map(split_of) == products["split"]).all()


def test_products_are_sorted_and_carry_their_text(folder):
    products = load_products(folder.path)
    assert products["id"].tolist() == [f"product-{number}" for number in range(4)]
    assert products["text"][1] == "chair. Folding chair in beech, one scratch."
    assert products["group"][1] == normalised_text(DESCRIPTIONS[1])
    assert load_main_categories(folder.path) == ["Tools"]


def test_labels_of_the_sample_are_positions_among_its_categories(sample_folder):
    products, categories = load_products(sample_folder), load_main_categories(sample_folder)
    assert [categories[code] for code in products["main_category_code"]] == products["main_category"].tolist()


def test_missing_inputs_name_the_script_to_run(folder):
    folder.products_table_clean.write_text("[]")
    with pytest.raises(UserError, match="no listing"):
        load_products(folder.path)
    folder.products_table_clean.unlink()
    with pytest.raises(UserError, match=r"clean_tabular_data\.py"):
        load_products(folder.path)


def test_a_product_counts_as_the_mean_of_its_photos():
    means = mean_per_product(np.array([[1.0, 2], [3, 4], [5, 0]]), np.array([0, 0, 2]), 3)
    assert means[[0, 2]].tolist() == [[2, 3], [5, 0]] and np.isnan(means[1]).all()


def test_test_listings_known_from_train_are_found(folder):
    products = load_products(folder.path)
    seen = listings_seen_in_training(products)
    assert seen["id"].tolist() == ["product-2"]
    assert not seen["same_photo"].any() and seen["similar_text"].tolist() == [True]  # 7 of 11 words
    products.loc[2, "text"] = "Something else altogether"
    write_photo(folder, "not-cleaned", 40 * 3)  # of product-2, and the same photo as c of product-0
    seen = listings_seen_in_training(products, load_photos(folder.path, products, 8))
    assert seen["same_photo"].tolist() == [True] and seen["similar_text"].tolist() == [False]


def test_rows_of_a_split(folder):
    products = load_products(folder.path)
    assert rows_of_split(products, "train").tolist() == [0, 1]
    assert rows_of_split(pd.DataFrame({"split": ["test"]}), "validation").tolist() == []


def test_only_the_labels_of_train_are_shuffled_those_of_a_listing_together(sample_folder):
    products = load_products(sample_folder)
    shuffled = with_shuffled_labels(products, seed=1)
    train, kept = rows_of_split(products, "train"), [name for name in products if name not in LABELS]
    others = np.setdiff1d(np.arange(len(products)), train)
    pd.testing.assert_frame_equal(shuffled.iloc[others], products.iloc[others])
    pd.testing.assert_frame_equal(shuffled[kept], products[kept])
    same = (shuffled["category"] == products["category"]).to_numpy()[train]
    assert same.mean() < 0.2
    before, after = (sorted(map(tuple, table.iloc[train][list(LABELS)].to_numpy())) for table in (products, shuffled))
    assert after == before
    assert with_shuffled_labels(products, seed=1).equals(shuffled)
    prices = with_shuffled_labels(products, seed=1, columns=["price"])
    assert prices["category"].equals(products["category"]) and not prices["price"].equals(products["price"])


def test_near_copies_have_the_same_name_and_text_or_the_same_photo_and_a_similar_name():
    rows = [
        ("Oak table", "Collection only, cash on delivery."),
        ("Bicycle", "Collection only, cash on delivery."),  # the same text alone
        ("OAK TABLE!", "Collection only. Cash on delivery"),  # a copy of the first
        ("🪑", "🔥"),
        ("🚲", "🔥"),  # emoji alone are no equal names
        ("Large oak table", "Four legs"),  # with the photo of the first
        ("Washing machine", "A dealer's"),
        ("Fridge, white", "A dealer's"),  # with the same logo
    ]
    products = pd.DataFrame(rows, columns=["product_name", "product_description"])
    pixels = np.array([0, 0, 1, 1], np.uint8).repeat(3).reshape(4, 1, 1, 3)
    photos = Photos(pixels, ["a", "b", "c", "d"], np.array([0, 5, 6, 7]), {})
    keys, key_rows = near_copy_keys(products, photos)
    of_row = [set(keys[key_rows == row].tolist()) for row in range(len(rows))]
    copies = {(a, b) for a in range(len(rows)) for b in range(a) if of_row[a] & of_row[b]}
    assert copies == {(2, 0), (5, 0)}
    assert list(key_rows) == sorted(key_rows)
