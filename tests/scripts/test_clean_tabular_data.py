"""clean_tabular_data.py: each step on small tables written by hand, then the script on whole data folders."""

import errno
import json
import math
import os
import random
import sys
from unittest import mock

import pandas as pd
import pytest
from repository import run_script

import clean_tabular_data as script
from clean_tabular_data import clean_products
from marketplace.data_folder import DataFolder, UserError, read_json, write_json
from marketplace.listing_text import normalised_text
from marketplace.listings import CLEAN_COLUMNS, read_table


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
    return pd.DataFrame(rows)


def texts(*rows: dict) -> pd.DataFrame:
    return script.cells_to_text(script.drop_unneeded_columns(table(*rows)))


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
    with mock.patch.object(sys, "argv", ["clean_tabular_data.py", "--data-dir", str(folder.path), *map(str, options)]):
        script.main()


def refused(folder, *options) -> str:
    """The one sentence of a run that cannot be done, and that leaves the folder as it was."""
    before = {path: path.is_file() and path.read_bytes() for path in folder.path.rglob("*")}
    with pytest.raises(UserError) as error:
        clean(folder, *options)
    assert {path: path.is_file() and path.read_bytes() for path in folder.path.rglob("*")} == before
    assert "\n" not in str(error.value)
    return str(error.value)


# steps


def test_cells_become_texts_or_nothing():
    cells = [
        "a",
        " N/A ",
        "",
        "null",
        "None",
        "NaN",
        "\xa0",
        None,
        math.nan,
        7,
        7.0,
        7.5,
        "007",
        True,
        "\ud83d",
        "a\r\nb",
    ]
    column = script.cells_to_text(pd.DataFrame({"id": pd.Series(cells, dtype=object)}))["id"]
    assert list(column) == ["a", *[None] * 8, "7", "7", "7.5", "007", "True", None, "a b"]


def test_only_the_needed_columns_stay():
    columns = list(script.drop_unneeded_columns(table(listing(1, extra="x"))).columns)
    assert columns == [*script.NEEDED_COLUMNS, "create_time"]


def test_of_rows_of_one_id_the_latest_stays_then_the_greater():
    rows = [
        listing(1, price="£3.00", create_time="2022-02-26T10:00:00+00:00"),
        listing(1, price="£4.00", create_time="2022-02-26 09:59:59.5"),
        listing(1, price="£5.00", create_time="N/A"),
        listing(2, price="£6.00"),
        listing(2, price="£7.00"),
        listing(2, price="N/A"),
        listing(3),
    ]
    for seed in range(5):
        random.Random(seed).shuffle(rows)
        kept = script.latest_of_each_id(texts(*rows))
        assert dict(zip(kept["id"], kept["price"], strict=True)) == {"001": "£3.00", "002": "£7.00", "003": "£1,250.00"}
    without_time = script.drop_unneeded_columns(table(*rows).drop(columns="create_time"))
    assert len(script.latest_of_each_id(script.cells_to_text(without_time))) == 3


def test_prices_out_of_range_or_none_are_told_apart():
    prices = [
        "£0.09",
        "£0.10",
        "£10,000.00",
        "£10,000.01",
        "-3",
        "FREE",
        "inf",
        "POA",
        "1250",
        " £5 ",
        "GBP 20",
        "£0.00",
    ]
    products, _, report = clean_products(table(*[listing(number, price=price) for number, price in enumerate(prices)]))
    assert list(products["price"]) == [0.1, 10_000.0, 1250.0, 5.0, 20.0]
    assert report["set aside"] == {
        "price is no amount in pounds": ["006", "007"],
        "price outside £0.1 to £10000": ["000", "003", "004", "005", "011"],
    }


def test_duplicates_point_to_the_first_by_id_whatever_their_order():
    same = {"product_name": "A lamp", "product_description": "It shines."}
    rows = [listing(5, **same), listing(2, **same), listing(9, **same), listing(1, **same, location="Leeds")]
    assert clean_products(table(*rows))[1] == {"005": "002", "009": "002"}
    assert clean_products(table(*rows[::-1]))[1] == {"005": "002", "009": "002"}
    # the copy of a listing that is set aside takes its place
    _, duplicates, report = clean_products(table(*rows, listing(0, **same, price="N/A")))
    assert duplicates == {"005": "002", "009": "002"} and report["set aside"]["duplicate"] == ["005", "009"]
    # a listing set aside for its place keeps none of its copies
    nowhere = [listing(number, **same, location="Nosuchtown, Nowhere") for number in range(3)]
    products, duplicates, _ = clean_products(table(*nowhere, listing(3)))
    assert list(products["id"]) == ["003"] and duplicates == {}


def test_a_copy_is_found_though_title_and_banner_differ():
    rows = [
        listing(1, product_name="A lamp | in Poole, Dorset | Gumtree", product_description="It shines."),
        listing(
            2, product_name="A lamp", product_description="It shines. Posted by a seller in Lamps in Poole. 1 May 2021"
        ),
    ]
    assert clean_products(table(*rows))[1] == {"002": "001"}


def test_places_are_told_by_rule_and_never_swapped():
    locations = [
        "Ashford, Kent",
        "Ashford, Surrey",
        "Woking, Surrey",
        "Nosuchtown, Bristol",
        "Nosuchtown, Kent",
        "Nowhere",
    ]
    rows = [listing(number, location=location) for number, location in enumerate(locations)]
    products, _, report = clean_products(table(*rows))
    assert report["located by"] == {"town": 3, "county name": 1, "county mean": 1}
    assert report["set aside"] == {"place unknown": ["005"]}
    by_id = products.set_index("id")
    assert by_id.loc["000", "longitude"] > 0.5 and by_id.loc["001", "longitude"] < 0
    assert by_id.loc["004", "latitude"] == by_id.loc["000", "latitude"]
    assert products["latitude"].between(49, 61).all() and products["longitude"].between(-9, 2).all()


def test_a_town_of_the_name_far_from_the_county_is_reported():
    towns = ["Truro", "Gateshead", "Penzance"]
    rows = [listing(number, location=f"{town}, Cornwall") for number, town in enumerate(towns)]
    report = clean_products(table(*rows))[2]
    assert report["town far from its county"] == ["001"]


def test_a_county_that_is_not_understood_is_reported():
    locations = [
        "Poole, Dorset, UK",
        "Whitburn, Tyne & Waer",
        "Hull, Nowhere",
        "Whitburn, Tyne & Wear",
        "Leeds, Tyne & Waer",
    ]
    rows = [listing(number, location=location) for number, location in enumerate(locations)]
    products, _, report = clean_products(table(*rows))
    assert report["county not understood"] == {"nowhere": ["002"], "tyne and waer": ["001", "004"]}
    assert products.set_index("id").loc["003", "longitude"] > -1.5, "not in West Lothian"


def test_prices_that_are_numbers_have_one_reading():
    rows = [listing(number, price=price) for number, price in enumerate([12.345, 1250.0, 5, "12.345"])]
    products, _, report = clean_products(table(*rows))
    assert list(products["price"]) == [12.345, 1250.0, 5.0]
    assert report["set aside"] == {"price is no amount in pounds": ["003"]}


def test_spellings_of_a_category_are_one_category():
    main, leaf = "Home & Garden / Lamps", "Hobbies / Ham/Amateur Radios"
    spellings = [
        *(main, main, "Home &amp; Garden / Lamps", "Home & Garden > lamps", "HOME & GARDEN/Lamps", "home & garden"),
        *("Home &amp; Garden &gt; Mirrors", "Ｈome & Garden » Mirrors", leaf, leaf, "hobbies/ham/amateur radios"),
        *("Café / Tea", "Cafe\u0301 / Tea", "Music/Films"),
    ]
    rows = [listing(number, category=category) for number, category in enumerate(spellings)]
    products, _, report = clean_products(table(*rows))
    assert list(products["category"]) == [
        *[main] * 5, "Home & Garden", *["Home & Garden / Mirrors"] * 2, *[leaf] * 3, *["Café / Tea"] * 2, "Music/Films"
    ]  # fmt: skip
    assert set(products["main_category"]) == {"Home & Garden", "Hobbies", "Café", "Music/Films"}
    merged = report["category spellings merged"]
    assert len(merged) == 8 and merged["HOME & GARDEN/Lamps -> Home & Garden / Lamps"] == 1
    assert report["main category"] == {"Café": 2, "Hobbies": 3, "Home & Garden": 8, "Music/Films": 1}
    again = clean_products(table(*rows[::-1]))[0]
    assert list(again["category"]) == list(products["category"])


def test_the_spelling_of_most_rows_names_the_category():
    rows = [listing(number, category="Home &amp; Garden" if number else "Home & Garden") for number in range(3)]
    assert set(clean_products(table(*rows))[0]["main_category"]) == {"Home &amp; Garden"}


@pytest.mark.parametrize(
    ("spellings", "expected"),
    [
        # rows whose path is divided anew have no vote
        (["A / B", "A / B", "a / b", "A/B", "A/B"], ["A / B"] * 5),
        (["a / b", "A / B", "A / B / c", "A/b / C"], ["A / B", "A / B", "A / B / c", "A / B / c"]),
        (["Home / Mirrors", "Home/Mirrors / Round"], ["Home / Mirrors", "Home / Mirrors / Round"]),
        (["A -> B", "A / B"], ["A / B"] * 2),
        (["A / B", "A // B", "A / / B /", "A /", "A"], ["A / B"] * 3 + ["A"] * 2),
    ],
)
def test_a_path_with_slashes_alone_is_divided_as_others_are(spellings, expected):
    rows = [listing(number, category=category) for number, category in enumerate(spellings)]
    assert list(clean_products(table(*rows))[0]["category"]) == expected


def test_a_copy_in_another_unicode_form_or_with_entities_is_dropped():
    texts_of_copy = [
        "Café & bar £5",
        "Cafe\u0301 & bar £5",
        "Café &amp; bar &pound;5",
        "Ｃafé &amp;amp; bar £5",
        "Cafe & bar £5",
    ]
    rows = [listing(number, product_name=text, product_description=text) for number, text in enumerate(texts_of_copy)]
    products, duplicates, report = clean_products(table(*rows))
    assert list(products["id"]) == ["000", "004"] and report["set aside"] == {"duplicate": ["001", "002", "003"]}
    assert duplicates == dict.fromkeys(["001", "002", "003"], "000")
    assert list(products["product_name"]) == [texts_of_copy[0], texts_of_copy[4]]


def test_a_banner_over_lines_is_removed_and_reported():
    broken = "Nice.\nPosted by a seller\nin Home & Garden\nin Reading, Berkshire. 1 May 2021"
    rows = [listing(1, product_description=broken), listing(2, product_description="Nice. Posted\nby Friday")]
    products, _, report = clean_products(table(*rows, listing(3)))
    assert list(products["product_description"][:2]) == ["Nice.", "Nice. Posted\nby Friday"]
    assert report["banners removed"] == 1
    assert report["descriptions that still say Posted by"] == ["002"]


def test_categories_are_coded_in_sorted_order_also_one_never_seen():
    paths = [
        "Zithers / Small",
        "Appliances",
        "Baby & Kids Stuff / CDs/DVDs",
        "éclairs / x",
        "Appliances / Ovens",
        "/ x",
    ]
    products, _, report = clean_products(table(*[listing(number, category=path) for number, path in enumerate(paths)]))
    assert list(products["main_category"]) == ["Zithers", "Appliances", "Baby & Kids Stuff", "éclairs", "Appliances"]
    assert list(products["main_category_code"]) == [2, 0, 1, 3, 0]
    assert list(products["category"]) == paths[:5]
    assert report["set aside"] == {"no main category": ["005"]}


def test_a_text_of_which_nothing_is_left_is_set_aside():
    rows = [
        listing(1, product_name=" | in Poole, Dorset | Gumtree"),
        listing(2, product_description="Posted by a seller."),
    ]
    assert clean_products(table(*rows, listing(3)))[2]["set aside"] == {
        "no product_name after cleaning": ["001"],
        "no product_description after cleaning": ["002"],
    }


def test_steps_are_idempotent():
    rows = texts(*[listing(number) for number in range(5)], listing(4, price="£1"), listing(5, location="Nowhere"))
    steps = [
        script.drop_unneeded_columns,
        script.cells_to_text,
        script.latest_of_each_id,
        script.drop_nulls("price"),
        script.clean_texts,
        script.price_to_float,
        script.drop_prices_outside(0.1, 10_000),
        script.merge_categories,
        script.add_main_category,
        script.drop_duplicates,
        script.add_main_category_code,
        script.add_place,
        script.add_split,
    ]
    for step in steps:
        before = rows.copy()
        rows = step(rows)
        pd.testing.assert_frame_equal(step(rows), rows)
        pd.testing.assert_index_equal(before.index.intersection(rows.index), rows.index)


def test_no_text_stands_in_two_splits():
    forms = ["A red lamp", "a RED lamp!", "A\rred   lamp.", "a red—lamp 😀", "Ａ red lamp"]
    rows = [listing(number, product_description=forms[number % 5] + f" {number // 5}") for number in range(500)]
    products = clean_products(table(*rows))[0]
    groups = products.groupby(products["product_description"].map(normalised_text))["split"]
    assert groups.ngroups == 100 and (groups.nunique() == 1).all()
    assert set(products["split"]) == {"train", "validation", "test"}


# the script


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
    assert (report["rows in"], report["rows out"], report["set aside"]) == (30, 29, {"duplicate": ["029"]})
    assert "rows out: 29" in result.stdout and "set aside / duplicate: 1" in result.stdout
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
        ([], "has no rows"),
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
    "options", [("--min-price", "nan"), ("--min-price", "-1"), ("--min-price", "5", "--max-price", "4")]
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
