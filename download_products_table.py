"""Download the marketplace's tables from its database, as they are.

Reads a PostgreSQL database (credentials.yaml or DATABASE_URL) or the sample's marketplace.db. Writes
products_table.json, images_table.json and download_report.json in the data folder:

    python download_products_table.py [--data-dir data] [--credentials FILE] [--tables products images] [--force]
"""

import argparse
import codecs
import functools
import itertools
import json
import math
import re
import warnings
from pathlib import Path
from time import perf_counter
from typing import Any

import sqlalchemy
from sqlalchemy import Text, case, cast, func, literal
from sqlalchemy.exc import SAWarning

from marketplace.command_line import argument_parser, progress_bar, run
from marketplace.data_folder import DataFolder, UserError, read_json, write_json, write_whole
from marketplace.database_source import DATABASE_ERRORS, Source, explain, find_source, make_engine

NEEDED_COLUMNS = {  # by the next scripts; a table may have more
    "products": ("id", "product_name", "category", "product_description", "price", "location"),
    "images": ("id", "product_id", "bucket_link"),
}
ID_COLUMNS = ("id", "product_id")
PIECES_AT_ONCE = {"postgresql": 200, "sqlite": 20}  # a piece of SQLite is a whole row
PIECE = 65536  # characters of a row that come at once, so that long rows do not need more memory
JSON_TYPES = (sqlalchemy.Boolean, sqlalchemy.Integer, sqlalchemy.Float, sqlalchemy.String, sqlalchemy.JSON)


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
    with warnings.catch_warnings(action="ignore", category=SAWarning):  # of a type that SQLAlchemy does not know
        columns = {column["name"]: column["type"] for column in inspector.get_columns(table)}
    missing = [name for name in NEEDED_COLUMNS.get(table, ()) if name not in columns]
    if missing:
        raise UserError(f"the table {table} has no column {', '.join(missing)}: add it, or correct its name.")
    return columns


def postgresql_json(name: str, column_type: sqlalchemy.types.TypeEngine) -> sqlalchemy.ColumnElement:
    """The JSON text of a column's value: JSON's own types and arrays of them as they are, timestamps in ISO 8601, bytes
    as hexadecimal, ids and all other types as text in the form in which the server prints them."""
    value: sqlalchemy.ColumnElement = sqlalchemy.column(name)
    column_type = getattr(column_type, "data_type", column_type)  # of a domain
    if name in ID_COLUMNS:
        value = cast(value, Text)
    elif isinstance(column_type, sqlalchemy.LargeBinary):
        value = func.encode(value, "hex")
    elif not isinstance(getattr(column_type, "item_type", column_type), JSON_TYPES) and not isinstance(
        column_type, sqlalchemy.DateTime
    ):
        value = case((value.is_distinct_from(None), func.format("%s", value)))
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
    """A query for the rows of `table`, each as the text of one JSON object, which the database makes.

    Its columns are a piece of that text, which is bytes where the database does not know its encoding, and the number
    of the piece within its row. SQLite, which reads row by row anyway, gives each row in one piece.
    """
    as_json = {"postgresql": postgresql_json, "sqlite": sqlite_json}[connection.dialect.name]
    members = [
        literal(f"{json.dumps(name, ensure_ascii=False)}: ").concat(as_json(name, column_type))
        for name, column_type in table_columns(connection, table).items()
    ]
    text = functools.reduce(lambda text, member: text.concat(", ").concat(member), members)
    rows = sqlalchemy.select(literal("{").concat(text).concat("}").label("text")).select_from(sqlalchemy.table(table))
    if connection.dialect.name == "sqlite":
        return rows.add_columns(literal(0))
    text = rows.offset(0).subquery().c.text  # OFFSET keeps the planner from making the text again for every piece
    size = func.octet_length(text, type_=sqlalchemy.Integer)  # not fewer pieces than by characters, and known at once
    series = func.generate_series(0, (size - 1) // PIECE)
    number = series.table_valued("number", joins_implicitly=True).render_derived().c.number
    piece: sqlalchemy.ColumnElement = case((size <= PIECE, text), else_=func.substr(text, number * PIECE + 1, PIECE))
    if connection.scalar(sqlalchemy.text("SHOW server_encoding")) == "SQL_ASCII":  # which checks and converts nothing
        piece = func.convert_to(piece, "SQL_ASCII")
    return sqlalchemy.select(piece, number)


def download_table(engine: sqlalchemy.Engine, table: str, path: Path) -> int:
    """Write `table` to `path` as a JSON list of records, whole or not at all, and return the number of rows.

    Rows come in pieces through a cursor on the server, so that the memory needed grows neither with the number of rows
    nor with their length. Bytes that are not UTF-8, which SQLite and SQL_ASCII databases let in, become JSON's escapes.
    """
    rows = 0
    decode = codecs.getincrementaldecoder("utf-8")("surrogateescape").decode
    with (
        write_whole(path) as partial,
        open(partial, "w", encoding="utf-8", errors="backslashreplace") as file,
        progress_bar(None, table) as advance,
        engine.connect() as connection,
    ):
        try:
            file.write("[")
            query = json_records(connection, table)
            at_once = PIECES_AT_ONCE[engine.dialect.name]
            result = connection.execution_options(yield_per=at_once).execute(query)
            for pieces in result.partitions():
                texts = [piece if isinstance(piece, str) else decode(piece) for piece, _ in pieces]
                starts = [",\n" if number == 0 else "" for _, number in pieces]
                text = "".join(itertools.chain.from_iterable(zip(starts, texts, strict=True)))
                file.write(text if rows else text[1:])
                rows += starts.count(",\n")
                advance(starts.count(",\n"))
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


if __name__ == "__main__":
    run(main)
