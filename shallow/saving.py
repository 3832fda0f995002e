"""scikit-learn models as files that cannot run code, unlike a pickle: those of skops."""

from pathlib import Path
from typing import Any
from zipfile import ZIP_DEFLATED

from skops.io import dump, load

from marketplace.data_folder import UserError, write_whole

VERSION = 2  # raise it when models would be read differently: earlier files are then made anew


def save_model(path: Path, content: dict[str, Any]) -> None:
    """Write models and what they mean, whole or not at all.

    `content` holds scikit-learn's own classes, `WordVectorizer`, arrays and plain values: no other class can be loaded.
    """
    with write_whole(path) as partial:
        dump(content | {"version": VERSION}, partial, compression=ZIP_DEFLATED)  # a twentieth of the space


def load_model(path: Path, made_by: str = "train_models.py") -> dict[str, Any]:
    """What `save_model` wrote; raises UserError when the file is missing or unreadable, which says to run `made_by`."""
    if not path.is_file():
        raise UserError(f"the model {path} is missing: run {made_by} first.")
    try:
        content = load(path, trusted=["shallow.words.WordVectorizer"])
    except Exception as error:  # a damaged file fails in many ways, all of them harmless: skops runs no code of a file
        raise UserError(f"the model {path} is unreadable ({type(error).__name__}): run {made_by} again.") from None
    if not isinstance(content, dict) or content.get("version") != VERSION:
        raise UserError(f"the model {path} is of another version of this project: run {made_by} again.")
    return content
