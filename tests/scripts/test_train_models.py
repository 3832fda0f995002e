"""train_models.py: killed and resumed, and everything it says in one sentence."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from repository import ROOT, run_script
from trained_folder import copy_inputs, trained_by_two_processes

TEXT = ("--models", "text", "--epochs", 3, "--checkpoint-seconds", 0)
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "2"}


@pytest.fixture(scope="module")
def trained(sample_folder) -> Path:
    folder = sample_folder.parent / "trained"
    trained_by_two_processes(sample_folder, folder)
    return folder


@pytest.fixture
def folder(sample_folder, trained, tmp_path) -> Path:
    """A data folder with texts already embedded and no checkpoints."""
    folder = copy_inputs(sample_folder, tmp_path / "data")
    shutil.copytree(trained / "embeddings", folder / "embeddings")
    return folder


def train(folder: Path, *arguments: object) -> subprocess.CompletedProcess:
    return run_script("train_models.py", "--data-dir", folder, *arguments, env=ENVIRONMENT)


def test_killed_and_resumed_the_weights_are_those_of_a_run_never_killed(folder, tmp_path):
    other = tmp_path / "other"
    shutil.copytree(folder, other, symlinks=True)
    result = train(folder, *TEXT)
    assert result.returncode == 0, result.stderr
    assert result.stdout.count("epoch ") == 3

    command = [sys.executable, "-u", "train_models.py", "--data-dir", other, *map(str, TEXT)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, env=ENVIRONMENT) as process:
        for line in process.stdout:
            if "epoch   2/3" in line:  # the first epoch is saved, the second about to be
                process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    result = train(other, *TEXT, "--resume")
    assert result.returncode == 0, result.stderr
    assert "going on after epoch 1 of 3" in result.stdout or "going on after epoch 2 of 3" in result.stdout

    for name in ("text_model_last.pt", "text_model_best.pt"):
        straight, resumed = (
            torch.load(place / "checkpoints" / name, weights_only=True)["weights"] for place in (folder, other)
        )
        assert all(torch.equal(straight[key], resumed[key]) for key in straight)
    assert not list(other.rglob("*.partial"))


def test_combined_out_of_earlier_checkpoints(folder, trained):
    shutil.copytree(trained / "checkpoints", folder / "checkpoints")
    (folder / "checkpoints" / "combined_model_best.pt").unlink()
    result = train(folder, "--models", "combined")
    assert result.returncode == 0, result.stderr
    assert "text_model_best.pt" in result.stdout and "image_model_best.pt" in result.stdout
    assert (folder / "checkpoints" / "combined_model_best.pt").exists()
    rows = json.loads((folder / "results" / "train_models.json").read_text())["rows"]
    assert {row["model"] for row in rows} == {"CombinedModel"}


def test_a_branch_with_other_inputs_is_not_combined(folder, trained, monkeypatch):
    shutil.copytree(trained / "checkpoints", folder / "checkpoints")
    combined = folder / "checkpoints" / "combined_model_best.pt"
    before = combined.stat().st_mtime_ns
    for branch, setting, value in (("image", "image_size", 48), ("text", "encoder", "bert-base-uncased")):
        path = folder / "checkpoints" / f"{branch}_model_best.pt"
        checkpoint = torch.load(path, weights_only=True)
        other = checkpoint | {"configuration": checkpoint["configuration"] | {setting: value}}
        torch.save(other, path)
        said = run_inside(monkeypatch, folder, "--models", "combined")
        assert f"{branch}_model_best.pt was trained with {setting.replace('_', ' ')} {value}, not " in said
        torch.save(checkpoint, path)
    assert combined.stat().st_mtime_ns == before


def test_batches_that_the_processes_cannot_share_are_refused(folder, monkeypatch):
    monkeypatch.setattr("train_models.rank_and_world_size", lambda: (0, 3))
    assert "shared equally by 3 processes" in run_inside(monkeypatch, folder, "--models", "text")


def run_inside(monkeypatch, folder: Path, *arguments: object) -> str:
    """What the command says when it fails; in this process, which has torch already."""
    import train_models
    from marketplace.command_line import run

    monkeypatch.setattr("sys.argv", ["train_models.py", "--data-dir", str(folder), *map(str, arguments)])
    with pytest.raises(SystemExit) as stopped:
        run(train_models.main)
    return str(stopped.value.code)


def test_faults_are_one_sentence_and_leave_the_checkpoints_as_they_are(folder, trained, monkeypatch, tmp_path):
    (folder / "checkpoints").mkdir()
    for name in ("text_model_last.pt", "text_model_best.pt"):
        os.link(trained / "checkpoints" / name, folder / "checkpoints" / name)
    before = {path.name: path.stat().st_mtime_ns for path in (folder / "checkpoints").iterdir()}

    resume = ("--models", "text", "--resume", "--epochs")
    assert "other settings (recipe" in run_inside(monkeypatch, folder, *resume, 2)
    assert "the image weights" in run_inside(
        monkeypatch, folder, "--models", "image", "--image-weights", tmp_path / "none.pth"
    )
    assert "run clean_images.py --size 48" in run_inside(monkeypatch, folder, "--image-size", 48)
    assert "image_model_best.pt is missing" in run_inside(monkeypatch, folder, "--models", "combined")
    categories = json.loads((folder / "main_categories.json").read_text())
    (folder / "main_categories.json").write_text(json.dumps(["Boats", *categories[1:]]))
    assert "other categories (number 0 is " in run_inside(monkeypatch, folder, *resume, 1)
    (folder / "main_categories.json").write_text(json.dumps([*categories, "Boats"]))
    assert "other categories (13 there, 14 in the data)" in run_inside(monkeypatch, folder, *resume, 1)
    assert "there is no data folder" in run_inside(monkeypatch, tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    assert "run clean_tabular_data.py first" in run_inside(monkeypatch, tmp_path / "empty")

    assert {path.name: path.stat().st_mtime_ns for path in (folder / "checkpoints").iterdir()} == before
    assert not (folder / "results").exists()


def test_wrong_arguments(monkeypatch, capsys, tmp_path):
    assert run_inside(monkeypatch, tmp_path, "--models", "sound") == "2"
    assert run_inside(monkeypatch, tmp_path, "--epochs", 0) == "2"
    assert run_inside(monkeypatch, tmp_path, "--seed", -1) == "2"
    assert run_inside(monkeypatch, tmp_path, "--seed", 2**32) == "2"
    assert run_inside(monkeypatch, tmp_path, "--patience", 0) == "2"
    capsys.readouterr()
