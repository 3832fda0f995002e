"""The tables as CSV files, as spreadsheets, databases and pandas write them, and the names of a table's columns.

Used by download_products_table.py. Separator and encoding are found; every value is read as text.
"""

import codecs
import csv
import gzip
import itertools
import re
import textwrap
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from marketplace.data_folder import NEEDED_COLUMNS, UserError, first_line
from marketplace.listing_text import key_text

SEPARATORS = ",;\t|"
OTHER_COLUMNS = ("create_time", "latitude", "longitude")


@dataclass(frozen=True)
class CsvFiles:
    """CSV files by the name of their table; `place`, `found_in` and `identity` are as in a `Database`."""

    paths: dict[str, Path]
    found_in: str

    @property
    def place(self) -> str:
        return f"the CSV files {', '.join(map(str, self.paths.values()))}"

    @property
    def identity(self) -> dict[str, Any]:
        return {"files": {str(path.resolve()): path.stat().st_mtime_ns for path in self.paths.values()}}

    def rows(self, table: str) -> Iterator[dict[str, Any] | int]:
        """The rows of `table`; the number of the line where quotes are wrong or fields are more than columns.

        Raises UserError when the file is missing, cannot be read or lacks a column.
        """
        if table not in self.paths:
            raise UserError(f"there is no CSV file of the table {table} beside {self.place}: add {table}.csv.")
        path = self.paths[table]
        try:
            with open_text(path) as file:
                header = next((line for line in file if line.strip()), "")
                separator = max(SEPARATORS, key=header.count)
                reader = csv.reader(itertools.chain([header], file), delimiter=separator, strict=True)
                names = column_names(next(reader), table, path)
                for row in rows_or_none(reader):
                    if row is None or any(row[len(names) :]):
                        yield reader.line_num
                    elif row:
                        yield dict(zip(names, row, strict=False))
        except (EOFError, gzip.BadGzipFile, zlib.error, csv.Error) as error:
            raise UserError(f"{path} cannot be read as CSV ({first_line(error)}): export it again.") from None


def csv_in_folder(folder: Path) -> CsvFiles:
    """The CSV files of a data folder that have the name of a table."""
    names = [f"{table}{suffix}" for table in NEEDED_COLUMNS for suffix in (".csv.gz", ".csv")]
    return CsvFiles({name.split(".")[0]: folder / name for name in names if (folder / name).exists()}, "data folder")


def open_text(path: Path) -> TextIO:
    """Open a file, a `.gz` unpacked, as UTF-8 (bytes that are none as Windows-1252), or UTF-16 where it is marked."""
    opened: Callable = gzip.open if path.suffix == ".gz" else open
    with opened(path, "rb") as file:
        encoding = "utf-16" if file.read(2) in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE) else "utf-8-sig"
    return opened(path, "rt", encoding=encoding, errors="windows-1252", newline="")


def rows_or_none(reader: Iterator[list[str]]) -> Iterator[list[str] | None]:
    """The rows of a CSV reader; None where quotes are wrong, after which it goes on with the next line."""
    while True:
        try:
            yield next(reader)
        except StopIteration:
            return
        except csv.Error:
            yield None


def column_names(headers: Iterable[str], table: str, place: object) -> list[str]:
    """The names of the columns of `table`; where a known one is written in another way (`Product Name`), as we do.

    Raises UserError when a needed one is missing.
    """
    names = [key_text(header) or "" for header in headers]
    needed = NEEDED_COLUMNS.get(table, ())
    known = {name.replace("_", ""): name for name in (*needed, *OTHER_COLUMNS) if name not in names}
    names = [known.pop(re.sub(r"[\W_]", "", name.casefold()), name) for name in names]
    if missing := [name for name in needed if name not in names]:
        present = textwrap.shorten(", ".join(names), 200, placeholder=" ...")
        lack = f"the table {table} has no column {', '.join(missing)}, only {present}"
        raise UserError(f"{lack} ({place}): add it, or correct its name.")
    return names
