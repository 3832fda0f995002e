"""The data folder: the names of its files, and how a file is written whole or not at all.

Every script and notebook works on one data folder (`--data-dir`, default `data`).
"""

import contextlib
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent  # of the repository
PARTIAL_SUFFIX = ".partial"
OLD_SECONDS = 24 * 60 * 60  # a partial file older than this belongs to a run that was killed
NEEDED_COLUMNS = {  # of the tables; they may have more
    "products": ("id", "product_name", "category", "product_description", "price", "location"),
    "images": ("id", "product_id", "bucket_link"),
}


class UserError(Exception):
    """A fault that the user can correct; its message is one sentence: what is wrong, where, and what to do."""

    def _render_traceback_(self) -> list[str]:
        """What a notebook shows, by a convention of IPython: the sentence without the traceback."""
        return [f"{type(self).__name__}: {self}"]


class QueryError(UserError):
    """A query that cannot be answered; the sentence names no file, so that a server may answer with it."""


class DataFolder:
    """Paths of the files in one data folder; `data/README.md` says what each of them is.

    A relative path that does not exist in the current folder is resolved in the repository, so that scripts and
    notebooks find their data wherever they are started.
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
        self.fused_model = self.checkpoints / "fused_model.skops"
        self.price_model = self.checkpoints / "price_model.skops"

    def checkpoint(self, name: str, kind: str = "best") -> Path:
        """Checkpoint of the network "text", "image" or "combined": of its best epoch, or the "last" of a training."""
        return self.checkpoints / f"{name}_model_{kind}.pt"

    def clean_images(self, size: int) -> Path:
        return self.path / f"clean_images_{size}"

    def clean_images_manifest(self, size: int) -> Path:
        return self.clean_images(size) / "manifest.json"

    def report(self, name: str) -> Path:
        """Path of a script's report, e.g. `report("clean_tabular")`."""
        return self.path / f"{name}_report.json"


@contextlib.contextmanager
def write_whole(path: Path, flush: bool = True) -> Iterator[Path]:
    """Yield a partial path to write to; it is renamed to `path` when the block succeeds, and removed when it fails.

    A reader sees the old file or the new one, never half a file. The partial name is random, so that two runs at once
    do not share a partial file. `flush` waits until the data is on the disk; that is too slow for thousands of photos.
    A flushed write removes old partial files from the folder, too.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    if flush:
        remove_old_partial_files(path.parent)
    partial = path.with_name(f".{os.urandom(8).hex()}{PARTIAL_SUFFIX}")
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
            if time.time() - partial.stat().st_mtime > OLD_SECONDS:
                partial.unlink()


def write_json(path: Path, value: Any) -> None:
    """Write `value` as JSON, whole or not at all; lone surrogates, as in file names that are no UTF-8, are escaped."""
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
    except (ValueError, RecursionError):  # not JSON, not UTF-8, or nested too deeply
        raise UserError(f"{path} is not readable as JSON: delete it and run {made_by} again.") from None


def first_line(error: BaseException) -> str:
    """The first line of an error's message, without a final stop, to quote inside a sentence."""
    lines = str(error).strip().splitlines()
    return (lines[0] if lines else type(error).__name__).rstrip(". ")
