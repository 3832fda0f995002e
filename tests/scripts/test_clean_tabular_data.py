"""clean_tabular_data.py: its rules on small tables written by hand and on random ones; the script on whole folders."""

import errno
import json
import os
import random
import sys

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from repository import run_script

import clean_tabular_data as script
from clean_tabular_data import COLUMNS, clean_products
from marketplace.data_folder import DataFolder, UserError, read_json, write_json
from marketplace.gazetteer import county_centres
from marketplace.listing_text import is_null, normalised_text
from marketplace.listings import CLEAN_COLUMNS, read_table, split_of


def listing(number: int, **cells) -> dict:
    """A raw row that is good in every column, but for `cells`."""
    return {
        "id": f"{number:03}",
        "product_name": f"Oak table {number} | in Poole, Dorset | Gumtree",
        "category": "Home & Garden / Dining, Living Room Furniture / Tables",
        "product_description": f"A table of oak,\r number {number}.",
        "price": "£1,250.00",
        "location": "Poole, Dorset",
        "page_id": 1_400_000_000 + number,
        "create_time": "2022-02-26T02:07:05.000",
    } | cells


def table(*rows: dict) -> pd.DataFrame:
    return pd.DataFrame(rows, dtype=object)


def with_each(column: str, *cells) -> pd.DataFrame:
    """Listings 000, 001, ... with one of `cells` each in a column."""
    return table(*[listing(number, **{column: cell}) for number, cell in enumerate(cells)])


# the rules


def test_cells_become_clean_texts_or_are_rejected():
    nothing = [" N/A ", "", "null", "None", "NaN", "\xa0", None, float("nan"), "\ud83d"]
    products, _, report = clean_products(with_each("location", "Poole,\r\n Dorset", *nothing))
    assert list(products["location"]) == ["Poole, Dorset"]
    assert report["rejected"] == {"no location": [f"{number:03}" for number in range(1, 10)]}
    rows = [
        listing(1, product_name=" | in Poole, Dorset | Gumtree"),
        listing(2, product_description="Posted by a seller in Lamps in Poole."),
        listing(3, id=None),
        listing(4, id=4),
    ]
    products, _, report = clean_products(table(*rows))
    assert list(products["id"]) == ["4"]
    assert report["rejected"] == {"no id": [""], "no product_name": ["001"], "no product_description": ["002"]}


def test_of_rows_of_one_id_the_latest_stays_then_the_greater():
    rows = [
        listing(1, price="£3.00", create_time="2022-02-26T10:00:00"),
        listing(1, price="£4.00", create_time="2022-02-26T09:59:59.5"),
        listing(1, price="£5.00", create_time="N/A"),
        listing(2, price="£6.00"),
        listing(2, price="£7.00"),
        listing(2, price="N/A"),
    ]
    for seed in range(5):
        random.Random(seed).shuffle(rows)
        products, _, report = clean_products(table(*rows))
        assert dict(zip(products["id"], products["price"], strict=True)) == {"001": 3, "002": 7}
        assert report["rejected"] == {"another row of the same id": ["001", "001", "002", "002"]}
    assert len(clean_products(table(*rows).drop(columns="create_time"))[0]) == 2


def test_prices_are_numbers_or_texts_within_the_range():
    prices = ["£0.09", "£0.10", "£10,000.00", "£10,000.01", "POA", "£0.00", 12.345, 1250.0, 5]
    products, _, report = clean_products(with_each("price", *prices))
    assert list(products["price"]) == [0.1, 10_000, 12.345, 1250, 5] and products["price"].dtype == np.float64
    assert report["rejected"] == {
        "price is no amount in pounds": ["004"],
        "price outside £0.1 to £10000": ["000", "003", "005"],
    }


def test_duplicates_point_to_the_first_by_id_whatever_their_order():
    same = {"product_name": "A lamp", "product_description": "It shines."}
    banner = "It shines. Posted by a seller in Lamps in Poole. 1 May 2021"
    title = "A lamp | in Poole, Dorset | Gumtree"
    rows = [
        listing(5, **same),
        listing(2, product_name=title, product_description=banner),
        listing(9, **same),
        listing(1, **same, location="Leeds"),
    ]
    assert clean_products(table(*rows))[1] == {"005": "002", "009": "002"}
    assert clean_products(table(*rows[::-1]))[1] == {"005": "002", "009": "002"}
    # the copy of a listing that is rejected takes its place
    _, duplicates, report = clean_products(table(*rows, listing(0, **same, price="N/A")))
    assert duplicates == {"005": "002", "009": "002"} and report["rejected"]["duplicate"] == ["005", "009"]


def test_places_come_from_the_coordinates_then_from_the_location():
    locations = ["Ashford, Kent", "Ashford, Surrey", "Downend, Bristol", "Gateshead, Cornwall", "Nowhere"]
    rows = with_each("location", *locations, "Nowhere")
    rows[["latitude", "longitude"]] = [[None, "x"]] * 2 + [[None, None], ["", ""], [91, 0], ["51.5", -0.1]]
    products, _, report = clean_products(rows)
    assert report["located by"] == {"town": 2, "county name": 1, "county centre": 1, "coordinates": 1}
    assert report["rejected"] == {"place unknown": ["004"]}
    places = products.set_index("id")[["latitude", "longitude"]]
    assert places.loc["000", "longitude"] > 0.5 and places.loc["001", "longitude"] < 0
    # Gateshead is further than 80 km from Cornwall
    assert tuple(places.loc["003"]) == county_centres()["cornwall"] and tuple(places.loc["005"]) == (51.5, -0.1)


def test_categories_are_coded_in_sorted_order_also_one_never_seen():
    paths = ["Zithers / Small", "Appliances", "Baby & Kids Stuff / CDs/DVDs", "éclairs / x", "Appliances / Ovens"]
    products, _, report = clean_products(with_each("category", *paths))
    assert list(products["main_category"]) == ["Zithers", "Appliances", "Baby & Kids Stuff", "éclairs", "Appliances"]
    assert list(products["main_category_code"]) == [2, 0, 1, 3, 0] and list(products["category"]) == paths
    assert report["main category"] == {"Appliances": 2, "Baby & Kids Stuff": 1, "Zithers": 1, "éclairs": 1}


def test_banners_are_counted_and_what_is_left_of_them_is_named():
    texts = ["Nice. Posted by a seller in Lamps in Poole. 1 May 2021", "Nice. Posted by Friday", "A lamp"]
    report = clean_products(with_each("product_description", *texts))[2]
    assert (report["banners removed"], report["descriptions that still say Posted by"]) == (1, ["001"])


def test_no_text_stands_in_two_splits():
    forms = ["A red lamp", "a RED lamp!", "A\rred   lamp.", "a red—lamp 😀", "Ａ red lamp"]
    texts = [f"{forms[number % 5]} {number // 5}" for number in range(500)]
    products = clean_products(with_each("product_description", *texts))[0]
    groups = products.groupby(products["product_description"].map(normalised_text))["split"]
    assert groups.ngroups == 100 and (groups.nunique() == 1).all()
    assert set(products["split"]) == {"train", "validation", "test"}


# random tables

ANYTHING = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.lists(st.text(max_size=3), max_size=2)
)


def cell(*good: str):
    """Mostly one of `good`, else something that says nothing, else anything."""
    likely = st.sampled_from(good)
    return st.one_of(*[likely] * 6, st.sampled_from(["N/A", "", " ", None]), ANYTHING, likely.map(lambda x: f" {x}\r"))


BANNERS = (
    "It shines. Posted by a seller in Lamps in Poole. 25 February 2022",
    "Posted by a seller in Home & Garden, Lamps in Poole. February 25, 2022 cash only",
)
ROWS = st.fixed_dictionaries(
    {
        "id": cell("1", "2", "3", "4", "05", "5"),
        "product_name": cell("A lamp", "A lamp | in Poole, Dorset | Gumtree", "Oak table", "Tischlein 😀"),
        "category": cell("Home & Garden / Lamps", "Appliances", "Appliances / Ovens", "Novelties / A / B", "A/B / "),
        "product_description": cell("It shines.", "it SHINES!", *BANNERS, "Old oak\r\u2028 & more"),
        "price": cell("£1,250.00", "1250", " £5 ", "GBP 20", "FREE", "-3", "£0.00", "£10,000.00", "£1.250"),
        "location": cell("Poole, Dorset", "Ashford, Kent", "Ashford, Surrey, UK", "Nosuchtown, Kent", "Leeds"),
    },
    optional={
        "create_time": cell("2022-02-26T02:07:05.000", "2022-02-26", "2021-01-01T00:00:00Z"),
        "page_id": ANYTHING,
    },
)


def assert_contract(products: pd.DataFrame, duplicates: dict[str, str]) -> None:
    """What data/README.md promises of the clean table."""
    assert list(products.columns) == list(CLEAN_COLUMNS)
    assert products["id"].is_unique and products["id"].is_monotonic_increasing
    for name in ("id", "product_name", "product_description", "category", "main_category", "location", "split"):
        assert all(isinstance(text, str) and text == text.strip() and not is_null(text) for text in products[name])
    for name in ("price", "latitude", "longitude"):
        assert products.empty or products[name].dtype == np.float64
    assert products["price"].between(0.1, 10_000).all()
    assert products["latitude"].between(49, 61).all() and products["longitude"].between(-9, 2.5).all()
    main_categories = sorted(set(products["main_category"]))
    assert [main_categories[code] for code in products["main_category_code"]] == list(products["main_category"])
    assert [split_of(normalised_text(text)) for text in products["product_description"]] == list(products["split"])
    assert not products["product_description"].str.contains("Posted by a seller|\r").any()
    assert not products["product_name"].str.contains(r"\| Gumtree|[\r\n]").any()
    assert not products.duplicated(["product_name", "product_description", "location"]).any()
    assert set(duplicates.values()) <= set(products["id"]) and not set(duplicates) & set(products["id"])
    assert all(kept < copy for copy, kept in duplicates.items())


@settings(max_examples=100, deadline=None)
@given(rows=st.lists(ROWS, min_size=1, max_size=12), random=st.randoms(use_true_random=False))
def test_random_tables_keep_the_contract_in_any_order(rows, random):
    raw = pd.DataFrame(rows, columns=[*COLUMNS, "create_time", "page_id"], dtype=object)
    products, duplicates, report = clean_products(raw)
    assert_contract(products, duplicates)
    assert len(raw) == len(products) + sum(map(len, report["rejected"].values()))
    json.dumps(report, allow_nan=False).encode("utf-8")
    shuffled = rows.copy()
    random.shuffle(shuffled)
    other, other_duplicates, other_report = clean_products(pd.DataFrame(shuffled, columns=raw.columns, dtype=object))
    pd.testing.assert_frame_equal(other, products)
    assert other_duplicates == duplicates and other_report == report


# the script


@pytest.fixture
def folder(tmp_path):
    """A data folder of 30 good listings in two categories, one with a copy, and four photos."""
    rows = [listing(number) for number in range(28)]
    rows += [listing(28, category="Appliances / Ovens"), listing(29, product_name="Oak table 3")]
    rows[29] |= {"product_description": rows[3]["product_description"]}
    write_json(tmp_path / "products_table.json", rows)
    images = [{"id": f"p{listing_id}", "product_id": listing_id} for listing_id in ("000", "029", "030", "001")]
    write_json(tmp_path / "images_table.json", images)
    (tmp_path / "images").mkdir()
    for name in ("p000.jpg", "p029.JPG", "stranger.jpeg", "notes.txt"):
        (tmp_path / "images" / name).touch()
    return DataFolder(tmp_path)


def clean(folder, *options) -> None:
    """Run the script's main in this process, which has read the gazetteer already."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["clean_tabular_data.py", "--data-dir", str(folder.path), *map(str, options)])
        script.main()


def refused(folder, *options) -> str:
    """The one sentence of a run that cannot be done, and that leaves the folder as it was."""
    before = {path: path.is_file() and path.read_bytes() for path in folder.path.rglob("*")}
    with pytest.raises(UserError) as error:
        clean(folder, *options)
    assert {path: path.is_file() and path.read_bytes() for path in folder.path.rglob("*")} == before
    assert "\n" not in str(error.value)
    return str(error.value)


def test_files_report_and_output(folder):
    result = run_script("clean_tabular_data.py", "--data-dir", folder.path)
    assert result.returncode == 0 and result.stderr == ""
    products = read_table(folder.products_table_clean, "clean_tabular_data.py", CLEAN_COLUMNS)
    assert list(products.columns) == list(CLEAN_COLUMNS) and len(products) == 29
    assert products.loc[0, ["product_name", "product_description", "price"]].tolist() == [
        "Oak table 0",
        "A table of oak,\nnumber 0.",
        1250.0,
    ]
    assert read_json(folder.main_categories, "") == ["Appliances", "Home & Garden"]
    assert read_json(folder.duplicates, "") == {"029": "003"}
    report = read_json(folder.report("clean_tabular"), "")
    assert (report["rows in"], report["rows out"], report["rejected"]) == (30, 29, {"duplicate": ["029"]})
    assert "rows out: 29" in result.stdout and "rejected / duplicate: 1" in result.stdout
    photos = report["photos"]
    assert photos["photos without clean listing"] == ["p030", "stranger"]
    assert len(photos["clean listings without photo"]) == 26 and "003" not in photos["clean listings without photo"]


def test_names_and_ids_that_are_no_text_are_reported(folder):
    (folder.images / "caf\udce9.jpg").touch()  # bytes that are no UTF-8
    images = [*read_json(folder.images_table, ""), {"id": "half \ud83d", "product_id": "1\ud83d"}]
    write_json(folder.images_table, images)
    products = read_json(folder.products_table, "")
    products[0] |= {"category": "Lamps \ud83d", "product_description": "half \ud83d", "location": "Poole\udce9, Dorset"}
    write_json(folder.products_table, products)
    result = run_script("clean_tabular_data.py", "--data-dir", folder.path)
    assert (result.returncode, result.stderr) == (0, "")
    photos = read_json(folder.report("clean_tabular"), "")["photos"]["photos without clean listing"]
    assert photos == ["caf\udce9", "half \ud83d", "p030", "stranger"]
    assert "Lamps" in read_json(folder.main_categories, "")


def test_without_images_table_photos_are_not_counted(folder):
    folder.images_table.unlink()
    clean(folder)
    assert "missing" in read_json(folder.report("clean_tabular"), "")["photos"]


def test_again_and_in_another_order_gives_the_same_bytes(folder):
    def outputs():
        paths = (folder.products_table_clean, folder.main_categories, folder.duplicates)
        return [path.read_bytes() for path in paths]

    clean(folder)
    first = outputs()
    clean(folder)
    assert outputs() == first
    rows = json.loads(folder.products_table.read_text())
    random.Random(1).shuffle(rows)
    write_json(folder.products_table, rows)
    clean(folder)
    assert outputs() == first


def test_its_own_output_is_refused(folder):
    clean(folder)
    folder.products_table.write_bytes(folder.products_table_clean.read_bytes())
    assert "clean already" in refused(folder)
    result = run_script("clean_tabular_data.py", "--data-dir", folder.path)
    assert result.returncode == 1 and result.stderr.startswith("error: ") and len(result.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([], "(no rows)"),
        ([{"id": "1", "price": "£5"}], "has no column product_name, category"),
        ([listing(1, price="N/A"), listing(2, price="POA")], "1 no price, 1 price is no amount in pounds"),
        ([listing(1, id=None)], "1 no id"),
        (["text"], "not readable as a table"),
    ],
)
def test_nothing_usable_ends_in_one_sentence(folder, rows, words):
    write_json(folder.products_table, rows)
    assert words in refused(folder)


def test_a_missing_or_broken_table_ends_in_one_sentence(folder):
    folder.products_table.write_text('[{"id": "1"')
    assert "not readable" in refused(folder)
    folder.products_table.unlink()
    assert "run download_products_table.py first" in refused(folder)


def test_the_range_of_prices_can_be_set(folder):
    assert "price outside £0.1 to £1000" in refused(folder, "--max-price", 1000)
    clean(folder, "--min-price", 1250, "--max-price", 1250)


@pytest.mark.parametrize(
    "options",
    [("--min-price", "0"), ("--min-price", "nan"), ("--min-price", "-1"), ("--min-price", "5", "--max-price", "4")],
)
def test_wrong_arguments_end_in_2(tmp_path, options):
    with pytest.raises(SystemExit) as end:
        clean(DataFolder(tmp_path), *options)
    assert end.value.code == 2


def test_a_full_disk_leaves_the_earlier_files_whole(folder, monkeypatch):
    clean(folder)
    before = {path: path.read_bytes() for path in folder.path.glob("*.json")}

    def full_disk(path, products):
        path.write_text("[{")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

    monkeypatch.setattr(script, "write_table", full_disk)
    with pytest.raises(OSError, match="space"):
        clean(folder, "--max-price", 1250)
    assert {path: path.read_bytes() for path in folder.path.iterdir() if path.is_file()} == before
