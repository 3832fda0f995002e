"""train_models.py: killed and resumed, finished and resumed, and its errors in one sentence."""

import json
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import torch
from repository import ROOT, run_script
from small_encoder import write_small_encoder
from trained_folder import copy_inputs, trained_by_two_processes

import train_models
from marketplace.command_line import run
from marketplace.data_folder import MODEL_FILES, DataFolder
from models import training as recipes
from models.predict import load_predictor
from models.text_encoder import ENCODER_SHA256, TextEncoder
from shallow.words import BOTH, MEAN_EMBEDDING, TFIDF

TEXT = ("--models", "text", "--epochs", 2)


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
    """Run the command and return the sentence, or the status, that it ends with."""

    def command(folder: Path, *arguments: object) -> str:
        with pytest.raises(SystemExit) as stopped:
            train(folder, *arguments)
        return str(stopped.value.code)

    return command


def killed(folder: Path, at: str) -> None:
    """Run the command, with checkpoints after every epoch, in a process of its own and kill it when it prints `at`."""
    options = map(str, (*TEXT, "--checkpoint-seconds", 0))
    command = [sys.executable, "-u", "train_models.py", "--data-dir", str(folder), *options]
    environment = {**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads())}
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, env=environment) as process:
        for line in process.stdout or ():
            if at in line:
                process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL


def weights_of(folder: Path) -> dict[str, torch.Tensor]:
    return torch.load(folder / "checkpoints" / "text_model_best.pt", weights_only=True)["weights"]


def names_in(folder: Path) -> set[str]:
    return {path.name for path in (folder / "checkpoints").iterdir()}


def test_killed_and_resumed_the_weights_are_those_of_a_run_never_killed(folder, tmp_path, train):
    other = tmp_path / "other"
    shutil.copytree(folder, other, symlinks=True)
    assert train(folder, *TEXT).count("epoch ") == 2
    killed(other, at="epoch   2/2")  # the first epoch is saved, the second about to be
    out = train(other, *TEXT, "--resume")
    assert "going on after epoch 1 of 2 (text_model_last.pt)" in out or "finished: " in out
    straight, resumed = weights_of(folder), weights_of(other)
    assert all(torch.equal(straight[key], resumed[key]) for key in straight)
    assert names_in(folder) == {"text_model_best.pt"}
    assert {name for name in names_in(other) if not name.endswith(".partial")} == {"text_model_best.pt"}

    out = train(folder, *TEXT, "--resume")
    assert "finished: text_model_best.pt" in out and "epoch " not in out
    results = json.loads((folder / "results" / "train_models.json").read_text())
    assert [row["model"] for row in results["rows"]] == ["TextModel"] and results["rows"][0]["seconds"] > 0


def test_combined_from_earlier_checkpoints(folder, trained, train):
    shutil.copytree(trained / "checkpoints", folder / "checkpoints")
    for name in ("combined_model_best.pt", "fused_model.skops", "shallow_text.skops"):
        (folder / "checkpoints" / name).unlink()
    out = train(folder, "--models", "combined")
    assert "text_model_best.pt: validation accuracy" in out and "image_model_best.pt: validation accuracy" in out
    assert names_in(folder) == names_in(trained) == set(MODEL_FILES.values())
    rows = json.loads((folder / "results" / "train_models.json").read_text())["rows"]
    assert [row["model"] for row in rows] == [TFIDF, MEAN_EMBEDDING, BOTH, "CombinedModel", "CombinedModel and TF-IDF"]
    assert all(row["seconds"] > 0 for row in rows)


def test_combined_without_a_photo_in_the_validation_split_is_one_sentence(folder, trained, failure):
    shutil.copytree(trained / "checkpoints", folder / "checkpoints")
    products = pd.read_json(folder / "products_table_clean.json", dtype=False)
    photos = pd.read_json(folder / "images_table.json", dtype=False)
    held_out = products.loc[products["split"] == "validation", "id"]
    photos[~photos["product_id"].isin(held_out)].to_json(folder / "images_table.json", orient="records")
    assert "fusion needs a photo in the validation split" in failure(folder, "--models", "combined")


@pytest.mark.parametrize(
    ("keep", "arguments", "sentence"),
    [
        ({"train": 1, "test": 1}, (), "the train split has too few listings (1 of at least 2): it takes about 30"),
        ({"train": 4, "test": 1}, (), "the validation split has too few listings (0 of at least 1): it takes about 30"),
        ({"train": 9, "validation": 2}, ("--models", "text"), None),
    ],
)
def test_too_few_listings_are_one_sentence(keep, arguments, sentence, folder, failure, train):
    path = folder / "products_table_clean.json"
    products = pd.read_json(path, dtype=False)
    kept = pd.concat([products[products["split"] == split].head(count) for split, count in keep.items()])
    kept.to_json(path, orient="records")
    if sentence:
        assert sentence in failure(folder, "--epochs", 1)
        assert not (folder / "checkpoints").exists()
    else:
        assert "TextModel is not evaluated: no listing is in test." in train(folder, *arguments, "--epochs", 1)


def test_photos_that_a_split_lacks_are_one_sentence(folder, failure):
    products = pd.read_json(folder / "products_table_clean.json", dtype=False)
    photos = pd.read_json(folder / "images_table.json", dtype=False)
    held_out = products.loc[products["split"] == "validation", "id"]
    photos[~photos["product_id"].isin(held_out)].to_json(folder / "images_table.json", orient="records")
    assert "the validation split has too few photos (0 of" in failure(folder, "--models", "image", "--epochs", 1)
    assert not (folder / "checkpoints").exists() and not (folder / "results").exists()


def test_resuming_compares_what_is_learnt_from(folder, trained, train, failure):
    resume = ("--models", "text", "--resume", "--epochs", 1)
    checkpoints = folder / "checkpoints"
    shutil.copytree(trained / "checkpoints", checkpoints)
    assert "finished: text_model_best.pt" in train(folder, *resume)
    best = torch.load(checkpoints / "text_model_best.pt", weights_only=True)
    assert best["configuration"]["encoder_weights"] == ENCODER_SHA256
    combined = torch.load(checkpoints / "combined_model_best.pt", weights_only=True)
    assert combined["configuration"]["encoder_weights"] == ENCODER_SHA256

    products = json.loads((folder / "products_table_clean.json").read_text())
    learnt = [product for product in products if product["split"] == "train"]
    other = next(product for product in learnt if product["main_category"] != learnt[0]["main_category"])
    for key in ("category", "main_category", "main_category_code"):
        learnt[0][key], other[key] = other[key], learnt[0][key]
    (folder / "products_table_clean.json").write_text(json.dumps(products))
    torch.save(best | {"model": "Learner"}, checkpoints / "text_model_last.pt")
    assert "belongs to a training with other settings (data): " in failure(folder, *resume)
    (checkpoints / "text_model_last.pt").unlink()
    known = {name: value for name, value in best["configuration"].items() if name not in ("data", "encoder_weights")}
    torch.save(best | {"configuration": known}, checkpoints / "text_model_best.pt")  # of an earlier version
    assert "finished: text_model_best.pt" in train(folder, *resume)
    torch.save(best, checkpoints / "text_model_best.pt")
    assert "training anew: the training of text_model_best.pt has other settings (data)." in train(folder, *resume)


def test_a_full_disk_is_one_sentence_and_the_earlier_checkpoint_stays(folder, trained):
    shutil.copytree(trained / "checkpoints", folder / "checkpoints")
    before = (folder / "checkpoints" / "text_model_best.pt").read_bytes()
    size = 60_000_000  # the embeddings are there already; a checkpoint takes 100 MB
    result = run_script(
        *("train_models.py", "--data-dir", folder, "--models", "text", "--epochs", 1),
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size, size)),
    )
    assert result.returncode == 1
    assert re.fullmatch(r"error: .* cannot be used \(File too large\): [^\n]*\.\n", result.stderr)
    assert (folder / "checkpoints" / "text_model_best.pt").read_bytes() == before
    assert names_in(folder) == names_in(trained)


def test_a_branch_with_other_inputs_is_not_combined(folder, trained, failure):
    shutil.copytree(trained / "checkpoints", folder / "checkpoints")
    combined = folder / "checkpoints" / "combined_model_best.pt"
    before = combined.stat().st_mtime_ns
    for branch, setting, value in (("image", "image_size", 48), ("text", "encoder", "bert-base-uncased")):
        path = folder / "checkpoints" / f"{branch}_model_best.pt"
        checkpoint = torch.load(path, weights_only=True)
        other = checkpoint | {"configuration": checkpoint["configuration"] | {setting: value}}
        torch.save(other, path)
        sentence = failure(folder, "--models", "combined", "--image-size", 64)
        assert f"{branch}_model_best.pt was trained with {setting.replace('_', ' ')} {value}, not " in sentence
        torch.save(checkpoint, path)
    assert combined.stat().st_mtime_ns == before


def test_a_text_encoder_of_ones_own(folder, trained, train, failure, tmp_path):
    encoder = write_small_encoder(tmp_path / "encoder")
    shutil.copytree(trained / "checkpoints", folder / "checkpoints")
    before = names_in(folder), (folder / "checkpoints" / "combined_model_best.pt").stat().st_mtime_ns
    own, combined = ("--encoder", encoder), ("--models", "combined")
    refused = failure(folder, *combined, *own)  # the text model learnt from MiniLM
    assert f"text_model_best.pt was trained with encoder all-MiniLM-L6-v2, not {encoder}: give the same" in refused
    train(folder, "--models", "text", "--epochs", 1, *own)
    best = torch.load(folder / "checkpoints" / "text_model_best.pt", weights_only=True)
    assert best["configuration"]["encoder"] == str(encoder)
    assert best["configuration"]["encoder_weights"] == TextEncoder(str(encoder)).weights_hash != ENCODER_SHA256
    results = json.loads((folder / "results" / "train_models.json").read_text())
    assert results["parameters"]["encoder"] == str(encoder)
    refused = failure(folder, *combined)
    assert f"text_model_best.pt was trained with encoder {encoder}, not all-MiniLM-L6-v2: give the same" in refused
    assert (names_in(folder), (folder / "checkpoints" / "combined_model_best.pt").stat().st_mtime_ns) == before

    train(folder, *combined, *own)
    fused = load_predictor(DataFolder(folder), torch.device("cpu"))
    assert (fused.name, fused.encoder, fused.encoder_weights) == (
        "fused",
        str(encoder),
        best["configuration"]["encoder_weights"],
    )
    write_small_encoder(encoder, seed=1)  # other weights in the same place
    assert "text_model_best.pt was trained with encoder weights " in failure(folder, *combined, *own)
    assert "has no model.safetensors" in failure(folder, "--models", "text", "--encoder", tmp_path)


@pytest.mark.parametrize(("batch_size", "processes"), [(32, 3), (4, 4), (1, 1)])
def test_batches_that_the_processes_cannot_share_are_refused(folder, failure, monkeypatch, batch_size, processes):
    monkeypatch.setattr(recipes, "rank_and_world_size", lambda: (0, processes))
    sentence = failure(folder, "--models", "text", "--batch-size", batch_size)
    assert f"batches of {batch_size} cannot be shared equally by {processes} processes" in sentence


def test_errors_are_one_sentence_and_leave_the_checkpoints_as_they_are(folder, trained, failure, tmp_path):
    (folder / "checkpoints").mkdir()
    best = torch.load(trained / "checkpoints" / "text_model_best.pt", weights_only=True)
    torch.save(best | {"model": "Learner"}, folder / "checkpoints" / "text_model_last.pt")
    os.link(trained / "checkpoints" / "text_model_best.pt", folder / "checkpoints" / "text_model_best.pt")
    before = {path.name: path.stat().st_mtime_ns for path in (folder / "checkpoints").iterdir()}

    resume = ("--models", "text", "--resume", "--epochs")
    assert "belongs to a training with other settings (recipe)" in failure(folder, *resume, 2)
    weights = ("--models", "image", "--image-size", 64, "--image-weights", tmp_path / "none.pth")
    assert "the image weights" in failure(folder, *weights)
    assert "run clean_images.py --size 48" in failure(folder, "--image-size", 48)
    assert "image_model_best.pt is missing" in failure(folder, "--models", "combined")
    categories = json.loads((folder / "main_categories.json").read_text())
    (folder / "main_categories.json").write_text(json.dumps(["Boats", *categories[1:]]))
    assert "trained on other categories than those of the data (" in failure(folder, *resume, 1)
    assert "there is no data folder" in failure(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    assert "run clean_tabular_data.py first" in failure(tmp_path / "empty")

    assert {path.name: path.stat().st_mtime_ns for path in (folder / "checkpoints").iterdir()} == before
    assert not (folder / "results").exists()


def test_wrong_arguments(failure, capsys, tmp_path):
    for arguments in (("--models", "sound"), ("--epochs", 0), ("--seed", -1), ("--seed", 2**32), ("--patience", 0)):
        assert failure(tmp_path, *arguments) == "2"
    capsys.readouterr()
