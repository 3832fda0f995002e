"""The tables as CSV files, as spreadsheets, databases and pandas write them, and the names of a table's columns.

Used by download_products_table.py. Separator and encoding are found; every value is read as text.
"""

import codecs
import csv
import gzip
import itertools
import json
import re
import textwrap
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from marketplace.data_folder import NEEDED_COLUMNS, UserError, first_line
from marketplace.listing_text import key_text

KEYS = ("id", "product_id")
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

    def rows(self, table: str) -> Iterator[str]:
        """The rows of `table` as JSON; one with more fields than columns has only an id, which names its line.

        Raises UserError when the file is missing, is no CSV or lacks a column.
        """
        if table not in self.paths:
            raise UserError(f"there is no CSV file of the table {table} beside {self.place}: add {table}.csv.")
        path = self.paths[table]
        try:
            with open_text(path) as file:
                header = next((line for line in file if line.strip()), "")
                lines = itertools.chain([header], file)
                reader = csv.reader(lines, delimiter=max(SEPARATORS, key=header.count), strict=True)
                names = column_names(next(reader), table, path)
                for row in filter(None, reader):
                    if any(row[len(names) :]):
                        row = [f"line {reader.line_num} of {path.name}" if name == "id" else "" for name in names]
                    yield record(dict(zip(names, row, strict=False)))
        except csv.Error as error:
            raise UserError(
                f"line {reader.line_num} of {path} is no CSV ({error}): correct it or export it again."
            ) from None
        except (EOFError, gzip.BadGzipFile, zlib.error, UnicodeError) as error:
            raise UserError(f"{path} cannot be read ({first_line(error)}): export it again.") from None


def record(row: dict[str, Any]) -> str:
    """A row as the text of a JSON object, its keys in their one form."""
    keys = {name: key_text(row[name]) for name in KEYS if name in row}
    return json.dumps(row | keys, ensure_ascii=False, default=bytes.hex)


def csv_in_folder(folder: Path) -> CsvFiles:
    """The CSV files of a data folder that have the name of a table."""
    names = [f"{table}{suffix}" for table in NEEDED_COLUMNS for suffix in (".csv.gz", ".csv")]
    return CsvFiles({name.split(".")[0]: folder / name for name in names if (folder / name).exists()}, "data folder")


def open_text(path: Path) -> TextIO:
    """Open a file, a `.gz` unpacked, as UTF-8, or as UTF-16 where so marked; `clean_text` reads other bytes."""
    opened: Callable = gzip.open if path.suffix == ".gz" else open
    with opened(path, "rb") as file:
        encoding = "utf-16" if file.read(2) in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE) else "utf-8-sig"
    return opened(path, "rt", encoding=encoding, errors="surrogateescape", newline="")


def column_names(headers: Iterable[str], table: str, place: object) -> list[str]:
    """The names of columns, as we write them: `Product Name` is product_name. Raises UserError when one is missing."""
    names = [key_text(header) or "" for header in headers]
    needed = NEEDED_COLUMNS.get(table, ())
    known = {name.replace("_", ""): name for name in (*needed, *OTHER_COLUMNS) if name not in names}
    names = [known.pop(re.sub(r"[\W_]", "", name.casefold()), name) for name in names]
    if missing := [name for name in needed if name not in names]:
        lack = f"the table {table} has no column {', '.join(missing)}, only {', '.join(names)}"
        raise UserError(f"{textwrap.shorten(lack, 300, placeholder=' ...')} ({place}): add it, or correct its name.")
    return names
