"""Checkpoints: written whole, read without running anything, refused in one sentence when they do not fit."""

import os
import resource
from pathlib import Path

import pytest
import torch
from torch import nn

from marketplace.data_folder import UserError
from models.predict import load_checkpoint
from models.training import save_checkpoint

LABELS = ["a", "b", "c"]


@pytest.fixture
def saved(tmp_path) -> Path:
    path = tmp_path / "model.pt"
    save_checkpoint(path, nn.Linear(4, 3), LABELS, configuration={"seed": 7}, validation={"accuracy": 0.5})
    return path


@pytest.mark.parametrize("limit", [100, 20_000, 48_000])
def test_a_disk_that_is_full_is_an_error_of_the_disk(saved, limit):
    before = saved.read_bytes()
    earlier = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, earlier[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            save_checkpoint(saved, nn.Linear(120, 100), LABELS)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, earlier)
    assert saved.read_bytes() == before and list(saved.parent.iterdir()) == [saved]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_numbers_that_are_not_finite_are_neither_saved_nor_loaded(saved, value):
    before, wrong = saved.read_bytes(), torch.tensor([1.0, value])
    for content in (
        {"weights": {"weight": wrong}},
        {"validation": {"accuracy": value}},
        {"state": {"optimizer": {"state": {0: {"exp_avg": wrong}}}, "history": [{"train_loss": 1.0}]}},
        {"history": [{"train_loss": 1.0}, {"train_loss": value}]},
    ):
        with pytest.raises(UserError, match=r"model\.pt is not written, [^\n]* NaN or infinite: [^\n]*\.$"):
            save_checkpoint(saved, nn.Linear(4, 3), LABELS, **content)
    assert saved.read_bytes() == before and list(saved.parent.iterdir()) == [saved]
    checkpoint = torch.load(saved, weights_only=True)
    checkpoint["weights"]["bias"][1] = value
    torch.save(checkpoint, saved)
    with pytest.raises(UserError, match=r"model\.pt has numbers that are NaN or infinite: [^\n]*\.$"):
        load_checkpoint(saved, nn.Linear(4, 3), LABELS)


def test_what_is_saved_comes_back(tmp_path):
    model, other = nn.Linear(4, 3), nn.Linear(4, 3)
    save_checkpoint(tmp_path / "new" / "model.pt", model, LABELS, configuration={"seed": 7, "size": None})
    checkpoint = load_checkpoint(tmp_path / "new" / "model.pt", other, LABELS)
    assert torch.equal(model.weight, other.weight)
    assert checkpoint["labels"] == LABELS and checkpoint["configuration"] == {"seed": 7, "size": None}
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["model.pt"]


class Malicious:
    def __init__(self, victim: Path):
        self.victim = victim

    def __reduce__(self):
        return os.mkdir, (str(self.victim),)


def test_a_malicious_file_is_refused_and_does_nothing(tmp_path):
    path, victim = tmp_path / "model.pt", tmp_path / "victim"
    torch.save({"model": "Linear", "weights": Malicious(victim), "labels": LABELS}, path)
    with pytest.raises(UserError, match=r"damaged or of another kind[^\n]*\.$"):
        load_checkpoint(path)
    assert not victim.exists()


@pytest.mark.parametrize("share", [0, 0.1, 0.5, 0.99])
def test_a_truncated_file_is_one_sentence(saved, share):
    content = saved.read_bytes()
    saved.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(UserError, match=r"damaged or of another kind[^\n]*run train_models.py again\.$"):
        load_checkpoint(saved)


def test_a_missing_file_is_one_sentence(tmp_path):
    with pytest.raises(UserError, match=r"is missing: run train_models.py first\.$"):
        load_checkpoint(tmp_path / "model.pt")
    with pytest.raises(UserError, match="is missing"):
        load_checkpoint(tmp_path)


def test_a_file_of_another_kind_is_one_sentence(tmp_path):
    for content in ({"weights": {}}, torch.zeros(3)):
        torch.save(content, tmp_path / "model.pt")
        with pytest.raises(UserError, match=r"of another kind[^\n]*\.$"):
            load_checkpoint(tmp_path / "model.pt")


def test_other_categories_are_one_sentence(saved):
    for labels, named in ((["a", "b"], "c"), (["a", "x", "c"], "b, x"), (["b", "a", "c"], "in another order")):
        with pytest.raises(UserError, match=rf"other categories than those of the data \({named}\): [^\n]*\.$"):
            load_checkpoint(saved, labels=labels)


def test_another_number_of_classes_is_one_sentence(saved):
    model = nn.Linear(4, 5)
    before = model.weight.clone()
    with pytest.raises(UserError, match=r"a Linear of another version or number of categories \(3\)[^\n]*\.$"):
        load_checkpoint(saved, model)
    assert torch.equal(model.weight, before)


def test_another_network_is_one_sentence(saved):
    with pytest.raises(UserError, match=r"holds a Linear, not a Conv1d: [^\n]*\.$"):
        load_checkpoint(saved, nn.Conv1d(4, 3, 1))
    with pytest.raises(UserError, match="a Linear of another version"):
        load_checkpoint(saved, nn.Linear(4, 3, bias=False))


def test_tensors_from_a_gpu_come_to_the_cpu(tmp_path, monkeypatch):
    model, other = nn.Linear(4, 3), nn.Linear(4, 3)
    monkeypatch.setattr(torch.serialization, "location_tag", lambda storage: "cuda:0")
    save_checkpoint(tmp_path / "model.pt", model, LABELS)
    monkeypatch.undo()
    assert b"cuda:0" in (tmp_path / "model.pt").read_bytes()
    load_checkpoint(tmp_path / "model.pt", other, device="cpu")
    assert torch.equal(model.weight, other.weight)


def test_a_failure_while_saving_leaves_the_earlier_file_whole(saved, monkeypatch):
    before = saved.read_bytes()

    def fail(checkpoint, file):
        file.write(b"half")
        raise OSError("no space left")

    monkeypatch.setattr(torch, "save", fail)
    with pytest.raises(OSError, match="no space left"):
        save_checkpoint(saved, nn.Linear(4, 3), LABELS)
    assert saved.read_bytes() == before and list(saved.parent.iterdir()) == [saved]
