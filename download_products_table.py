"""Download the marketplace's tables from its database, as they are.

Reads a PostgreSQL database (credentials.yaml or DATABASE_URL) or the sample's marketplace.db. Writes
products_table.json, images_table.json and download_report.json in the data folder:

    python download_products_table.py [--data-dir data] [--credentials FILE] [--tables products images] [--force]
"""

if __name__ == "__main__":  # before the imports, which take a while: run() answers Ctrl-C meanwhile
    from marketplace.command_line import run

    run("download_products_table")

import argparse
import functools
import json
import math
import re
from pathlib import Path
from time import perf_counter
from typing import Any

import sqlalchemy
from sqlalchemy import Text, case, cast, func, literal

from marketplace.command_line import argument_parser, progress_bar
from marketplace.data_folder import DataFolder, UserError, read_json, write_json, write_whole
from marketplace.database_source import DATABASE_ERRORS, Source, explain, find_source, make_engine

NEEDED_COLUMNS = {  # by the next scripts; a table may have more
    "products": ("id", "product_name", "category", "product_description", "price", "location"),
    "images": ("id", "product_id", "bucket_link"),
}
ID_COLUMNS = ("id", "product_id")
ROWS_AT_ONCE = 1000


def table_name(text: str) -> str:
    """Argument type: a plain SQL identifier."""
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]{0,62}", text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a table name (letters, digits and _)")
    return text


def table_columns(connection: sqlalchemy.Connection, table: str) -> dict[str, sqlalchemy.types.TypeEngine]:
    """Names and types of the columns of `table`.

    Raises UserError when the table is missing or lacks one of NEEDED_COLUMNS.
    """
    inspector = sqlalchemy.inspect(connection)
    if not inspector.has_table(table):
        there = ", ".join(sorted([*inspector.get_table_names(), *inspector.get_view_names()])[:20]) or "none"
        raise UserError(f"the database has no table {table} (it has {there}): check the database or --tables.")
    columns = {column["name"]: column["type"] for column in inspector.get_columns(table)}
    missing = [name for name in NEEDED_COLUMNS.get(table, ()) if name not in columns]
    if missing:
        raise UserError(f"the table {table} has no column {', '.join(missing)}: add it, or correct its name.")
    return columns


def postgresql_json(name: str, column_type: sqlalchemy.types.TypeEngine) -> sqlalchemy.ColumnElement:
    """The JSON text of a column's value: ids and numeric as text, bytes as hexadecimal, the rest as `to_json` has it.

    `to_json` writes times in ISO 8601, and what JSON has no type for in PostgreSQL's own text form.
    """
    value: sqlalchemy.ColumnElement = sqlalchemy.column(name)
    exact = isinstance(column_type, sqlalchemy.Numeric) and not isinstance(column_type, sqlalchemy.Float)
    if exact or name in ID_COLUMNS:
        value = cast(value, Text)
    elif isinstance(column_type, sqlalchemy.LargeBinary):
        value = func.encode(value, "hex")
    return func.coalesce(cast(func.to_json(value), Text), "null")


def sqlite_json(name: str, column_type: sqlalchemy.types.TypeEngine) -> sqlalchemy.ColumnElement:
    """The JSON text of a column's value: ids as text, times in ISO 8601, bytes as hexadecimal, infinity as text."""
    value: sqlalchemy.ColumnElement = sqlalchemy.column(name)
    if name in ID_COLUMNS:
        value = cast(value, Text)
    elif isinstance(column_type, sqlalchemy.DateTime):  # SQLite keeps it as text: 2022-02-26 10:30:00.000000
        iso = func.replace(func.replace(value, " ", "T"), ".000000", "")
        value = case((value.like("____-__-__ __:__:__%"), iso), else_=value)
    number = case((func.abs(value) < math.inf, func.quote(value)), else_=func.json_quote(cast(value, Text)))
    by_type = {"blob": func.json_quote(func.lower(func.hex(value))), "real": number}
    return case(by_type, value=func.typeof(value), else_=func.json_quote(value))


def json_records(connection: sqlalchemy.Connection, table: str) -> sqlalchemy.Select:
    """A query for the rows of `table`, each as the text of one JSON object, which the database makes."""
    as_json = {"postgresql": postgresql_json, "sqlite": sqlite_json}[connection.dialect.name]
    members = [
        literal(f"{json.dumps(name, ensure_ascii=False)}: ").concat(as_json(name, column_type))
        for name, column_type in table_columns(connection, table).items()
    ]
    record = functools.reduce(lambda text, member: text.concat(", ").concat(member), members)
    return sqlalchemy.select(literal("{").concat(record).concat("}")).select_from(sqlalchemy.table(table))


def download_table(engine: sqlalchemy.Engine, table: str, path: Path) -> int:
    """Write `table` to `path` as a JSON list of records, whole or not at all, and return the number of rows.

    Rows come through a cursor on the server, so that the memory needed does not grow with the table.
    """
    rows = 0
    with (
        write_whole(path) as partial,
        open(partial, "w", encoding="utf-8") as file,
        progress_bar(None, table) as advance,
        engine.connect() as connection,
    ):
        try:
            result = connection.execution_options(yield_per=ROWS_AT_ONCE).execute(json_records(connection, table))
            file.write("[")
            for records in result.scalars().partitions():
                file.write((",\n" if rows else "\n") + ",\n".join(records))
                rows += len(records)
                advance(len(records))
            file.write("\n]\n")
        except BaseException:
            connection.invalidate()  # closed without a rollback, which would wait for a server that does not answer
            raise
    return rows


def earlier_downloads(report: Path) -> dict[str, dict[str, Any]]:
    """The entries by table in the report of earlier runs; empty when there is no report that can be read."""
    try:
        tables = read_json(report, "download_products_table.py")["tables"]
        return {table: entry for table, entry in tables.items() if "source" in entry and "bytes" in entry}
    except (UserError, KeyError, TypeError, AttributeError):
        return {}


def download_tables(folder: DataFolder, source: Source, tables: list[str], timeout: float, force: bool) -> None:
    """Download the tables that an earlier run has not downloaded from the same source; update the report after each."""
    engine = make_engine(source, timeout)
    report_path = folder.report("download")
    entries = earlier_downloads(report_path)
    report: dict[str, Any] = {"source": source.identity, "downloaded": [], "skipped": [], "tables": entries}
    for table in dict.fromkeys(tables):
        path = folder.path / f"{table}_table.json"
        identity = source.identity | {"table": table}
        same = entries.get(table, {}).get("source") == identity
        if same and path.is_file() and path.stat().st_size == entries[table]["bytes"] and not force:
            print(f"{table}: already in {path}, skipped (--force downloads it again)")
            report["skipped"].append(table)
        else:
            start = perf_counter()
            try:
                rows = download_table(engine, table, path)
            except DATABASE_ERRORS as error:
                raise explain(error, source) from None
            seconds = round(perf_counter() - start, 3)
            print(f"{table}: {rows:,} rows in {seconds:.1f} s -> {path}")
            entries[table] = {"source": identity, "rows": rows, "bytes": path.stat().st_size, "seconds": seconds}
            report["downloaded"].append(table)
        write_json(report_path, report)


def main() -> None:
    parser = argument_parser(__doc__.splitlines()[0])
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
    download_tables(folder, source, arguments.tables, arguments.timeout, arguments.force)
