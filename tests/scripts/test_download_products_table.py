"""Downloading the tables, from a real PostgreSQL server and from SQLite: what arrives, from where, and when again."""

import contextlib
import json
import os
import sqlite3
import subprocess
import sys
from uuid import UUID

import pytest
from marketplace_database import SCRIPT, assert_refused, fill, fresh_marketplace, image, make_long_products, product
from repository import ROOT, run_script

from download_products_table import NEEDED_COLUMNS, table_name
from marketplace.database_source import make_engine, source_from_credentials
from marketplace.listings import read_table

AWKWARD_TEXTS = [
    None,
    "",
    "N/A",
    "null",
    "0012",
    "1e5",
    "=cmd()",
    "2022-02-26 10:00:00",
    "ends in CR\r, LF\n, both\r\n and a tab\t",
    "a 🪑 and a 👩‍👩‍👧, e\u0301, \u2028, \x1b[31m, \\u0041, \"quoted\", 'single', back\\slash",
    "x" * 100_000,
    "é🪑\r\n" * 25_000,
]


@pytest.fixture
def marketplace(postgres, tmp_path):
    with fresh_marketplace(postgres, tmp_path) as made:
        yield made


@pytest.fixture
def sqlite_folder(tmp_path):
    """A data folder whose marketplace.db has three products and images."""
    folder = tmp_path / "data"
    folder.mkdir()
    fill(f"sqlite:///{folder}/marketplace.db", [product(i) for i in range(3)], [image(i) for i in range(3)])
    return folder


def environment_without_database(**more: str) -> dict[str, str]:
    return {"PATH": "/usr/bin:/bin", "HOME": "/nonexistent", **more}


def test_both_tables_arrive_and_the_report_says_from_where(marketplace):
    result = marketplace.download()
    assert result.returncode == 0, result.stderr
    assert result.stderr == ""
    assert result.stdout.splitlines()[0] == (
        f"source: the PostgreSQL database {marketplace.database} at 127.0.0.1:{marketplace.server.port} "
        f"(from {marketplace.credentials})"
    )
    expected = product(1) | {"create_time": "2022-02-26T10:30:01"}
    assert marketplace.table("products")[1] == expected
    assert list(marketplace.table("products")[1]) == list(expected)
    assert marketplace.table("images")[2] == image(2) | {"create_time": "2022-02-26T00:00:00"}
    text = (marketplace.folder / "download_report.json").read_text()
    report = json.loads(text)
    assert marketplace.server.password not in text
    assert report["downloaded"] == ["products", "images"]
    assert report["tables"]["products"]["rows"] == 3
    assert report["tables"]["images"]["source"] == {
        "host": "127.0.0.1",
        "port": marketplace.server.port,
        "database": marketplace.database,
        "table": "images",
    }
    assert sorted(path.name for path in marketplace.folder.iterdir()) == [
        "download_report.json",
        "images_table.json",
        "products_table.json",
    ]


@pytest.mark.parametrize("kind", ["postgresql", "sqlite"])
def test_texts_arrive_exactly(kind, postgres, tmp_path):
    rows = [product(i, product_description=text, price=text) for i, text in enumerate(AWKWARD_TEXTS)]
    if kind == "sqlite":
        (tmp_path / "data").mkdir()
        fill(f"sqlite:///{tmp_path}/data/marketplace.db", rows, [])
        result = run_script(SCRIPT, "--data-dir", tmp_path / "data")
    else:
        with fresh_marketplace(postgres, tmp_path, rows=0) as marketplace:
            fill(marketplace.url, rows, [])
            result = marketplace.download()
    assert result.returncode == 0, result.stderr
    path = tmp_path / "data" / "products_table.json"
    records = json.loads(path.read_text(encoding="utf-8"))
    assert [record["product_description"] for record in records] == AWKWARD_TEXTS
    assert [record["price"] for record in records] == AWKWARD_TEXTS
    assert [record["create_time"] for record in records] == [row["create_time"].isoformat() for row in rows]
    table = read_table(path, "download_products_table.py")
    assert [None if text != text else text for text in table["product_description"]] == AWKWARD_TEXTS
    assert json.loads((tmp_path / "data" / "images_table.json").read_text()) == []


def test_columns_of_other_types_and_extra_columns_are_welcome(marketplace):
    marketplace.execute("ALTER TABLE products ALTER id TYPE bigint USING right(id, 1)::bigint + 9007199254740993")
    marketplace.execute("ALTER TABLE products ALTER create_time TYPE timestamptz")
    marketplace.execute("ALTER TABLE images ALTER product_id TYPE uuid USING md5(product_id)::uuid")
    marketplace.execute(
        "ALTER TABLE products ADD amount numeric(12, 2) DEFAULT 12.10, ADD score float8 DEFAULT 'NaN', "
        "ADD tags text[] DEFAULT '{a,b}', ADD more jsonb DEFAULT '{\"k\": [1, null]}', "
        "ADD raw bytea DEFAULT '\\x00ff', ADD wait interval DEFAULT '1 year 2 mons', ADD moment time DEFAULT '24:00', "
        'ADD "Odd ""100% %s"" name; --" text DEFAULT \'x\''
    )
    result = marketplace.download()
    assert result.returncode == 0, result.stderr
    record = marketplace.table("products")[0]
    assert record["id"] == "9007199254740993"
    assert record["create_time"] == "2022-02-26T10:30:00+00:00"
    assert [record[name] for name in ("amount", "score", "tags", "raw")] == ["12.10", "NaN", ["a", "b"], "00ff"]
    assert record["more"] == {"k": [1, None]}
    assert (record["wait"], record["moment"]) == ("1 year 2 mons", "24:00:00")
    assert record['Odd "100% %s" name; --'] == "x"
    assert UUID(marketplace.table("images")[0]["product_id"])


def test_times_that_python_does_not_know_stay_text(marketplace):
    times = ["infinity", "20000-01-01 00:00:00", "0044-03-15 12:00:00 BC", "2022-02-26 10:00:00.25"]
    marketplace.execute("DELETE FROM images")
    for number, time in enumerate(times):
        marketplace.execute(f"INSERT INTO images (id, create_time) VALUES ('{number}', '{time}')")
    result = marketplace.download("--tables", "images")
    assert result.returncode == 0, result.stderr
    times_there = [record["create_time"] for record in marketplace.table("images")]
    assert times_there == ["infinity", "20000-01-01T00:00:00", "0044-03-15T12:00:00 BC", "2022-02-26T10:00:00.25"]


SERVER_TEXTS = {  # value and type in SQL -> what stands in the file
    "time '24:00'": "24:00:00",
    "interval 'infinity'": "infinity",
    "interval '3000000 years'": "3000000 years",
    "interval '-1 mons +2 days -03:04'": "-1 mons +2 days -03:04:00",
    "ARRAY[date '0044-03-15 BC', 'infinity']": '{"0044-03-15 BC",infinity}',
    "ARRAY[interval '1 year 2 mons']": '{"1 year 2 mons"}',
    "date '-infinity'": "-infinity",
    "12345678901234567890.10::numeric": "12345678901234567890.10",
    "'NaN'::numeric": "NaN",
    "ARRAY[0.1000000000000000055511151231257827::numeric, NULL]": "{0.1000000000000000055511151231257827,NULL}",
    "point(1.5, -2)": "(1.5,-2)",
    "inet '10.0.0.1'": "10.0.0.1",
    "int4range(1, 5)": "[1,5)",
    "B'0101'": "0101",
    "ROW(1, 'a b')::pair": '(1,"a b")',
    "ROW(NULL, NULL)::pair": "(,)",
    "ARRAY['\\x00ff'::bytea]": '{"\\\\x00ff"}',
    "'\\x00ff'::bytea": "00ff",
    "'a,b'::letters": "a,b",
    "7::small": 7,
    "ARRAY[1, NULL, 9007199254740993]": [1, None, 9007199254740993],
    "ARRAY[[true], [false]]": [[True], [False]],
    "ARRAY['infinity'::float8, 0.1]": ["Infinity", 0.1],
    "0.1::float4": 0.1,
    "1e23::float8": 1e23,
    """'{"a": "\\ud83d", "n": 12345678901234567890}'::json""": {"a": "\ud83d", "n": 12345678901234567890},
    "NULL::interval": None,
    "timestamptz '2022-02-26 10:00+02'": "2022-02-26T08:00:00+00:00",
}


def test_values_that_json_does_not_know_arrive_in_the_text_of_the_server(marketplace):
    """Whatever the database's settings are; and without a warning about a type that SQLAlchemy does not know."""
    marketplace.execute(
        "CREATE TYPE pair AS (a int, b text); CREATE TYPE letters AS ENUM ('a,b'); CREATE DOMAIN small AS int; "
        "DROP TABLE images"
    )
    columns = ", ".join(f"{value} AS c{number}" for number, value in enumerate(SERVER_TEXTS))
    marketplace.execute(f"CREATE TABLE images AS SELECT 'i' AS id, 'p' AS product_id, 'l' AS bucket_link, {columns}")
    odd = {"bytea_output": "escape", "intervalstyle": "iso_8601", "datestyle": "SQL", "extra_float_digits": "-9"}
    for name, value in (odd | {"timezone": "Asia/Tokyo"}).items():
        marketplace.execute(f"ALTER DATABASE \"{marketplace.database}\" SET {name} = '{value}'")
    result = marketplace.download("--tables", "images")
    assert (result.returncode, result.stderr) == (0, "")
    assert list(marketplace.table("images")[0].values())[3:] == list(SERVER_TEXTS.values())


@pytest.mark.parametrize("where", ["database", "environment", "server"])
def test_text_is_read_as_utf8_whatever_encoding_is_set(where, marketplace):
    """A server whose encoding is SQL_ASCII holds any bytes; those that are not UTF-8 become escapes."""
    long = "é" * 100_000  # comes in several pieces
    expected = ["£5 🪑", long]
    environment = dict(os.environ)
    if where == "server":
        name = f"{marketplace.database}_ascii"
        marketplace.execute(f"CREATE DATABASE {name} ENCODING 'SQL_ASCII' LOCALE 'C' TEMPLATE template0")
        marketplace.database = name
        marketplace.write_credentials()
        fill(marketplace.url.update_query_dict({"client_encoding": "utf8"}), [product(0), product(1), product(2)], [])
        marketplace.execute(
            r"UPDATE products SET price = 'caf' || convert_from('\xe9', 'SQL_ASCII') WHERE page_id % 10 = 2"
        )
        expected.append("caf\udce9")
    elif where == "database":
        marketplace.execute(f"ALTER DATABASE {marketplace.database} SET client_encoding = sql_ascii")
    else:
        environment["PGCLIENTENCODING"] = "sql_ascii"
    for number, text in enumerate(expected[:2]):
        statement = "UPDATE products SET price = %s WHERE id = %s"
        marketplace.server.execute(statement, (text, f"product-{number}"), database=marketplace.database)
    result = marketplace.download("--tables", "products", env=environment)
    assert result.returncode == 0, result.stderr
    prices = {row["id"]: row["price"] for row in marketplace.table("products")}
    assert [prices[f"product-{number}"] for number in range(len(expected))] == expected


def test_options_of_the_user_stay_in_force(marketplace):
    marketplace.execute("CREATE SCHEMA market; ALTER TABLE products SET SCHEMA market")
    url = marketplace.url.render_as_string(hide_password=False).replace("+psycopg2", "")
    command = (SCRIPT, "--data-dir", marketplace.folder, "--tables", "products", "--force")
    option = "-csearch_path=market"
    for environment in ({"DATABASE_URL": f"{url}?options={option}"}, {"DATABASE_URL": url, "PGOPTIONS": option}):
        result = run_script(*command, env=environment_without_database(**environment))
        assert "products: 3 rows" in result.stdout, result.stderr
    marketplace.execute("CREATE TABLE public.products AS SELECT * FROM market.products LIMIT 1")
    plain = run_script(*command[:-1], env=environment_without_database(DATABASE_URL=url))
    assert "products: 1 rows" in plain.stdout, "with other options the tables are others"


def test_settings_hold_through_a_proxy_that_keeps_none_of_a_session(marketplace):
    """One transaction has every setting: what stands in the start-up packet is what every proxy accepts."""
    engine = make_engine(source_from_credentials(marketplace.credentials), 7)
    with engine.connect() as connection:
        parameters = connection.connection.driver_connection.get_dsn_parameters()
        assert not parameters.get("options")
        show = "SELECT current_setting('statement_timeout'), current_setting('timezone')"
        assert connection.exec_driver_sql(show).one() == ("7s", "UTC")
        connection.rollback()
        cursor = connection.connection.driver_connection.cursor()
        cursor.execute(show)
        assert cursor.fetchone()[0] == "0"


@pytest.mark.parametrize(
    "url",
    [
        "postgresql:///{0.database}?host={0.host}&port={0.port}&user={0.username}&password=p%40ss%2F%25%3A%23w",
        "postgresql://{0.username}:wrong@other:1/{0.database}?host={0.host}&port={0.port}&password=p%40ss%2F%25%3A%23w",
        "postgresql://{0.username}:p%40ss%2F%25%3A%23w@:{0.port}/{0.database}?host={0.host}",
    ],
)
def test_the_parts_of_a_url_may_be_parameters(url, marketplace):
    environment = environment_without_database(DATABASE_URL=url.format(marketplace.url))
    result = run_script(SCRIPT, "--data-dir", marketplace.folder, env=environment)
    assert result.returncode == 0, result.stderr
    assert "127.0.0.1:" in result.stdout.splitlines()[0] and "p@ss" not in result.stdout + result.stderr


def test_values_of_sqlite_that_are_no_text(tmp_path):
    values = ["NULL", "'£'", "7", "0.1", "1.0 / 3", "-2.5e300", "9e999", "-9e999", "x'00ff'", "char(0, 10, 34, 92)"]
    columns = 'id INTEGER, product_id TEXT, bucket_link TEXT, create_time TIMESTAMP, "Odd "":x %s" BLOB'
    with contextlib.closing(sqlite3.connect(tmp_path / "marketplace.db")) as database, database:
        database.execute(f"CREATE TABLE images ({columns})")
        for value in values:
            database.execute(f"INSERT INTO images VALUES ({2**53 + 1}, NULL, NULL, 'no time', {value})")
        database.execute("UPDATE images SET bucket_link = CAST(x'636166e9' AS TEXT) WHERE rowid = 2")  # no UTF-8
        database.execute("UPDATE images SET create_time = '2022-02-26 10:00:00.250000' WHERE rowid = 1")
    result = run_script(SCRIPT, "--data-dir", tmp_path, "--tables", "images")
    assert result.returncode == 0, result.stderr
    records = json.loads((tmp_path / "images_table.json").read_text(encoding="utf-8"))
    odd = [record['Odd ":x %s'] for record in records]
    assert odd == [None, "£", 7, 0.1, 1 / 3, -2.5e300, "Inf", "-Inf", "00ff", '\0\n"\\']
    assert records[1]["bucket_link"] == "caf\udce9"
    assert records[0]["id"] == "9007199254740993" and records[0]["product_id"] is None
    assert [record["create_time"] for record in records[:2]] == ["2022-02-26T10:00:00.250000", "no time"]


def test_an_empty_table_is_an_empty_list(marketplace):
    marketplace.execute("DELETE FROM images")
    result = marketplace.download()
    assert result.returncode == 0, result.stderr
    assert marketplace.table("images") == []
    columns = NEEDED_COLUMNS["images"]
    table = read_table(marketplace.folder / "images_table.json", "download_products_table.py", columns)
    assert list(table.columns) == list(columns) and len(table) == 0


def test_a_table_already_there_is_skipped_until_its_source_is_another(marketplace, postgres, tmp_path_factory):
    marketplace.download()
    marketplace.execute("DELETE FROM products WHERE id = 'product-0'")
    second = marketplace.download()
    assert "products: already in" in second.stdout and len(marketplace.table("products")) == 3
    assert json.loads((marketplace.folder / "download_report.json").read_text())["skipped"] == ["products", "images"]

    forced = marketplace.download("--force", "--tables", "products")
    assert "2 rows" in forced.stdout and len(marketplace.table("products")) == 2
    report = json.loads((marketplace.folder / "download_report.json").read_text())
    assert report["tables"]["images"]["rows"] == 3, "what is known of the other table is kept"

    (marketplace.folder / "products_table.json").write_text("[]")  # written by somebody else
    assert "products: 2 rows" in marketplace.download().stdout
    with fresh_marketplace(postgres, tmp_path_factory.mktemp("other"), rows=5) as other:
        marketplace.write_credentials(DATABASE=other.database)
        assert "products: 5 rows" in marketplace.download().stdout


def test_sqlite_is_read_again_when_the_file_changes(sqlite_folder):
    first = run_script(SCRIPT, "--data-dir", sqlite_folder)
    assert first.stdout.startswith(f"source: the SQLite database {sqlite_folder}/marketplace.db (from data folder)\n")
    assert "3 rows" in first.stdout
    assert "already in" in run_script(SCRIPT, "--data-dir", sqlite_folder).stdout
    database = sqlite3.connect(sqlite_folder / "marketplace.db")
    with database:
        database.execute("DELETE FROM products WHERE id = 'product-0'")
    database.close()
    assert "products: 2 rows" in run_script(SCRIPT, "--data-dir", sqlite_folder).stdout


def test_sqlite_is_read_again_when_only_its_journal_changed(sqlite_folder):
    with contextlib.closing(sqlite3.connect(sqlite_folder / "marketplace.db")) as database:
        database.execute("PRAGMA journal_mode=WAL")
        run_script(SCRIPT, "--data-dir", sqlite_folder)
        with database:
            database.execute("DELETE FROM products WHERE id = 'product-0'")
        assert "products: 2 rows" in run_script(SCRIPT, "--data-dir", sqlite_folder).stdout


@pytest.mark.parametrize("content", ["", "[1]", '{"tables": 5}', '{"tables": {"products": 3}}'])
def test_an_odd_report_is_as_good_as_none(sqlite_folder, content):
    (sqlite_folder / "download_report.json").write_text(content)
    result = run_script(SCRIPT, "--data-dir", sqlite_folder)
    assert result.returncode == 0 and "products: 3 rows" in result.stdout, result.stderr


def test_sources_are_looked_for_in_order(marketplace, sqlite_folder_beside, tmp_path):
    """--credentials, then marketplace.db, then DATABASE_URL, then ./credentials.yaml, then advice."""
    work = tmp_path / "work"
    work.mkdir()
    url = marketplace.url.render_as_string(hide_password=False).replace("+psycopg2", "")

    def first_line(*arguments, **environment):
        result = run_script(SCRIPT, *arguments, cwd=work, env=environment_without_database(**environment))
        return (result.stdout or result.stderr).splitlines()[0]

    empty = ("--data-dir", marketplace.folder)
    assert "no source of tables" in first_line(*empty)
    marketplace.server.write_credentials(work / "credentials.yaml", DATABASE=marketplace.database)
    assert first_line(*empty).endswith("(from credentials.yaml)")
    assert first_line(*empty, DATABASE_URL=url).endswith("(from DATABASE_URL)")
    sample = ("--data-dir", sqlite_folder_beside)
    assert first_line(*sample, DATABASE_URL=url).endswith("(from data folder)")
    named = first_line(*sample, "--credentials", marketplace.credentials, DATABASE_URL=url)
    assert named.endswith(f"(from {marketplace.credentials})")


@pytest.fixture
def sqlite_folder_beside(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sqlite")
    fill(f"sqlite:///{folder}/marketplace.db", [product(1)], [image(1)])
    return folder


def test_no_source_gets_advice(tmp_path):
    result = run_script(SCRIPT, "--data-dir", tmp_path, cwd=tmp_path, env=environment_without_database())
    assert_refused(result, "make_sample_marketplace.py", "credentials.yaml.example")


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("not a url with s3cret", "DATABASE_URL is not a database URL"),
        ("postgresql://user:s3cret@host:abc/database", "DATABASE_URL is not a database URL"),
        ("postgresql://user:p@s3cret@host/database", "DATABASE_URL is not a database URL"),
        ("postgresql://user:p@ss/s3cret@host/database", "DATABASE_URL is not a database URL"),
        ("postgresql://user:s3cret@host/database?port=99x", "DATABASE_URL is not a database URL"),
        ("postgresql://user:s3cret\udce9@host/database", "DATABASE_URL is not a database URL"),
        ("mysql://user:s3cret@host/database", "database type mysql"),
        ("postgresql://user:s3cret@/database", "no host"),
        ("sqlite:////nowhere/at/all.db", "is missing"),
    ],
)
def test_a_database_url_that_is_none(url, words, tmp_path):
    environment = environment_without_database(DATABASE_URL=url)
    result = run_script(SCRIPT, "--data-dir", tmp_path, cwd=tmp_path, env=environment)
    assert_refused(result, words, secret="s3cret", folder=tmp_path)


@pytest.mark.parametrize(
    "name", ["products; drop table x", "products--", "", "a.b", '"x"', "../x", "1x", "x" * 64, "é"]
)
def test_a_table_name_that_is_more_than_a_name_is_refused(name):
    with pytest.raises(Exception, match="is not a table name"):
        table_name(name)


def test_an_injected_table_name_is_a_wrong_argument(marketplace):
    result = marketplace.download("--tables", "products; drop table products")
    assert result.returncode == 2 and "is not a table name" in result.stderr and "Traceback" not in result.stderr
    assert marketplace.execute("SELECT count(*) FROM products") == [(3,)]


def test_a_missing_table_and_a_missing_column_are_named(marketplace):
    assert_refused(marketplace.download("--tables", "listings"), "no table listings", "images, products")
    marketplace.download()
    before = (marketplace.folder / "products_table.json").read_bytes()
    marketplace.execute("ALTER TABLE products DROP price, DROP location")
    result = marketplace.download("--force")
    assert_refused(result, "table products has no column price, location", folder=marketplace.folder)
    assert (marketplace.folder / "products_table.json").read_bytes() == before


@pytest.mark.parametrize("content", [b"", b"SQLite format 3\x00" + bytes(200), b"no database at all" * 100])
def test_a_file_that_is_no_sqlite_database(content, tmp_path):
    (tmp_path / "marketplace.db").write_bytes(content)
    expected = "no table products" if not content else "not a whole SQLite database"
    assert_refused(run_script(SCRIPT, "--data-dir", tmp_path), expected, folder=tmp_path)


def peak_memory(marketplace, rows: int) -> int:
    """Peak resident memory in bytes of a process that downloads the products, of which there are `rows`."""
    code = (
        "import re, runpy, sys; sys.argv = sys.argv[1:]; runpy.run_path(sys.argv[0], run_name='__main__');"
        "print('peak', re.search(r'VmHWM:\\s+([0-9]+) kB', open('/proc/self/status').read())[1])"
    )
    command = [sys.executable, "-c", code, *marketplace.command("--force", "--tables", "products")]
    result = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=300)
    assert f"products: {rows:,} rows" in result.stdout, result.stderr
    return 1024 * int(result.stdout.split("peak ")[1])


def test_memory_does_not_grow_with_the_table(postgres, tmp_path):
    with fresh_marketplace(postgres, tmp_path, rows=0) as marketplace:
        make_long_products(marketplace, 10_000)
        small = peak_memory(marketplace, 10_000)
        make_long_products(marketplace, 200_000)
        large = peak_memory(marketplace, 200_000)  # 70 MB of JSON
    assert large - small < 20e6


def test_memory_does_not_grow_with_the_rows(postgres, tmp_path):
    """Rows of 2 MB after short ones: a chunk of a fixed number of rows would take hundreds of megabytes."""
    with fresh_marketplace(postgres, tmp_path, rows=3) as marketplace:
        marketplace.execute(
            "INSERT INTO products (id, product_description) SELECT i, repeat(md5(i::text), 62500) "
            "FROM generate_series(1, 150) AS i"
        )
        assert peak_memory(marketplace, 153) < 200e6  # 300 MB of JSON
        lengths = [len(row["product_description"]) for row in marketplace.table("products")]
    assert lengths[3:] == [2_000_000] * 150
