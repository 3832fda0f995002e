"""Downloading the tables, from a real PostgreSQL server and from SQLite: what arrives, from where, and when again."""

import contextlib
import json
import sqlite3
import subprocess
import sys

import pytest
import sqlalchemy
from marketplace_database import SCRIPT, assert_refused, fill, fresh_marketplace, image, product
from repository import ROOT, run_script

AWKWARD_TEXTS = [
    *(None, "", "N/A", "null", "0012", "1e5", "2022-02-26 10:00:00", "ends in CR\r, LF\n, both\r\n and a tab\t"),
    *("a 🪑, e\u0301, \u2028, \x1b[31m, \\u0041, \"quoted\", 'single', back\\slash", "é🪑\r\n" * 25_000),
]
ENVIRONMENT = {"PATH": "/usr/bin:/bin", "HOME": "/nonexistent"}


@pytest.fixture
def marketplace(postgres, tmp_path):
    with fresh_marketplace(postgres, tmp_path) as made:
        yield made


@pytest.fixture
def sqlite_folder(tmp_path_factory):
    """A data folder whose marketplace.db has three products and images."""
    folder = tmp_path_factory.mktemp("sqlite") / "a ?#%20"
    folder.mkdir()
    fill(
        sqlalchemy.URL.create("sqlite", database=f"{folder}/marketplace.db"),
        [product(i) for i in range(3)],
        [image(i) for i in range(3)],
    )
    return folder


def test_both_tables_arrive_and_the_report_names_the_source(marketplace):
    result = marketplace.download()
    assert (result.returncode, result.stderr) == (0, "")
    place = f"the PostgreSQL database {marketplace.database} at 127.0.0.1:{marketplace.server.port}"
    assert result.stdout.startswith(f"source: {place} (from {marketplace.credentials})\n")
    expected = product(1) | {"create_time": "2022-02-26T10:30:01.25"}
    assert list(marketplace.table("products")[1].items()) == list(expected.items())
    assert marketplace.table("images")[2] == image(2) | {"create_time": "2022-02-26T00:00:00.5"}
    text = (marketplace.folder / "download_report.json").read_text()
    report = json.loads(text)
    assert marketplace.server.password not in text
    assert report["downloaded"] == ["products", "images"] and report["tables"]["products"]["rows"] == 3
    source = {"host": "127.0.0.1", "port": str(marketplace.server.port), "database": marketplace.database}
    assert report["tables"]["images"]["source"] == source | {"table": "images"}
    names = ["download_report.json", "images_table.json", "products_table.json"]
    assert sorted(path.name for path in marketplace.folder.iterdir()) == names


@pytest.mark.parametrize("kind", ["postgresql", "sqlite"])
def test_texts_arrive_exactly(kind, marketplace, tmp_path):
    rows = [product(10 + i, product_description=text, price=text) for i, text in enumerate(AWKWARD_TEXTS)]
    if kind == "sqlite":
        fill(f"sqlite:///{marketplace.folder}/marketplace.db", rows, [])
        result = run_script(SCRIPT, "--data-dir", marketplace.folder)
    else:
        marketplace.execute("DELETE FROM products; DELETE FROM images")
        fill(marketplace.url, rows, [])
        result = marketplace.download()
    assert result.returncode == 0, result.stderr
    records = marketplace.table("products")
    assert [record["product_description"] for record in records] == AWKWARD_TEXTS
    assert [record["price"] for record in records] == AWKWARD_TEXTS
    assert marketplace.table("images") == [], "an empty table is an empty list"


VALUES = {  # in SQL -> in the file
    "12.10::numeric(12, 2)": 12.1,
    "1e23::float8": 1e23,
    "9007199254740993": 9007199254740993,
    "'NaN'::float8": "NaN",
    "true": True,
    "NULL::interval": None,
    "'a,b'::letters": "a,b",
    "date '-infinity'": "-infinity",
    "timestamp '20000-01-01'": "20000-01-01T00:00:00",
    "timestamp '0044-03-15 12:00 BC'": "0044-03-15T12:00:00 BC",
    "timestamptz '2022-02-26 10:00+00'": "2022-02-26T19:00:00+09:00",
    "time '24:00'": "24:00:00",
    "interval '1 year 2 mons'": "1 year 2 mons",
    "point(1.5, -2)": "(1.5,-2)",
    "'\\x00ff'::bytea": "\\x00ff",
    "ARRAY[1, NULL]": [1, None],
    """'{"a": "\\ud83d"}'::json""": {"a": "\ud83d"},
}


def test_values_of_other_types_and_further_columns_are_kept(marketplace):
    columns = ", ".join(f"{value} AS c{number}" for number, value in enumerate(VALUES))
    marketplace.execute(
        "DROP TABLE images; CREATE TYPE letters AS ENUM ('a,b'); SET timezone TO 'Asia/Tokyo'; CREATE TABLE images AS "
        f"SELECT 9007199254740993 AS id, md5('p')::uuid AS product_id, '' AS bucket_link, 'x' AS \"%s \"\"\", {columns}"
    )
    marketplace.execute(f"ALTER DATABASE {marketplace.database} SET timezone = 'Asia/Tokyo'")
    marketplace.execute(f"ALTER DATABASE {marketplace.database} SET client_encoding = sql_ascii")
    result = marketplace.download("--tables", "images")
    assert (result.returncode, result.stderr) == (0, "")
    (record,) = marketplace.table("images")
    assert (record["id"], len(record["product_id"]), record['%s "']) == ("9007199254740993", 36, "x")
    assert list(record.values())[4:] == list(VALUES.values())


def test_values_of_sqlite(tmp_path):
    with contextlib.closing(sqlite3.connect(tmp_path / "marketplace.db")) as database, database:
        database.execute(
            'CREATE TABLE images (id INTEGER, product_id TEXT, bucket_link, create_time TIMESTAMP, "%s" DATE)'
        )
        times = ("2022-02-26 10:00:00.250000", "no time", None)
        for value, time in zip((7, 0.1, b"\x00\xff"), times, strict=True):
            database.execute("INSERT INTO images VALUES (?, NULL, ?, ?, '2022-02-26')", (2**53 + 1, value, time))
    result = run_script(SCRIPT, "--data-dir", tmp_path, "--tables", "images")
    assert result.returncode == 0, result.stderr
    records = json.loads((tmp_path / "images_table.json").read_text(encoding="utf-8"))
    assert [record["bucket_link"] for record in records] == [7, 0.1, "00ff"]
    assert [record["create_time"] for record in records] == ["2022-02-26T10:00:00.250000", "no time", None]
    assert (records[0]["id"], records[0]["product_id"], records[0]["%s"]) == ("9007199254740993", None, "2022-02-26")


def test_a_table_that_is_there_is_skipped_until_its_source_is_another(marketplace, postgres, tmp_path_factory):
    marketplace.download()
    marketplace.execute("DELETE FROM products WHERE id = 'product-0'")
    second = marketplace.download()
    assert "products: already in" in second.stdout and len(marketplace.table("products")) == 3
    assert json.loads((marketplace.folder / "download_report.json").read_text())["skipped"] == ["products", "images"]
    assert "products: 2 rows" in marketplace.download("--force", "--tables", "products").stdout
    report = json.loads((marketplace.folder / "download_report.json").read_text())
    assert report["tables"]["images"]["rows"] == 3, "the entry of the other table is kept"
    (marketplace.folder / "products_table.json").write_text("[]")  # written by somebody else
    assert "products: 2 rows" in marketplace.download().stdout
    (marketplace.folder / "download_report.json").write_text('{"tables": {"products": {"rows": 2}}}')  # of another form
    assert "products: 2 rows" in marketplace.download().stdout
    with fresh_marketplace(postgres, tmp_path_factory.mktemp("other"), rows=5) as other:
        marketplace.write_credentials(DATABASE=other.database)
        assert "products: 5 rows" in marketplace.download().stdout


def test_sqlite_is_read_again_when_the_file_or_its_journal_changes(sqlite_folder):
    first = run_script(SCRIPT, "--data-dir", sqlite_folder)
    assert first.stdout.startswith(f"source: the SQLite database {sqlite_folder}/marketplace.db (from data folder)\n")
    assert "products: 3 rows" in first.stdout
    assert "products: already in" in run_script(SCRIPT, "--data-dir", sqlite_folder).stdout
    with contextlib.closing(sqlite3.connect(sqlite_folder / "marketplace.db")) as database:
        database.execute("PRAGMA journal_mode=WAL")
        with database:
            database.execute("DELETE FROM products WHERE id = 'product-0'")
        assert "products: 2 rows" in run_script(SCRIPT, "--data-dir", sqlite_folder).stdout


def test_sources_are_looked_for_in_order(marketplace, sqlite_folder, tmp_path):
    """--credentials, then marketplace.db, then DATABASE_URL, then ./credentials.yaml, then advice."""
    empty, sample = ("--data-dir", marketplace.folder), ("--data-dir", sqlite_folder)

    def first_line(*arguments, **variables):
        result = run_script(SCRIPT, *arguments, cwd=tmp_path, env=ENVIRONMENT | variables)
        return (result.stdout or result.stderr).splitlines()[0]

    named = first_line(*sample, "--credentials", marketplace.credentials, DATABASE_URL=marketplace.url)
    assert named.endswith(f"(from {marketplace.credentials})")
    assert first_line(*sample, DATABASE_URL=marketplace.url).endswith("(from data folder)")
    assert first_line(*empty, DATABASE_URL=marketplace.url).endswith("(from DATABASE_URL)")
    assert first_line(*empty).endswith("(from credentials.yaml)")
    marketplace.credentials.unlink()
    advice = first_line(*empty)
    assert "make_sample_marketplace.py" in advice and "credentials.yaml.example" in advice


def test_a_missing_table_and_a_missing_column_are_named(marketplace):
    marketplace.download()
    before = (marketplace.folder / "products_table.json").read_bytes()
    marketplace.execute("ALTER TABLE products DROP price, DROP location")
    result = marketplace.download("--force")
    assert_refused(result, "table products has no column price, location", folder=marketplace.folder)
    assert (marketplace.folder / "products_table.json").read_bytes() == before
    marketplace.execute("ALTER TABLE images RENAME TO photos")
    result = marketplace.download("--force", "--tables", "images")
    assert_refused(result, '"images" does not exist', "check DATABASE", folder=marketplace.folder)


def test_a_file_that_is_no_sqlite_database(tmp_path):
    (tmp_path / "marketplace.db").write_bytes(b"no database at all" * 100)
    assert_refused(
        run_script(SCRIPT, "--data-dir", tmp_path), "cannot be read (file is not a database", folder=tmp_path
    )


def test_memory_does_not_grow_with_the_table(marketplace):
    marketplace.make_long_products(200_000)  # 70 MB of JSON
    code = (
        "import re, runpy, sys; sys.argv = sys.argv[1:]; runpy.run_path(sys.argv[0], run_name='__main__');"
        "print('peak', re.search(r'VmHWM:\\s+([0-9]+) kB', open('/proc/self/status').read())[1])"
    )
    command = [sys.executable, "-c", code, *marketplace.command("--tables", "products")]
    result = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=300)
    assert "products: 200,000 rows" in result.stdout, result.stderr
    assert int(result.stdout.split("peak ")[1]) < 100_000  # kilobytes
