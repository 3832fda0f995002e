"""Checkpoints: written whole, read without running anything, refused in one sentence when they do not fit."""

import os
import resource
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from marketplace.data_folder import UserError
from models.predict import load_checkpoint
from models.training import save_checkpoint

LABELS = ["a", "b", "c"]
ABOUT: dict[str, Any] = {"configuration": {"seed": 7, "size": None}, "validation": {"accuracy": 0.5}}


@pytest.fixture
def saved(tmp_path) -> Path:
    path = tmp_path / "model.pt"
    save_checkpoint(path, nn.Linear(4, 3), LABELS, **ABOUT)
    return path


@pytest.mark.parametrize("limit", [100, 48_000])
def test_a_disk_that_is_full_is_an_error_of_the_disk_and_leaves_the_earlier_file(saved, limit):
    before = saved.read_bytes()
    earlier = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, earlier[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            save_checkpoint(saved, nn.Linear(120, 100), LABELS, **ABOUT)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, earlier)
    assert saved.read_bytes() == before and list(saved.parent.iterdir()) == [saved]


def test_what_is_saved_comes_back(tmp_path):
    model, other = nn.Linear(4, 3), nn.Linear(4, 3)
    save_checkpoint(tmp_path / "new" / "model.pt", model, LABELS, **ABOUT)
    checkpoint = load_checkpoint(tmp_path / "new" / "model.pt", other, LABELS)
    assert torch.equal(model.weight, other.weight)
    assert checkpoint["labels"] == LABELS and checkpoint["configuration"] == ABOUT["configuration"]
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["model.pt"]


class Malicious:
    def __init__(self, victim: Path):
        self.victim = victim

    def __reduce__(self):
        return os.mkdir, (str(self.victim),)


def test_a_malicious_file_is_refused_and_does_nothing(tmp_path):
    path, victim = tmp_path / "model.pt", tmp_path / "victim"
    torch.save({"model": "Linear", "weights": Malicious(victim), "labels": LABELS}, path)
    with pytest.raises(UserError):
        load_checkpoint(path)
    assert not victim.exists()


def test_a_missing_or_truncated_file_is_one_sentence(saved, tmp_path):
    with pytest.raises(UserError, match=r"is missing: run train_models.py first\.$"):
        load_checkpoint(tmp_path / "other.pt")
    content = saved.read_bytes()
    for length in (0, len(content) // 2, len(content) - 20):
        saved.write_bytes(content[:length])
        with pytest.raises(UserError, match=r"model\.pt[^\n]*run train_models.py again[^\n]*\.$"):
            load_checkpoint(saved)


def test_other_categories_or_another_network_are_one_sentence(saved):
    for labels in (["a", "b"], ["b", "a", "c"]):
        with pytest.raises(UserError, match=r"other categories than those of the data[^\n]*\.$"):
            load_checkpoint(saved, labels=labels)
    model = nn.Linear(4, 5)
    before = model.weight.clone()
    for other in (model, nn.Conv1d(4, 3, 1)):
        with pytest.raises(UserError, match=r"model\.pt[^\n]*\.$"):
            load_checkpoint(saved, other)
    assert torch.equal(model.weight, before)


def test_a_checkpoint_with_the_keys_of_an_earlier_version_is_loaded(tmp_path):
    model, other = nn.Linear(4, 3), nn.Linear(4, 3)
    recipe = {"epochs": 8, "batch_size": 32, "scales": (1.0,), "patience": 0}
    settings = {"seed": 7, "recipe": recipe, "steps": 9, "train_examples": 280, "data": "0" * 64}
    settings |= {"encoder": "all-MiniLM-L6-v2", "encoder_weights": "1" * 64, "embedding_scale": 0.5}
    content = {"model": "Linear", "weights": model.state_dict(), "labels": LABELS, "configuration": settings}
    content |= {"validation": {"loss": 1.0, "accuracy": 0.5}, "history": [{"train_loss": 1.0}]}
    torch.save(content, tmp_path / "model.pt")
    load_checkpoint(tmp_path / "model.pt", other, LABELS)
    assert torch.equal(model.weight, other.weight)
