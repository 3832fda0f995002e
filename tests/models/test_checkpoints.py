"""Checkpoints: written whole, read without running anything, refused in one sentence when they do not fit."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from marketplace.data_folder import UserError
from models.checkpoints import load_checkpoint, random_states, save_checkpoint, set_random_states

LABELS = ["a", "b", "c"]
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def saved(tmp_path) -> Path:
    path = tmp_path / "model.pt"
    save_checkpoint(path, nn.Linear(4, 3), LABELS, configuration={"seed": 7}, validation={"accuracy": 0.5})
    return path


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
    with pytest.raises(UserError, match=r"damaged or not one of ours[^\n]*\.$"):
        load_checkpoint(path)
    assert not victim.exists()


@pytest.mark.parametrize("share", [0, 0.1, 0.5, 0.99])
def test_a_truncated_file_is_one_sentence(saved, share):
    content = saved.read_bytes()
    saved.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(UserError, match=r"damaged or not one of ours[^\n]*run train_models.py again\.$"):
        load_checkpoint(saved)


def test_a_missing_file_is_one_sentence(tmp_path):
    with pytest.raises(UserError, match=r"is missing: run train_models.py first\.$"):
        load_checkpoint(tmp_path / "model.pt")
    with pytest.raises(UserError, match="is missing"):
        load_checkpoint(tmp_path)


def test_a_file_of_another_kind_is_one_sentence(tmp_path):
    for content in ({"weights": {}}, torch.zeros(3)):
        torch.save(content, tmp_path / "model.pt")
        with pytest.raises(UserError, match=r"not one of ours[^\n]*\.$"):
            load_checkpoint(tmp_path / "model.pt")


def test_other_categories_are_one_sentence(saved):
    with pytest.raises(UserError, match=r"other categories \(3 there, 2 in the data\): [^\n]*\.$"):
        load_checkpoint(saved, labels=["a", "b"])
    with pytest.raises(UserError, match=r"other categories \(number 1 is 'b' there, 'x' in the data\)"):
        load_checkpoint(saved, labels=["a", "x", "c"])


def test_another_number_of_classes_is_one_sentence(saved):
    model = nn.Linear(4, 5)
    before = model.weight.clone()
    with pytest.raises(UserError, match=r"a Linear for 3 categories and does not fit[^\n]*\.$"):
        load_checkpoint(saved, model)
    assert torch.equal(model.weight, before)


def test_another_network_is_one_sentence(saved):
    with pytest.raises(UserError, match=r"holds a Linear, not a Conv1d: [^\n]*\.$"):
        load_checkpoint(saved, nn.Conv1d(4, 3, 1))
    with pytest.raises(UserError, match="another version of Linear"):
        load_checkpoint(saved, nn.Linear(4, 3, bias=False))


def test_tensors_from_a_gpu_come_to_the_cpu(tmp_path, monkeypatch):
    model, other = nn.Linear(4, 3), nn.Linear(4, 3)
    monkeypatch.setattr(torch.serialization, "location_tag", lambda storage: "cuda:0")
    save_checkpoint(tmp_path / "model.pt", model, LABELS)
    monkeypatch.undo()
    assert b"cuda:0" in (tmp_path / "model.pt").read_bytes()
    load_checkpoint(tmp_path / "model.pt", other, device="cpu")
    assert torch.equal(model.weight, other.weight)


def test_random_numbers_go_on_where_they_were(tmp_path):
    device = torch.device("cpu")

    def draw():
        return torch.rand(3).tolist(), np.random.rand(3).tolist(), random.random(), random.gauss(0, 1)

    random.gauss(0, 1)  # leaves a second number behind
    save_checkpoint(tmp_path / "model.pt", nn.Linear(1, 1), [], training={"random": random_states(device)})
    first = draw()
    set_random_states(load_checkpoint(tmp_path / "model.pt")["training"]["random"], device)
    assert draw() == first


SAVE_FOR_EVER = """
import sys, torch
from pathlib import Path
from models.checkpoints import save_checkpoint
model = torch.nn.Linear(1000, 4000)
for number in range(10**6):
    torch.nn.init.constant_(model.weight, number)
    save_checkpoint(Path(sys.argv[1]), model, [], configuration={"number": number})
    print(number, flush=True)
"""


def test_a_kill_while_saving_leaves_the_earlier_file_whole(tmp_path):
    path = tmp_path / "model.pt"
    partial = path.with_name(f".{path.name}.partial")
    with subprocess.Popen(
        [sys.executable, "-c", SAVE_FOR_EVER, path], cwd=ROOT, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout.readline() == "0\n"
        deadline = time.monotonic() + 60
        while not (partial.exists() and partial.stat().st_size > 0) and time.monotonic() < deadline:
            pass
        process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    checkpoint = load_checkpoint(path)
    assert (checkpoint["weights"]["weight"] == checkpoint["configuration"]["number"]).all()
    save_checkpoint(path, nn.Linear(4, 3), LABELS)
    assert [file.name for file in tmp_path.iterdir()] == ["model.pt"]
