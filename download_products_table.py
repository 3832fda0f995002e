"""Download the marketplace's tables from its database, as they are.

Reads:  a PostgreSQL database (credentials.yaml, or DATABASE_URL) or the sample's marketplace.db.
Writes: products_table.json and images_table.json in the data folder, and download_report.json.
Usage:  python download_products_table.py [--data-dir data] [--credentials FILE] [--tables products images] [--force]
"""

import argparse
import contextlib
import json
import math
import re
from collections.abc import Iterator, Sequence
from json.encoder import encode_basestring
from pathlib import Path
from time import perf_counter
from typing import Any

import psycopg2.extensions
import sqlalchemy

from marketplace.command_line import argument_parser, progress_bar, run
from marketplace.data_folder import DataFolder, UserError, write_json, write_whole
from marketplace.database_source import DATABASE_ERRORS, explain, find_source, make_engine

COLUMNS = {
    "products": (
        *("id", "product_name", "category", "product_description"),
        *("price", "location", "page_id", "create_time"),
    ),
    "images": ("id", "product_id", "bucket_link", "image_ref", "create_time"),
}
ID_COLUMNS = ("id", "product_id")
CHUNK_ROWS = 1000
# Both databases give times as text, with a space before the time of day; SQLite often with zeros after it
DATABASE_TIME = re.compile(r"^(\d{4,}-\d\d-\d\d)[ T](\d\d:\d\d:\d\d)(?:\.0+$)?")
# PostgreSQL knows dates that Python does not, such as 44 BC: its date, timestamp and timestamptz stay text
TIME_TYPES = psycopg2.extensions.new_type((1082, 1114, 1184), "TIME_AS_TEXT", lambda value, cursor: value)


def table_name(text: str) -> str:
    """Argument type: a plain SQL identifier."""
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]{0,62}", text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a table name (letters, digits and _)")
    return text


def table_columns(engine: sqlalchemy.Engine, table: str) -> list[sqlalchemy.ColumnClause]:
    """The columns of `table` as the database has them.

    Raises UserError when the table is not there or lacks a column that the next scripts need; more are welcome.
    """
    inspector = sqlalchemy.inspect(engine)
    if not inspector.has_table(table):
        there = ", ".join(sorted([*inspector.get_table_names(), *inspector.get_view_names()])[:20]) or "none"
        raise UserError(f"the database has no table {table} (it has {there}): check the database or --tables.")
    columns = [sqlalchemy.column(found["name"], found["type"]) for found in inspector.get_columns(table)]
    names = [column.name for column in columns]
    missing = [name for name in COLUMNS.get(table, ()) if name not in names]
    if missing:
        raise UserError(f"the table {table} has no column {', '.join(missing)}: add it, or mend its name.")
    return columns


def stream_rows(connection: sqlalchemy.Connection, query: sqlalchemy.Select) -> Iterator[list[tuple]]:
    """Yield the query's rows in chunks of CHUNK_ROWS, from a cursor that stays on the server.

    The driver's own cursor gives plain tuples, in less than half the time of SQLAlchemy's rows.
    """
    statement = str(query.compile(dialect=connection.dialect))
    if connection.dialect.supports_server_side_cursors:
        cursor = connection.connection.cursor("download")
        psycopg2.extensions.register_type(TIME_TYPES, cursor)
        statement = statement.replace("%%", "%")  # SQLAlchemy doubles them for a driver that is given parameters
    else:
        cursor = connection.connection.cursor()
    try:
        cursor.execute(statement)
        while rows := cursor.fetchmany(CHUNK_ROWS):
            yield rows
    except BaseException:
        connection.invalidate()  # it may be broken: nothing more is to be said through it
        raise


def iso_time(text: Any) -> Any:
    """A database's time, such as `2022-02-26 10:30:00+00`, in ISO 8601 form; what is no such text stays as it is."""
    if not isinstance(text, str):
        return text
    text = DATABASE_TIME.sub(r"\1T\2", text)
    return f"{text}:00" if text.endswith("+00") else text


def encode_value(value: Any) -> str:
    """One value of a row as JSON: NaN and infinity as null, bytes as hexadecimal text, other types as their text."""
    if isinstance(value, str):
        return encode_basestring(value)
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return "null"
    if type(value) is int:  # true and false are ints too
        return str(value)
    if isinstance(value, (bool, float, list, dict)):
        with contextlib.suppress(ValueError):  # a NaN inside
            return json.dumps(value, ensure_ascii=False, allow_nan=False, default=str)
    if isinstance(value, (bytes, bytearray, memoryview)):
        return encode_basestring(bytes(value).hex())
    return encode_basestring(str(value))


def encode_column(values: Sequence[Any], column: sqlalchemy.ColumnClause) -> list[str]:
    """The values of one column as JSON. Ids become text, whatever their type; times become ISO 8601."""
    if column.name in ID_COLUMNS:
        values = [value if value is None else str(value) for value in values]
    elif isinstance(column.type, sqlalchemy.DateTime):
        values = [iso_time(value) for value in values]
    try:
        return [encode_basestring(value) for value in values]  # nearly every column is of texts alone
    except TypeError:
        return [encode_value(value) for value in values]


def encode_rows(rows: Sequence[tuple], columns: Sequence[sqlalchemy.ColumnClause]) -> str:
    """Rows as JSON records, joined by commas."""
    names = [json.dumps(column.name, ensure_ascii=False).replace("%", "%%") for column in columns]
    record = "{" + ", ".join(f"{name}: %s" for name in names) + "}"
    encoded = [encode_column(values, column) for values, column in zip(zip(*rows, strict=True), columns, strict=True)]
    return ",\n".join([record % values for values in zip(*encoded, strict=True)])


def download_table(engine: sqlalchemy.Engine, table: str, path: Path) -> int:
    """Write `table` to `path` as a JSON list of records, whole or not at all, and return the number of rows.

    The memory it takes does not grow with the table.
    """
    columns = table_columns(engine, table)
    source = sqlalchemy.table(table, *(sqlalchemy.column(column.name) for column in columns))
    count = sqlalchemy.select(sqlalchemy.func.count()).select_from(source)
    rows = 0
    with write_whole(path) as partial, engine.connect() as connection:
        total = connection.execute(count).scalar_one()
        with open(partial, "w", encoding="utf-8") as file, progress_bar(total, table) as advance:
            file.write("[")
            for chunk in stream_rows(connection, sqlalchemy.select(source)):
                file.write(",\n" if rows else "\n")
                file.write(encode_rows(chunk, columns))
                rows += len(chunk)
                advance(len(chunk))
            file.write("\n]\n")
    return rows


def read_report(path: Path) -> dict[str, Any]:
    """What earlier runs wrote of each table; nothing when there is no report, or none that can be read."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        tables = json.loads(path.read_text(encoding="utf-8")).get("tables", {})
        return tables if isinstance(tables, dict) else {}
    return {}


def is_there(path: Path, entry: Any, source: dict[str, Any]) -> bool:
    """Whether `path` is the whole file that `entry` of the report tells of, from the same source."""
    known = isinstance(entry, dict) and entry.get("source") == source
    return known and path.is_file() and path.stat().st_size == entry.get("bytes")


def main() -> None:
    parser = argument_parser("Download the marketplace's tables from its database.")
    parser.add_argument("--credentials", type=Path, metavar="FILE", help="YAML file with the database's keys")
    parser.add_argument("--tables", nargs="+", type=table_name, default=["products", "images"], metavar="TABLE")
    parser.add_argument("--force", action="store_true", help="download again what is already there")
    parser.add_argument("--timeout", type=float, default=60, metavar="SECONDS", help="longest wait for the database")
    arguments = parser.parse_args()
    if not 1 <= arguments.timeout <= 86400:
        parser.error("--timeout is a number of seconds from 1 to 86400")

    folder = DataFolder(arguments.data_dir)
    source = find_source(folder, arguments.credentials)
    print(f"source: {source.place} (from {source.found_in})", flush=True)
    engine = make_engine(source, arguments.timeout)
    report_path = folder.report("download")
    entries = read_report(report_path)
    report = {"source": source.identity, "downloaded": [], "skipped": [], "tables": entries}

    for table in dict.fromkeys(arguments.tables):
        path = folder.path / f"{table}_table.json"
        identity = source.identity | {"table": table}
        if not arguments.force and is_there(path, entries.get(table), identity):
            print(f"{table}: already in {path}, skipped (--force downloads it again)")
            report["skipped"].append(table)
        else:
            start = perf_counter()
            try:
                rows = download_table(engine, table, path)
            except DATABASE_ERRORS as error:
                raise explain(error, source) from None
            seconds = perf_counter() - start
            print(f"{table}: {rows:,} rows in {seconds:.1f} s -> {path}")
            entries[table] = {
                "source": identity,
                "rows": rows,
                "bytes": path.stat().st_size,
                "seconds": round(seconds, 3),
            }
            report["downloaded"].append(table)
        write_json(report_path, report)


if __name__ == "__main__":
    run(main)
