"""clean_tabular_data.py on random tables: whatever comes in, the output keeps the contract of data/README.md."""

import json
import re

import numpy as np
import pandas as pd
from hypothesis import given, settings
from hypothesis import strategies as st

from clean_tabular_data import NEEDED_COLUMNS, clean_products
from marketplace.listing_text import is_null, normalised_text
from marketplace.listings import CLEAN_COLUMNS, read_table, split_of, write_table

ANYTHING = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.lists(st.text(max_size=3), max_size=2)
)


def cell(*good: str):
    """Mostly one of `good`, else something that says nothing, else anything."""
    likely = st.sampled_from(good)
    return st.one_of(
        *[likely] * 6, st.sampled_from(["N/A", "", " ", "null", None]), ANYTHING, likely.map(lambda x: f" {x}\r")
    )


ROWS = st.fixed_dictionaries(
    {
        "id": cell("1", "2", "3", "4", "05", "5"),
        "product_name": cell("A lamp", "A lamp | in Poole, Dorset | Gumtree", "Oak table", "Tischlein 😀"),
        "category": cell(
            *("Home & Garden / Lamps", "Appliances", "Appliances / Ovens", "Novelties / A / B"),
            *("Home &amp; Garden > lamps", "HOME & GARDEN/Lamps", "Novelties / A/B", "> / &gt;", "Appliances / / "),
        ),
        "product_description": cell(
            "It shines.",
            "it SHINES!",
            "It shines. Posted by a seller in Lamps in Poole. 25 February 2022",
            "Posted by a seller in Home & Garden, Lamps in Poole. February 25, 2022 cash only",
            "Posted by Jo in Poole.",
            "It shines.\nPosted by a seller\nin Home & Garden\nin Reading,\nBerkshire. Cash",
            "Old oak\r\u2028 & more",
        ),
        "price": cell(
            "£1,250.00", "1250", " £5 ", "GBP 20", "FREE", "-3", "inf", "£0.00", "£10,000.00", "1,25", "£1.250"
        ),
        "location": cell(
            *("Whitburn, Tyne & Wear", "Newport, Wales", "Newport, Walse, UK", "Ashford, Surrey, United Kingdom"),
            "Poole, Dorset",
            "Ashford, Kent",
            "Ashford, Surrey",
            "Nosuchtown, Bristol",
            "Nosuchtown, Kent",
            "Leeds",
        ),
    },
    optional={
        "create_time": cell("2022-02-26T02:07:05.000", "2022-02-26", "2021-01-01T00:00:00Z"),
        "page_id": ANYTHING,
    },
)


def assert_contract(products: pd.DataFrame, duplicates: dict[str, str], raw_ids: set) -> None:
    assert list(products.columns) == list(CLEAN_COLUMNS)
    assert products["id"].is_unique and products["id"].is_monotonic_increasing and set(products["id"]) <= raw_ids
    for name in ("id", "product_name", "product_description", "category", "main_category", "location", "split"):
        assert all(isinstance(text, str) and text == text.strip() and not is_null(text) for text in products[name])
    for name in ("price", "latitude", "longitude"):
        assert products[name].dtype == np.float64
    assert products["price"].between(0.1, 10_000).all()
    assert products["latitude"].between(49, 61).all() and products["longitude"].between(-9, 2.5).all()
    main_categories = sorted(set(products["main_category"]))
    assert products["main_category_code"].dtype == np.int64
    assert [main_categories[code] for code in products["main_category_code"]] == list(products["main_category"])
    assert [split_of(normalised_text(text)) for text in products["product_description"]] == list(products["split"])
    assert not products["product_description"].str.contains("Posted by (?:a seller|Jo)|\r").any()
    assert not products["product_name"].str.contains(r"\| Gumtree|[\r\n]").any()
    assert not products.duplicated(["product_name", "product_description", "location"]).any()
    assert set(duplicates.values()) <= set(products["id"]) and not set(duplicates) & set(products["id"])
    assert all(kept < copy for copy, kept in duplicates.items())


@settings(max_examples=100, deadline=None)
@given(rows=st.lists(ROWS, min_size=1, max_size=12), random=st.randoms(use_true_random=False))
def test_random_tables_keep_the_contract(rows, random):
    raw = pd.DataFrame(rows, columns=[*NEEDED_COLUMNS, "create_time", "page_id"], dtype=object)
    products, duplicates, report = clean_products(raw)
    raw_ids = {re.sub(r"\.0$", "", str(value)) for value in raw["id"]} | set(report["set aside"]) | set(products["id"])
    assert_contract(products, duplicates, raw_ids)
    assert len(raw) == len(products) + sum(map(len, report["set aside"].values()))
    json.dumps(report, allow_nan=False).encode("utf-8")

    shuffled = rows.copy()
    random.shuffle(shuffled)
    other, other_duplicates, other_report = clean_products(pd.DataFrame(shuffled, columns=raw.columns, dtype=object))
    pd.testing.assert_frame_equal(other, products)
    assert list(other_duplicates.items()) == list(duplicates.items()) and other_report == report


@settings(max_examples=30, deadline=None)
@given(rows=st.lists(ROWS, min_size=1, max_size=8))
def test_a_random_table_comes_back_from_its_file_as_it_was(rows, tmp_path_factory):
    products = clean_products(pd.DataFrame(rows, columns=NEEDED_COLUMNS, dtype=object))[0]
    path = tmp_path_factory.getbasetemp() / "random_table.json"
    write_table(path, products)
    read = read_table(path, "a script", CLEAN_COLUMNS)
    assert read.to_dict("records") == products.to_dict("records")
