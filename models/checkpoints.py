"""Checkpoints: a network's weights, what they were trained on, and, to go on training, everything that changes in it.

A checkpoint is a file of tensors and plain values, written beside its place and renamed, and read with
`weights_only=True`, so that a file from elsewhere cannot run code.
"""

import random
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from marketplace.data_folder import UserError, write_whole

CONTENT = {"model", "weights", "labels", "configuration", "validation"}


def save_checkpoint(
    path: Path,
    model: nn.Module,
    labels: list[str],
    *,
    weights: dict[str, torch.Tensor] | None = None,
    configuration: dict[str, Any] | None = None,
    validation: dict[str, float] | None = None,
    training: dict[str, Any] | None = None,
) -> None:
    """Write the weights of `model`, or `weights` of the same form, and what they mean; whole or not at all.

    `labels` names the classes in order. `configuration` (settings), `validation` (scores) and `training` (what
    `resume` needs) hold tensors, texts and plain numbers only.
    """
    checkpoint = {
        "model": type(model).__name__,
        "weights": model.state_dict() if weights is None else weights,
        "labels": list(labels),
        "configuration": configuration or {},
        "validation": validation or {},
    }
    if training is not None:
        checkpoint["training"] = training
    with write_whole(path) as partial:
        torch.save(checkpoint, partial)


def load_checkpoint(
    path: str | Path,
    model: nn.Module | None = None,
    labels: list[str] | None = None,
    device: torch.device | str = "cpu",
) -> dict[str, Any]:
    """Read a checkpoint onto `device`, and its weights into `model` if one is given.

    Raises UserError when the file is missing, truncated or no checkpoint of ours, when it holds another network or
    another number of classes than `model`, and when its categories are not `labels`.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"the checkpoint {path} is missing: run train_models.py first.")
    try:
        checkpoint = torch.load(path, map_location=device, weights_only=True)
    except Exception as error:  # a damaged or foreign file fails in many ways, none of them harmful with weights_only
        raise UserError(
            f"the checkpoint {path} is damaged or not one of ours ({type(error).__name__}): "
            "give another file, or run train_models.py again."
        ) from None
    if not isinstance(checkpoint, dict) or not checkpoint.keys() >= CONTENT:
        raise UserError(f"the checkpoint {path} is not one of ours: give another file, or run train_models.py again.")
    if labels is not None and checkpoint["labels"] != list(labels):
        raise UserError(
            f"the checkpoint {path} was trained on other categories ({_difference(checkpoint['labels'], labels)}): "
            "run train_models.py again, without --resume."
        )
    if model is not None:
        load_weights(model, checkpoint, path)
    return checkpoint


def _difference(theirs: list[str], ours: list[str]) -> str:
    if len(theirs) != len(ours):
        return f"{len(theirs)} there, {len(ours)} in the data"
    first = next(position for position, pair in enumerate(zip(theirs, ours, strict=True)) if pair[0] != pair[1])
    return f"number {first} is {theirs[first]!r} there, {ours[first]!r} in the data"


def load_weights(model: nn.Module, checkpoint: dict[str, Any], path: Path) -> None:
    """Put the weights of a checkpoint read from `path` into `model`; raises UserError when they do not fit."""
    name = type(model).__name__
    if checkpoint["model"] != name:
        raise UserError(f"the checkpoint {path} holds a {checkpoint['model']}, not a {name}: give another file.")
    weights, own = checkpoint["weights"], model.state_dict()
    if weights.keys() != own.keys():
        raise UserError(f"the checkpoint {path} is of another version of {name}: run train_models.py again.")
    if any(weights[key].shape != own[key].shape for key in own):
        raise UserError(
            f"the checkpoint {path} holds a {name} for {len(checkpoint['labels'])} categories and does not fit this "
            "one: give another file or run train_models.py again."
        )
    model.load_state_dict(weights)


def random_states(device: torch.device) -> dict[str, Any]:
    """The states of all random number generators as tensors and plain numbers, for `set_random_states`."""
    version, words, gauss = random.getstate()
    _, keys, position, has_gauss, cached = np.random.get_state()
    return {
        "torch": torch.get_rng_state(),
        "device": torch.get_device_module(device).get_rng_state() if device.type != "cpu" else None,
        "python": [version, torch.tensor(words, dtype=torch.int64), gauss],
        "numpy": [torch.from_numpy(keys.astype(np.int64)), int(position), int(has_gauss), float(cached)],
    }


def set_random_states(states: dict[str, Any], device: torch.device) -> None:
    """Put all random number generators back to where `random_states` found them."""
    torch.set_rng_state(states["torch"].cpu())
    if states["device"] is not None and device.type != "cpu":
        torch.get_device_module(device).set_rng_state(states["device"].cpu())
    version, words, gauss = states["python"]
    random.setstate((version, tuple(words.tolist()), gauss))
    keys, *rest = states["numpy"]
    np.random.set_state(("MT19937", keys.cpu().numpy().astype(np.uint32), *rest))
