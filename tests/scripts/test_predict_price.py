"""predict_price.py: an estimate with and without category and place."""

import json
import re
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import pytest
import torch
from priced_listings import listings
from repository import NO_TORCH, ROOT

import predict_price
from marketplace.command_line import run
from marketplace.data_folder import DataFolder, write_json
from models.networks import EMBEDDING_SCALE, TextModel
from models.training import save_checkpoint
from shallow.price import fit_price_model, load_price_model, save_price_model

LABELS = ["Boats", "Computers", "Garden"]  # no listing with a price is a boat
LEAF = "Garden / Ponds / Pumps"


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A data folder with a price model and main categories; tests add a model of categories."""
    folder, products = DataFolder(tmp_path_factory.mktemp("predict")), listings()
    save_price_model(folder, fit_price_model(products), products)
    write_json(folder.main_categories, LABELS)
    return folder.path


@pytest.fixture
def command(folder, monkeypatch, capsys):
    """Run the command in this process; what it printed."""

    def call(*arguments: str) -> tuple[str, str]:
        monkeypatch.setattr("sys.argv", ["predict_price.py", "--data-dir", str(folder), *arguments])
        run(predict_price.main)
        return capsys.readouterr()

    return call


def test_price_interval_category_and_five_factors(command):
    out, err = command("--text", "thing new. offered", "--category", LEAF, "--location", "Reading, Berkshire")
    first, second, third, *factors = out.splitlines()
    assert re.fullmatch(r"£[\d,]+, 80% interval £[\d,]+ to £[\d,]+", first)
    assert (second, third, err) == (f"category: {LEAF}", "Main factors:", "")
    assert 3 <= len(factors) <= 5 and all(re.fullmatch(r"× \d+\.\d\d  \w.*", line) for line in factors)
    assert any(line.endswith(f"  category: {LEAF}") for line in factors)


def test_json_is_the_estimate(command, folder):
    arguments = ("--text", "offered", "--name", "thing new", "--category", LEAF, "--location", "Leeds", "--json")
    out, err = command(*arguments)
    expected = load_price_model(DataFolder(folder)).estimate("offered", LEAF, "Leeds", "thing new")
    assert json.loads(out) == asdict(expected) and err == f"category: {LEAF}\n"
    assert out.isascii()


def test_without_category_the_predicted_one_is_used_if_it_has_prices(command, folder):
    out, err = command("--text", "thing new", "--json")
    assert json.loads(out)["category"] is None and "run train_models.py first" in err
    model = TextModel(num_classes=3)
    for label, expected in (("Boats", None), ("Garden", "Garden")):
        with torch.no_grad():
            model.layers[-1].bias[:] = 100 * torch.tensor([label == name for name in LABELS])
        settings = {"encoder": "all-MiniLM-L6-v2", "embedding_scale": EMBEDDING_SCALE}
        save_checkpoint(DataFolder(folder).checkpoint("text"), model, LABELS, configuration=settings, validation={})
        out, err = command("--text", "thing new", "--json")
        assert json.loads(out) == asdict(load_price_model(DataFolder(folder)).estimate("thing new", expected))
        assert re.fullmatch(rf"category: {expected or 'unknown'} \(.*the text model.*\)\n", err)


def test_a_main_category_alone_is_said(command):
    out, _ = command("--text", "thing new", "--category", "Garden / Gnomes")
    assert "\ncategory: Garden (the main category alone: a leaf category of the training data gives a better" in out


def test_an_unknown_category_is_one_sentence(command):
    with pytest.raises(SystemExit, match=r"^error: the training data has no category 'Boats': [^\n]*\.$"):
        command("--text", "thing", "--category", "Boats")


def test_with_a_category_no_torch_is_needed(folder):
    arguments = ["predict_price.py", "--data-dir", str(folder), "--text", "thing", "--category", LEAF]
    code = f"{NO_TORCH}sys.argv = {arguments!r}\nimport predict_price\npredict_price.main()"
    printed = subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    assert f"category: {LEAF}" in printed
