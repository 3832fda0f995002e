"""Download the marketplace's tables from its database or from CSV files, as they are.

Reads products.csv and images.csv, a PostgreSQL database (credentials.yaml or DATABASE_URL) or the sample's
marketplace.db. Writes products_table.json, images_table.json and download_report.json in the data folder:

    python download_products_table.py [--data-dir data] [--credentials FILE | --csv PRODUCTS IMAGES] [--force]
"""

import json
from pathlib import Path
from time import perf_counter
from typing import Any

from marketplace.command_line import argument_parser, positive_int, progress_bar, run
from marketplace.csv_source import CsvFiles
from marketplace.data_folder import NEEDED_COLUMNS, DataFolder, write_json, write_whole
from marketplace.database_source import Database, find_source

TABLES = tuple(NEEDED_COLUMNS)


def download_table(source: Database | CsvFiles, table: str, path: Path) -> int:
    """Write `table` to `path` as a JSON list of records, whole or not at all, and return the number of rows."""
    count = 0
    with (
        write_whole(path) as partial,
        open(partial, "w", encoding="utf-8", errors="backslashreplace") as file,
        progress_bar(None, table) as advance,
    ):
        file.write("[")
        for count, row in enumerate(source.rows(table), start=1):
            file.write((",\n" if count > 1 else "") + row)
            advance()
        file.write("]\n")
    return count


def earlier_downloads(report: Path) -> dict[str, Any]:
    """The entry of each table in the last report; nothing where there is no report or it has another form."""
    try:
        tables = json.loads(report.read_bytes())["tables"]
        return {name: entry for name, entry in tables.items() if {"source", "bytes"} <= entry.keys()}
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return {}


def download_tables(folder: DataFolder, source: Database | CsvFiles, tables: list[str], force: bool) -> None:
    """Download the tables that an earlier run has not downloaded from the same source; update the report after each."""
    report_path = folder.report("download")
    entries = earlier_downloads(report_path)
    report: dict[str, Any] = {"source": source.identity, "downloaded": [], "skipped": [], "tables": entries}
    for table in dict.fromkeys(tables):
        path = folder.path / f"{table}_table.json"
        identity = source.identity | {"table": table}
        entry = entries.get(table, {})
        same = entry.get("source") == identity and path.is_file() and path.stat().st_size == entry["bytes"]
        if same and not force:
            print(f"{table}: already in {path}, skipped (--force downloads it again)")
            report["skipped"].append(table)
        else:
            start = perf_counter()
            rows = download_table(source, table, path)
            seconds = round(perf_counter() - start, 3)
            print(f"{table}: {rows:,} rows in {seconds:.1f} s -> {path}")
            entries[table] = {"source": identity, "rows": rows, "bytes": path.stat().st_size, "seconds": seconds}
            report["downloaded"].append(table)
        write_json(report_path, report)


def main() -> None:
    parser = argument_parser(__doc__.splitlines()[0])
    sources = parser.add_mutually_exclusive_group()
    sources.add_argument("--credentials", type=Path, metavar="FILE", help="YAML file with the database's keys")
    sources.add_argument("--csv", type=Path, nargs=2, metavar=("PRODUCTS", "IMAGES"), help="the tables as CSV files")
    parser.add_argument("--tables", nargs="+", choices=TABLES, default=list(TABLES))
    parser.add_argument("--force", action="store_true", help="download again what is already there")
    parser.add_argument("--timeout", type=positive_int, default=60, metavar="SECONDS", help="longest silence allowed")
    arguments = parser.parse_args()
    folder = DataFolder(arguments.data_dir)
    source: Database | CsvFiles
    if arguments.csv:
        source = CsvFiles(dict(zip(TABLES, arguments.csv, strict=True)), "--csv")
    else:
        source = find_source(folder, arguments.credentials, arguments.timeout)
    print(f"source: {source.place} (from {source.found_in})", flush=True)
    download_tables(folder, source, arguments.tables, arguments.force)


if __name__ == "__main__":
    run(main)
