"""scikit-learn models as files that cannot run code, unlike a pickle: those of skops."""

from pathlib import Path
from typing import Any

from skops.io import dump, load

from marketplace.data_folder import UserError, write_whole


def save_model(path: Path, content: dict[str, Any]) -> None:
    """Write models and what they mean, with the names of the categories as `labels`, whole or not at all.

    `content` holds scikit-learn's own classes, `Words`, arrays and plain values, since no other class can be loaded.
    """
    with write_whole(path) as partial:
        dump(content, partial)


def load_model(path: Path, *keys: str) -> dict[str, Any]:
    """What `save_model` wrote; raises UserError when the file is missing, damaged, or lacks `labels` or one of
    the `keys`."""
    if not path.is_file():
        raise UserError(f"the model {path} is missing: run train_models.py first.")
    try:
        content = load(path, trusted=["shallow.words.Words"])
    except Exception as error:  # a damaged file fails in many ways, all of them harmless: skops runs no code of a file
        raise UserError(
            f"the model {path} is damaged or of another kind ({type(error).__name__}): run train_models.py again."
        ) from None
    if not isinstance(content, dict) or not content.keys() >= {"labels", *keys}:
        raise UserError(f"the model {path} is of another kind: run train_models.py again.")
    return content
