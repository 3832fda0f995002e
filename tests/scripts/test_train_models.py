"""train_models.py: killed and resumed, networks one by one, and what is refused."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import torch
from repository import ROOT
from small_encoder import write_small_encoder
from trained_folder import copy_inputs, trained_by_two_processes

import train_models
from marketplace.command_line import run
from marketplace.data_folder import DataFolder
from models.predict import load_predictor
from models.text_encoder import ENCODER_SHA256, TextEncoder
from shallow.words import BOTH, MEAN_EMBEDDING, TFIDF

TEXT = ("--models", "text", "--epochs", 2)
AS_TRAINED = ("--epochs", 1, "--image-weights", "none")


@pytest.fixture(scope="module")
def trained(sample_folder) -> Path:
    return trained_by_two_processes(sample_folder)


@pytest.fixture
def folder(sample_folder, trained, tmp_path) -> Path:
    """A data folder with texts already embedded and no checkpoints."""
    folder = copy_inputs(sample_folder, tmp_path / "data")
    shutil.copytree(trained / "embeddings", folder / "embeddings")
    return folder


@pytest.fixture
def train(monkeypatch, capsys):
    """Run the command in this process, which has already imported torch; returns what it prints."""

    def command(folder: Path, *arguments: object) -> str:
        monkeypatch.setattr("sys.argv", ["train_models.py", "--data-dir", str(folder), *map(str, arguments)])
        run(train_models.main)
        return capsys.readouterr().out

    return command


@pytest.fixture
def failure(train):
    """Run the command and return the sentence that it ends with."""

    def command(folder: Path, *arguments: object) -> str:
        with pytest.raises(SystemExit) as stopped:
            train(folder, *arguments)
        return str(stopped.value.code)

    return command


def killed(folder: Path, at: str) -> None:
    """Run the command, with checkpoints after every epoch, in a process of its own and kill it when it prints `at`."""
    code = "from models import training; import train_models; training.CHECKPOINT_SECONDS = 0; train_models.main()"
    command = [sys.executable, "-u", "-c", code, "--data-dir", str(folder), *map(str, TEXT)]
    environment = {**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads())}
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, env=environment) as process:
        for line in process.stdout or ():
            if at in line:
                process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL


def weights_of(folder: Path) -> dict[str, torch.Tensor]:
    return torch.load(folder / "checkpoints" / "text_model_best.pt", weights_only=True)["weights"]


def names_in(folder: Path) -> set[str]:
    return {path.name for path in (folder / "checkpoints").iterdir() if not path.name.endswith(".partial")}


def models_in(folder: Path) -> list[str]:
    return [row["model"] for row in json.loads((folder / "results" / "train_models.json").read_text())["rows"]]


def test_killed_and_resumed_the_weights_are_those_of_a_run_never_killed(folder, tmp_path, train):
    other = tmp_path / "other"
    shutil.copytree(folder, other, symlinks=True)
    assert train(folder, *TEXT).count("epoch ") == 2
    killed(other, at="epoch   2/2")  # the first epoch is saved, the second about to be
    out = train(other, *TEXT, "--resume")
    assert "text_model_last.pt: 1 of 2 epochs are trained" in out or "text_model_best.pt: 2 of 2 epochs" in out
    straight, resumed = weights_of(folder), weights_of(other)
    assert all(torch.equal(straight[key], resumed[key]) for key in straight)
    assert names_in(folder) == names_in(other) == {"text_model_best.pt"}

    out = train(folder, *TEXT, "--resume")
    assert "text_model_best.pt: 2 of 2 epochs are trained already." in out and "epoch " not in out
    assert models_in(folder) == ["TextModel"]


def test_combined_alone_takes_the_branches_of_an_earlier_run(folder, trained, train, failure):
    shutil.copytree(trained / "checkpoints", folder / "checkpoints")
    for name in ("combined_model_best.pt", "fused_model.skops"):
        (folder / "checkpoints" / name).unlink()
    refused = failure(folder, "--models", "combined", *AS_TRAINED, "--seed", 8)
    assert "text_model_best.pt belongs to a training with other settings (seed): " in refused
    out = train(folder, "--models", "combined", *AS_TRAINED)
    assert out.count(": 1 of 1 epochs are trained already.") == 2 and "epoch " not in out
    assert names_in(folder) == names_in(trained)
    shallow = [TFIDF, MEAN_EMBEDDING, BOTH]
    networks = ["TextModel", "ImageModel (random initialisation)"]
    assert models_in(folder) == [*networks, *shallow, "CombinedModel", "CombinedModel and TF-IDF"]


def test_after_another_text_model_the_earlier_fusion_does_not_answer(folder, trained, train):
    shutil.copytree(trained / "checkpoints", folder / "checkpoints")
    assert load_predictor(DataFolder(folder), torch.device("cpu")).name == "fused"
    out = train(folder, "--models", "text", "--epochs", 1, "--seed", 8)
    assert "fused_model.skops is removed, since it was made of an earlier text model." in out
    assert names_in(folder) == {"text_model_best.pt", "image_model_best.pt"}
    assert load_predictor(DataFolder(folder), torch.device("cpu")).name == "text"


def test_too_few_listings_are_one_sentence(folder, failure):
    path = folder / "products_table_clean.json"
    products = pd.read_json(path, dtype=False)
    products[products["split"] != "validation"].to_json(path, orient="records")
    assert "the validation split has too few listings (0 of at least 1): it takes about 30" in failure(folder)
    assert not (folder / "checkpoints").exists()


def test_photos_that_a_split_lacks_are_one_sentence(folder, failure):
    products = pd.read_json(folder / "products_table_clean.json", dtype=False)
    photos = pd.read_json(folder / "images_table.json", dtype=False)
    held_out = products.loc[products["split"] == "validation", "id"]
    photos[~photos["product_id"].isin(held_out)].to_json(folder / "images_table.json", orient="records")
    assert "the validation split has too few photos (0 of" in failure(folder, "--models", "image", "--epochs", 1)
    assert not (folder / "checkpoints").exists() and not (folder / "results").exists()


def test_a_text_encoder_of_ones_own(folder, trained, train, tmp_path):
    encoder = write_small_encoder(tmp_path / "encoder")
    shutil.copytree(trained / "checkpoints", folder / "checkpoints")
    (folder / "checkpoints" / "text_model_best.pt").unlink()
    train(folder, "--models", "combined", *AS_TRAINED, "--encoder", encoder)  # trains the text model, too
    best = torch.load(folder / "checkpoints" / "text_model_best.pt", weights_only=True)["configuration"]
    assert best["encoder"] == str(encoder)
    assert best["encoder_weights"] == TextEncoder(str(encoder)).weights_hash != ENCODER_SHA256
    predictor = load_predictor(DataFolder(folder), torch.device("cpu"))
    assert predictor.name == "fused" and predictor.text_encoder and predictor.text_encoder.name == str(encoder)
