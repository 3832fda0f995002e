"""Tables as people have them: CSV files of any form, and keys, times, values and places written in other ways."""

import csv
import gzip
import io
import json
import sqlite3
import uuid
from contextlib import closing

import pandas as pd
import pytest
from marketplace_database import SCRIPT, assert_refused
from repository import run_script

from clean_tabular_data import clean_products, count_photos
from download_products_table import download_tables
from marketplace.data_folder import DataFolder, read_json
from marketplace.database_source import find_source

ROW = {
    "price": "£1,250 ono",
    "category": "Home & Garden / Tables",
    "product_name": "Oak table | in Hull | Gumtree",
    "product_description": "Oak; 5\" high,\nnearly new – 'café', 100 €",
    "location": "Hull, East Yorkshire",
    "id": "1",
    "create_time": "26/01/2023",
}
IMAGE = {"product_id": "1.0", "id": " a ", "bucket_link": ""}


def csv_bytes(rows: list[dict], separator=",", encoding="utf-8", header=str, **options) -> bytes:
    text = io.StringIO(newline="")
    writer = csv.writer(text, delimiter=separator, **options)
    writer.writerows([map(header, rows[0]), *(row.values() for row in rows)])
    return text.getvalue().encode(encoding)


def joined(folder: DataFolder) -> pd.DataFrame:
    """The clean table after a download from what lies in the folder; each listing has a photo, and each photo one."""
    download_tables(folder, find_source(folder), ["products", "images"], force=True)
    products, duplicates, _ = clean_products(pd.DataFrame(read_json(folder.products_table, "")))
    photos = count_photos(folder, products, duplicates)
    assert isinstance(photos, dict)
    assert photos["photos without clean listing"] == photos["clean listings without photo"] == []
    return products


@pytest.mark.parametrize(
    "options",
    [
        {"separator": ";", "encoding": "utf-8-sig"},
        {"separator": "\t", "encoding": "utf-16"},
        {"separator": "|", "quoting": csv.QUOTE_ALL, "lineterminator": "\n"},
        {"encoding": "cp1252", "header": lambda name: f" {name.replace('_', ' ').title()}"},
        {"header": lambda name: name.title().replace("_", "")},
    ],
)
@pytest.mark.parametrize("suffix", [".csv", ".csv.gz"])
def test_a_csv_export_of_ones_own_becomes_a_clean_table(options, suffix, tmp_path):
    for table, row in (("products", ROW), ("images", IMAGE)):
        content = csv_bytes([row], **options)
        (tmp_path / f"{table}{suffix}").write_bytes(gzip.compress(content) if suffix == ".csv.gz" else content)
    listing = joined(DataFolder(tmp_path)).loc[0]
    assert listing[["id", "product_name", "price"]].tolist() == ["1", "Oak table", 1250.0]
    assert listing["product_description"] == ROW["product_description"]


def test_csv_files_are_named_and_a_row_with_too_many_fields_is_rejected(tmp_path):
    (tmp_path / "p").write_bytes(csv_bytes([ROW]) + b"1,2,3,4,5,6,7,8\n\n1,2\n")
    (tmp_path / "i").write_bytes(csv_bytes([IMAGE]))
    command = (SCRIPT, "--data-dir", tmp_path, "--csv", tmp_path / "p", tmp_path / "i")
    result = run_script(*command)
    assert result.stdout.startswith(f"source: the CSV files {tmp_path}/p, {tmp_path}/i (from --csv)\nproducts: 3 rows")
    report = clean_products(pd.DataFrame(read_json(tmp_path / "products_table.json", "")))[2]
    assert report["rejected"] == {"no id": [""], "no product_name": ["line 4 of p"]}
    assert run_script(*command).stdout.count("already in") == 2


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("products.csv", b"ID,Name,price\n1,2,3\n", "no column product_name, category, product_description, location"),
        ("products.csv", b"ID,Name,price\n1,2,3\n", "only id, Name, price ("),
        ("products.csv", b"", "has no column id"),
        ("products.csv", csv_bytes([ROW]) + b'"not" closed', "line 4 of "),
        ("products.csv", csv_bytes([ROW]), "no CSV file of the table images"),
        ("products.csv.gz", gzip.compress(csv_bytes([ROW]))[:-20], "cannot be read (Compressed file ended"),
        ("products.csv.gz", csv_bytes([ROW]), "cannot be read (Not a gzipped file"),
    ],
)
def test_csv_files_that_cannot_be_used(name, content, words, tmp_path):
    (tmp_path / name).write_bytes(content)
    assert_refused(run_script(SCRIPT, "--data-dir", tmp_path), words, folder=tmp_path)


UUID = uuid.UUID("63af89ee-25ac-40fc-b4af-c23943cbebeb")


@pytest.mark.parametrize(
    ("of_product", "of_image"),
    [(1, 1.0), ("1", "1.0"), (UUID.bytes, str(UUID).upper()), ("k\u200b", "\ufeffk "), ("\uff4b", "k"), (7, "7\n")],
)
def test_a_key_has_one_form_whatever_its_type(of_product, of_image, tmp_path):
    with closing(sqlite3.connect(tmp_path / "marketplace.db")) as database, database:
        for table, row in (("products", ROW | {"id": of_product}), ("images", IMAGE | {"product_id": of_image})):
            database.execute(f"CREATE TABLE {table} ({', '.join(row)})")
            database.execute(f"INSERT INTO {table} VALUES ({', '.join('?' * len(row))})", tuple(row.values()))
    (key,) = joined(DataFolder(tmp_path))["id"]
    assert [image["product_id"] for image in read_json(tmp_path / "images_table.json", "")] == [key]


@pytest.mark.parametrize(
    ("earlier", "later"),
    [
        ("2023-02-03", "03/03/2023"),
        ("31/01/2023", "01/02/2023 00:00"),
        ("2023-01-26 10:30:00.000000123", "2023-01-26T10:30:00.000000124"),
        ("Thu, 26 Jan 2023 10:30:00 +0000", 1674729001),
        ("1674729000", "1674729000123"),
        ("2023-01-26 11:29 BST", "2023-01-26 10:30:00 UTC"),
        ("2023-01-26T11:29:00+01:00", "2023-01-26T10:30:00Z"),
        ("soon", "2001-01-01"),
        (None, "2001-01-01"),
    ],
)
def test_the_row_of_the_later_time_is_kept(earlier, later):
    rows = [ROW | {"create_time": earlier, "price": "£9"}, ROW | {"create_time": later, "price": "£1"}]
    products, _, report = clean_products(pd.DataFrame(rows))
    assert products["price"].tolist() == [1.0]
    assert report["create_time that cannot be read, of a repeated id"] == (["1"] if earlier == "soon" else [])


def rejected(column: str, values: list) -> tuple[list, dict]:
    """Values of `column` in the clean table, and the reports' reasons, with the number of the value as the id."""
    rows = [ROW | {"id": number, "product_name": f"Oak {number}", column: value} for number, value in enumerate(values)]
    products, _, report = clean_products(pd.DataFrame(rows))
    return products[column].tolist(), report["rejected"]


def test_values_keep_their_meaning():
    prices = [999.999, "1.000", "12.500", 20, "£1,250 ONO", "\x8020", "£1.250", "\ue00020", True]
    kept = [999.999, 1.0, 12.5, 20.0, 1250.0]
    assert rejected("price", prices) == (kept, {"price is no amount in pounds": list("5678")})
    categories = ["Home / Tables", ["Home", "Tables"], {"a": 1}, '["Home"]', 7, "7"]
    assert rejected("category", categories) == (["Home / Tables"], {"category is no text": list("12345")})
    assert rejected("product_description", ["100 \x80, it\x92s"])[0] == ["100 €, it’s"]


def test_places_outside_the_islands_are_rejected_unless_they_have_coordinates():
    places = ["Hull, East Yorkshire HU1 1AA", "Hull, East Yorkshire, HU1, UK", "Hull, UK", "Ashford, Surrey, England"]
    abroad = ["York, PA", "Reading, PA, USA", "Reading, Berkshire, USA", "Regina, SK", "Perth, Australia"]
    assert rejected("location", [*places, *abroad]) == (places, {"place unknown": list("45678")})
    point = {"location": "Paris, France", "latitude": "48,86", "longitude": "2,35"}
    products, _, report = clean_products(pd.DataFrame([ROW | point, ROW | point | {"id": "2", "latitude": "north"}]))
    assert products[["latitude", "longitude"]].to_numpy().tolist() == [[48.86, 2.35]]
    assert json.dumps(report["rejected"]) == '{"place unknown": ["2"]}'
