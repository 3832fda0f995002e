"""The data folder: what lies where in it, and how tables, reports and faults are read and written.

Every script and notebook works on one data folder (`--data-dir`, default `data`). This module is the single place
that knows its file names, that writes a file whole or not at all, and that turns a fault into one sentence.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import secrets
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

ROOT = Path(__file__).resolve().parent.parent  # of the repository
PARTIAL_SUFFIX = ".partial"
PARTIAL_SECONDS = 24 * 60 * 60
CLEAN_COLUMNS = (  # of products_table_clean.json
    "id",
    "product_name",
    "product_description",
    "category",
    "main_category",
    "main_category_code",
    "price",
    "location",
    "latitude",
    "longitude",
    "split",
)
ROWS_AT_ONCE = 50_000
BLOCK_CHARACTERS = 4_000_000
JSON_SPACE = re.compile(r"[ \t\r\n]*")


class UserError(Exception):
    """A fault that the user can mend; its text is one sentence: what is wrong, where, and what to do."""


class DataFolder:
    """Paths of the files in one data folder; `data/README.md` says what each of them is.

    A relative path that is not in the current folder is looked for in the repository, so that scripts and notebooks
    find their data wherever they are started.
    """

    def __init__(self, path: str | Path = "data"):
        self.path = Path(path)
        if not self.path.exists() and (ROOT / path).exists():
            self.path = ROOT / path
        self.database = self.path / "marketplace.db"
        self.images = self.path / "images"
        self.products_table = self.path / "products_table.json"
        self.images_table = self.path / "images_table.json"
        self.products_table_clean = self.path / "products_table_clean.json"
        self.main_categories = self.path / "main_categories.json"
        self.duplicates = self.path / "duplicates.json"
        self.embeddings = self.path / "embeddings"
        self.checkpoints = self.path / "checkpoints"
        self.results = self.path / "results"
        self.index = self.path / "index"

    def clean_images(self, size: int) -> Path:
        return self.path / f"clean_images_{size}"

    def clean_images_manifest(self, size: int) -> Path:
        return self.clean_images(size) / "manifest.json"

    def report(self, name: str) -> Path:
        """Path of a script's report, e.g. `report("clean_tabular")`."""
        return self.path / f"{name}_report.json"


@contextlib.contextmanager
def write_whole(path: Path, flush: bool = True) -> Iterator[Path]:
    """Give a path to write to; it becomes `path` when the block ends well, and is removed when it does not.

    The file is written beside its place under a random name and renamed: a reader sees the old or the new file, never
    half of one, and two runs at once do not share a partial file. `flush` waits until the file is on the disk, which
    is too slow for thousands of photos. A flushed write removes old partial files from the folder, too.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    if flush:
        remove_old_partial_files(path.parent)
    partial = path.with_name(f".{secrets.token_hex(8)}{PARTIAL_SUFFIX}")
    try:
        yield partial
        if flush:
            with open(partial, "rb") as file:
                os.fsync(file.fileno())
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def remove_old_partial_files(folder: Path) -> None:
    """Remove partial files older than a day, which killed runs left; younger ones may belong to another run."""
    for partial in folder.glob(f".*{PARTIAL_SUFFIX}"):
        with contextlib.suppress(OSError):
            if time.time() - partial.stat().st_mtime > PARTIAL_SECONDS:
                partial.unlink()


def write_json(path: Path, value: Any) -> None:
    """Write `value` as JSON, whole or not at all; file names that are not valid text are escaped."""
    content = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    with write_whole(path) as partial:
        partial.write_text(content, encoding="utf-8", errors="backslashreplace")


def check_data_folder(path: Path) -> None:
    """Raises UserError when there is no such folder."""
    if not path.is_dir():
        raise UserError(f"there is no data folder {path}: give the right one with --data-dir.")


def read_json(path: Path, made_by: str) -> Any:
    """Read a JSON file; `made_by` is the script to run when it is missing.

    Raises UserError when the file is missing or is not JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path} is missing: run {made_by} first.") from None
    except (json.JSONDecodeError, UnicodeDecodeError):
        raise UserError(f"{path} is not readable as JSON: delete it and run {made_by} again.") from None


def write_table(path: Path, table: pd.DataFrame) -> None:
    """Write a table as a JSON list of records, whole or not at all, some rows at a time."""
    with write_whole(path) as partial, open(partial, "w", encoding="utf-8") as file:
        file.write("[")
        for start in range(0, len(table), ROWS_AT_ONCE):
            rows = table.iloc[start : start + ROWS_AT_ONCE]
            records = rows.to_json(orient="records", date_format="iso", force_ascii=False, double_precision=15)
            file.write(("," if start else "") + records[1:-1])
        file.write("]\n")


def read_records(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the records of a JSON list of records; only one block of the file is held at a time.

    Raises ValueError where the file is not such a list.
    """
    decode = json.JSONDecoder().raw_decode
    with open(path, encoding="utf-8") as file:
        text = file.read(BLOCK_CHARACTERS)
        mark = JSON_SPACE.match(text).end()
        end_of_list = JSON_SPACE.match(text, mark + 1).end()
        if text[mark : mark + 1] != "[":
            raise ValueError("no list")
        if text[end_of_list : end_of_list + 1] == "]":
            return
        start = mark + 1
        while True:
            try:
                record, end = decode(text, JSON_SPACE.match(text, start).end())
                mark = JSON_SPACE.match(text, end).end()
                if text[mark : mark + 1] not in (",", "]"):
                    raise ValueError("no separator")
            except ValueError:
                more = file.read(max(BLOCK_CHARACTERS, len(text) - start))
                if not more:
                    raise
                text, start = text[start:] + more, 0
                continue
            if not isinstance(record, dict):
                raise ValueError("no record")
            yield record
            start = mark + 1
            if text[mark] == "]":
                break
        if (text[start:] + file.read()).strip():
            raise ValueError("text after the list")


def read_table(path: Path, made_by: str, columns: tuple[str, ...] = ()) -> pd.DataFrame:
    """Read a table that `write_table` or a script wrote; texts stay texts.

    Raises UserError when the file is missing, is no table, or lacks one of `columns`.
    """
    import pandas as pd  # here, for it takes longer to load than a script without tables takes to run

    if not path.exists():
        raise UserError(f"{path} is missing: run {made_by} first.")
    cells: dict[str, list] = {}
    rows = 0
    try:
        for record in read_records(path):
            for column, value in record.items():
                values = cells.setdefault(column, [])
                values.extend([None] * (rows - len(values)))
                values.append(value)
            rows += 1
    except (ValueError, RecursionError):
        raise UserError(f"{path} is not readable as a table: delete it and run {made_by} again.") from None
    table = pd.DataFrame({column: values + [None] * (rows - len(values)) for column, values in cells.items()})
    missing = [column for column in columns if column not in table.columns]
    if missing and len(table):
        raise UserError(f"{path} has no column {', '.join(missing)}: delete it and run {made_by} again.")
    return table.reindex(columns=list(columns)) if missing else table


def first_line(error: BaseException) -> str:
    """The first line of an error's message, for use inside a sentence of ours."""
    lines = str(error).strip().splitlines()
    return (lines[0] if lines else type(error).__name__).rstrip(". ")
