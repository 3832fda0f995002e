"""Checkpoints: a network's weights, what they were trained on, and what is needed to go on training.

A checkpoint is a file of tensors and plain values, written whole or not at all, and read with `weights_only=True`, so
that a file from elsewhere cannot run code.
"""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from marketplace.data_folder import DataFolder, UserError, write_whole
from models.text_model import EMBEDDING_SCALE

CONTENT = {"model", "weights", "labels", "configuration", "validation"}


def checkpoint_path(data_dir: str | Path, name: str, kind: str = "best") -> Path:
    """Path of the checkpoint of the network `name` ("text", "image", "combined"): of its best epoch, or, as kind
    "last", of an unfinished training."""
    return DataFolder(data_dir).checkpoints / f"{name}_model_{kind}.pt"


def save_checkpoint(
    path: Path,
    model: nn.Module,
    labels: list[str],
    *,
    weights: dict[str, torch.Tensor] | None = None,
    configuration: dict[str, Any] | None = None,
    validation: dict[str, float] | None = None,
    **more: Any,
) -> None:
    """Write the weights of `model`, or other `weights` of the same shapes, with what they mean.

    `labels` are the names of the classes in order. `configuration` (settings), `validation` (scores) and `more` hold
    tensors, texts and plain numbers only.

    Raises UserError, and leaves an earlier file as it is, when a number is NaN or infinite; OSError when the file
    cannot be written.
    """
    checkpoint = {
        "model": type(model).__name__,
        "weights": model.state_dict() if weights is None else weights,
        "labels": list(labels),
        "configuration": configuration or {},
        "validation": validation or {},
        **more,
    }
    if not all_finite(checkpoint):
        raise UserError(
            f"{path} is not written, since the network has numbers that are NaN or infinite: lower the learning rate "
            "or look at the data."
        )
    with write_whole(path) as partial, open(partial, "wb") as file:
        try:
            torch.save(checkpoint, file)
        except RuntimeError as error:  # torch's own, raised while it closes a file that could not be written
            raise error.__context__ if isinstance(error.__context__, OSError) else error from None


def all_finite(value: Any) -> bool:
    """Whether no number in a nest of dicts, lists, tensors and plain values is NaN or infinite."""
    if isinstance(value, dict | list | tuple):
        return all(map(all_finite, value.values() if isinstance(value, dict) else value))
    return not isinstance(value, Tensor | float) or bool(torch.isfinite(torch.as_tensor(value)).all())


def load_checkpoint(
    path: str | Path,
    model: nn.Module | None = None,
    labels: list[str] | None = None,
    device: torch.device | str = "cpu",
) -> dict[str, Any]:
    """Read a checkpoint onto `device`, and its weights into `model` if one is given.

    Raises UserError when the file is missing, damaged, of another kind or of an earlier version, when it holds another
    network or another number of classes than `model`, and when its categories are not `labels`.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"the checkpoint {path} is missing: run train_models.py first.")
    with open(path, "rb") as file:
        try:
            checkpoint = torch.load(file, map_location=device, weights_only=True)
        except Exception as error:  # a damaged file fails in many ways, all of them harmless with weights_only
            raise UserError(
                f"the checkpoint {path} is damaged or of another kind ({type(error).__name__}): "
                "give another file, or run train_models.py again."
            ) from None
    if not isinstance(checkpoint, dict) or not checkpoint.keys() >= CONTENT:
        raise UserError(f"the checkpoint {path} is of another kind: give another file, or run train_models.py again.")
    settings = checkpoint["configuration"]
    if "encoder" in settings and settings.get("embedding_scale") != EMBEDDING_SCALE:
        raise UserError(
            f"the checkpoint {path} is of an earlier version, which learnt from other numbers of the text encoder: run "
            "train_models.py again, without --resume."
        )
    if labels is not None and checkpoint["labels"] != list(labels):
        different = sorted(set(checkpoint["labels"]) ^ set(labels)) or ["in another order"]
        raise UserError(
            f"the checkpoint {path} was trained on other categories than those of the data ({', '.join(different)}): "
            "run train_models.py again, without --resume."
        )
    if model is not None:
        load_weights(model, checkpoint, path)
    return checkpoint


def load_weights(model: nn.Module, checkpoint: dict[str, Any], path: Path) -> None:
    """Load the weights of a checkpoint read from `path` into `model`; raises UserError when they do not fit."""
    name = type(model).__name__
    if not all_finite(checkpoint):
        raise UserError(f"the checkpoint {path} has numbers that are NaN or infinite: run train_models.py again.")
    if checkpoint["model"] != name:
        raise UserError(f"the checkpoint {path} holds a {checkpoint['model']}, not a {name}: give another file.")
    try:
        model.load_state_dict(checkpoint["weights"])
    except RuntimeError:
        raise UserError(
            f"the checkpoint {path} holds a {name} of another version or number of categories "
            f"({len(checkpoint['labels'])}): give another file, or run train_models.py again."
        ) from None
