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
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import sqlalchemy
from sqlalchemy.exc import SQLAlchemyError

from data_folder import DataFolder, UserError, argument_parser, progress_bar, run, write_json, write_whole
from database_source import explain, find_source, make_engine

COLUMNS = {
    "products": (
        *("id", "product_name", "category", "product_description"),
        *("price", "location", "page_id", "create_time"),
    ),
    "images": ("id", "product_id", "bucket_link", "image_ref", "create_time"),
}
ID_COLUMNS = ("id", "product_id")
CHUNK_ROWS = 1000
# SQLite keeps times as text, often with a space before the time of day and zeros after it
SQLITE_TIME = re.compile(r"^(\d{4}-\d\d-\d\d)[ T](\d\d:\d\d:\d\d)(?:\.0+$)?")


def table_name(text: str) -> str:
    """Argument type: a plain SQL identifier."""
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]{0,62}", text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a table name (letters, digits and _)")
    return text


def table_columns(engine: sqlalchemy.Engine, table: str) -> list[sqlalchemy.Column]:
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


def stream_rows(
    connection: sqlalchemy.Connection, table: str, columns: Sequence[sqlalchemy.ColumnClause]
) -> Iterator[Sequence]:
    """Yield the table's rows in chunks of CHUNK_ROWS, from a cursor that stays on the server.

    The columns are asked for without their types, so that values come as the driver reads them.
    """
    names = [sqlalchemy.column(column.name) for column in columns]
    query = sqlalchemy.select(*names).select_from(sqlalchemy.table(table))
    yield from connection.execution_options(yield_per=CHUNK_ROWS).execute(query).partitions()


def as_json_value(value: Any) -> Any:
    """What JSON has no form for: times as ISO 8601 text, bytes as hexadecimal text, the rest as its own text."""
    if hasattr(value, "isoformat"):
        return value.isoformat()
    if isinstance(value, (bytes, bytearray, memoryview)):
        return bytes(value).hex()
    return str(value)


def finite(value: Any) -> Any:
    """None for NaN and infinity, which JSON does not have."""
    return None if isinstance(value, float) and not math.isfinite(value) else value


def encode_rows(rows: Sequence[Sequence], columns: Sequence[sqlalchemy.ColumnClause]) -> str:
    """Rows as JSON records, joined by commas. Ids become text, whatever their type; SQLite's times become ISO 8601."""
    names = [column.name for column in columns]
    records = [dict(zip(names, row, strict=True)) for row in rows]
    for column in columns:
        name, is_text = column.name, isinstance(column.type, sqlalchemy.String)
        if name in ID_COLUMNS and not is_text:
            for record in records:
                record[name] = None if record[name] is None else str(record[name])
        elif isinstance(column.type, sqlalchemy.DateTime):
            for record in records:
                if isinstance(record[name], str):
                    record[name] = SQLITE_TIME.sub(r"\1T\2", record[name])
    options = {"ensure_ascii": False, "allow_nan": False, "default": as_json_value}
    try:
        return json.dumps(records, **options)[1:-1]
    except ValueError:  # a NaN or an infinity: rare, so only then is every value looked at
        records = [{name: finite(value) for name, value in record.items()} for record in records]
        return json.dumps(records, **options)[1:-1]


def download_table(engine: sqlalchemy.Engine, table: str, path: Path) -> int:
    """Write `table` to `path` as a JSON list of records, whole or not at all, and return the number of rows.

    The memory it takes does not grow with the table.
    """
    columns = table_columns(engine, table)
    rows = 0
    with write_whole(path) as partial, engine.connect() as connection:
        counted = connection.execute(sqlalchemy.select(sqlalchemy.func.count()).select_from(sqlalchemy.table(table)))
        with open(partial, "w", encoding="utf-8") as file, progress_bar(counted.scalar_one(), table) as advance:
            file.write("[")
            for chunk in stream_rows(connection, table, columns):
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
            start = time.perf_counter()
            try:
                rows = download_table(engine, table, path)
            except SQLAlchemyError as error:
                raise explain(error, source) from None
            seconds = time.perf_counter() - start
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
