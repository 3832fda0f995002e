"""scikit-learn models as files that cannot run code, unlike a pickle: those of skops."""

from pathlib import Path
from typing import Any
from zipfile import ZIP_DEFLATED

from skops.io import dump, load

from marketplace.data_folder import UserError, write_whole


def save_model(path: Path, content: dict[str, Any]) -> None:
    """Write models and what they mean, with the names of the categories as `labels`, whole or not at all.

    `content` holds scikit-learn's own classes, `Words`, arrays and plain values, since no other class can be loaded.
    """
    with write_whole(path) as partial:
        dump(content, partial, compression=ZIP_DEFLATED)  # the words take a twentieth of the space


def load_model(path: Path, *keys: str, made_by: str = "train_models.py") -> dict[str, Any]:
    """What `save_model` wrote; raises UserError when the file is missing, damaged, or lacks `labels` or one of
    the `keys`; its sentence says to run `made_by`."""
    if not path.is_file():
        raise UserError(f"the model {path} is missing: run {made_by} first.")
    try:
        content = load(path, trusted=["shallow.words.Words"])
    except Exception as error:  # a damaged file fails in many ways, all of them harmless: skops runs no code of a file
        raise UserError(
            f"the model {path} is damaged or of another kind ({type(error).__name__}): run {made_by} again."
        ) from None
    if not isinstance(content, dict) or not content.keys() >= {"labels", *keys}:
        raise UserError(f"the model {path} is of another kind: run {made_by} again.")
    return content
