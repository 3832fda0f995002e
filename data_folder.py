"""The data folder: what lies where in it, and how tables, reports and faults are read and written.

Every script and notebook works on one data folder (`--data-dir`, default `data`). This module is the single place
that knows its file names, that writes a file whole or not at all, and that turns a fault into one sentence.
"""

from __future__ import annotations

import argparse
import contextlib
import errno
import json
import os
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from alive_progress import alive_bar

if TYPE_CHECKING:
    import pandas as pd

PARTIAL_SUFFIX = ".partial"
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
    """Paths of the files in one data folder; `data/README.md` says what each of them is."""

    def __init__(self, path: str | Path = "data"):
        self.path = Path(path)
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
def write_whole(path: Path) -> Iterator[Path]:
    """Give a path to write to; it becomes `path` when the block ends well, and is removed when it does not.

    The file is written beside its place and renamed, so that a reader sees the old or the new file, never half of
    one. The name is fixed: what a killed run left behind is overwritten by the next.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}{PARTIAL_SUFFIX}")
    try:
        yield partial
        with open(partial, "rb") as file:
            os.fsync(file.fileno())
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def write_json(path: Path, value: Any) -> None:
    """Write `value` as JSON, whole or not at all."""
    with write_whole(path) as partial:
        partial.write_text(json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8")


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


def sentence(error: BaseException) -> str:
    """The first line of an error's message, for use inside a sentence of ours."""
    lines = str(error).strip().splitlines()
    return (lines[0] if lines else type(error).__name__).rstrip(". ")


class HelpFormatter(argparse.ArgumentDefaultsHelpFormatter):
    """Help that names the default where there is one."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        return super()._get_help_string(action) if action.default not in (None, False) else action.help


def argument_parser(description: str) -> argparse.ArgumentParser:
    """An argument parser that already has `--data-dir`."""
    parser = argparse.ArgumentParser(description=description, formatter_class=HelpFormatter)
    parser.add_argument("--data-dir", type=Path, default=Path("data"), metavar="DIR", help="folder with the data")
    return parser


def positive_int(text: str) -> int:
    """Argument type: a whole number from 1 up."""
    if not re.fullmatch(r"[0-9]+", text) or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above 0")
    return int(text)


def progress_bar(total: int | None, title: str):
    """An alive-progress bar on a terminal, and nothing at all into a pipe or a file."""
    return alive_bar(total, title=title, file=sys.stderr, disable=not sys.stderr.isatty())


def print_report(report: Mapping[str, Any]) -> None:
    """Print the counts of a report, one a line; lists of ids stay in the file."""
    for name, value in report.items():
        if isinstance(value, Mapping):
            for key, count in value.items():
                print(f"  {name} / {key}: {len(count) if isinstance(count, list) else count}")
        else:
            print(f"  {name}: {len(value) if isinstance(value, list) else value}")


def run(main: Callable[[], None]) -> None:
    """Run a script's `main` and end the process with the exit status that the README promises.

    0 done; 1 with one sentence on stderr when the whole cannot be done; 2 wrong arguments (argparse); 130 Ctrl-C.
    """
    try:
        main()
        sys.stdout.flush()
    except UserError as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        print("stopped by Ctrl-C: what is finished is kept, run the command again to go on.", file=sys.stderr)
        sys.exit(130)
    except MemoryError:
        sys.exit("error: the machine has not enough free memory: close other programs or work on less data.")
    except BrokenPipeError:  # who read our output has gone (`| head`); the signal itself stays ignored, for it would
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # also end us when a server closes a connection
        sys.exit(1)
    except OSError as error:
        where = error.filename or "the data folder"
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            sys.exit(f"error: no space is left on the disk of {where}: free some and run the command again.")
        sys.exit(f"error: {where} cannot be used ({error.strerror or sentence(error)}): check the path and its rights.")
