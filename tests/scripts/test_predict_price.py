"""predict_price.py: an estimate with and without category and place, and every way to get them wrong."""

import json
import re
import shutil
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
from priced_listings import listings
from repository import ROOT, run_script

import predict_price
from marketplace.command_line import run
from marketplace.data_folder import MODEL_FILES, DataFolder
from models.networks import ImageModel
from models.text_encoder import ENCODER_SHA256
from models.training import save_checkpoint
from shallow.fusion import Fusion
from shallow.price import fit_price_model, load_price_model, save_price_model
from shallow.saving import save_model
from shallow.words import mean_embedding_model, tfidf_model

LABELS = ["Computers", "Garden"]
LEAF = "Garden / Ponds / Pumps"


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A data folder with a price model, and without any model of categories."""
    folder, products = tmp_path_factory.mktemp("predict"), listings()
    save_price_model(DataFolder(folder), fit_price_model(products), products, seed=7)
    return folder


@pytest.fixture
def with_categories(folder, tmp_path) -> Path:
    """A copy with a model of categories that reads texts; it knows a laptop and a spade."""
    shutil.copytree(folder, tmp_path / "own")
    tfidf = tfidf_model().set_params(logisticregression__C=100)
    random = np.random.default_rng(0)
    weight = np.concatenate([np.eye(2), np.zeros((2, 2))], axis=1).astype(np.float32)
    content = {
        "labels": LABELS,
        "tfidf": tfidf.fit(["a laptop", "a spade"], [0, 1]),
        "mean_embedding": mean_embedding_model().fit(random.normal(size=(4, 768)), [0, 1, 0, 1]),
        "fusion": asdict(Fusion(weight, np.zeros(2, np.float32), np.zeros((2, 2), np.float32))),
        "encoder": "all-MiniLM-L6-v2",
        "encoder_weights": ENCODER_SHA256,
    }
    save_model(tmp_path / "own" / "checkpoints" / MODEL_FILES["shallow_text"], content)
    return tmp_path / "own"


@pytest.fixture
def command(folder, monkeypatch, capsys):
    """Run the command in this process; what it printed."""

    def call(*arguments: str, data_dir: Path = folder) -> tuple[str, str]:
        monkeypatch.setattr("sys.argv", ["predict_price.py", "--data-dir", str(data_dir), *arguments])
        run(predict_price.main)
        return capsys.readouterr()

    return call


def test_price_interval_category_and_five_factors(command):
    out, err = command("--text", "thing new. offered", "--category", LEAF, "--location", "Reading, Berkshire")
    first, second, *factors = out.splitlines()
    assert re.fullmatch(r"£[\d,]+, 80% interval £[\d,]+ to £[\d,]+", first)
    assert second == f"category: {LEAF}" and err == ""
    assert len(factors) == 5 and all(re.fullmatch(r"× \d+\.\d\d  \w.*", line) for line in factors)
    assert any(line.endswith(f"  category: {LEAF}") for line in factors)


def test_json_is_the_estimate(command, folder):
    out, err = command("--text", "thing new", "--category", LEAF, "--location", "Leeds", "--json")
    expected = load_price_model(DataFolder(folder)).estimate("thing new", LEAF, "Leeds")
    assert json.loads(out) == asdict(expected) and err == f"category: {LEAF}\n"
    assert out.isascii()


def test_without_category_the_predicted_one_is_used_and_said(command, with_categories):
    for text, category in (("laptop", "Computers"), ("spade", "Garden")):
        out, err = command("--text", text, "--json", data_dir=with_categories)
        assert json.loads(out) == asdict(load_price_model(DataFolder(with_categories)).estimate(text, category))
        assert re.fullmatch(
            rf"category: {category} \(\d+% by the shallow_text model, which knows main categories\)\n", err
        )
    assert f"\n{err}" in command("--text", "spade", data_dir=with_categories)[0]


def test_without_a_model_of_categories_words_alone_answer(command, folder, tmp_path):
    out, _ = command("--text", "thing new")
    assert "\ncategory: unknown (no model of categories is there: run train_models.py, or give --category)\n" in out
    shutil.copytree(folder, tmp_path / "own")
    image = ImageModel(num_classes=2)
    save_checkpoint(tmp_path / "own" / "checkpoints" / MODEL_FILES["image"], image, LABELS, configuration={})
    out, err = command("--text", "thing new", "--json", data_dir=tmp_path / "own")
    assert json.loads(out)["category"] is None
    assert err == "category: unknown (the image model reads no text: give --category)\n"


@pytest.mark.parametrize("category", ["garden", "Garden / Gnomes"])
def test_a_main_category_alone_is_said(category, command):
    out, _ = command("--text", "thing new", "--category", category)
    assert "\ncategory: Garden (the main category alone: a leaf category that train knows gives a better esti" in out


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--text", " \n"], "the text is empty"),
        (["--text", "a" * 20_001], "the text has more than 20,000 characters"),
        (["--text", "thing", "--category", "Boats"], "no listing of train is in the category 'Boats'"),
        (["--text", "thing", "--category", LEAF, "--location", "Nowhereville"], "no place is known as 'Nowhereville'"),
        (["--text", "thing", "--data-dir", "nowhere"], "there is no data folder nowhere"),
        (
            ["--text", "thing", "--data-dir", "tests"],
            "the model .* is missing: run tabular_linear_regression.ipynb first",
        ),
    ],
)
def test_what_cannot_be_done_is_one_sentence(arguments, sentence, command, capsys):
    with pytest.raises(SystemExit, match=rf"^error: {sentence}[^\n]*\.$"):
        command(*arguments)
    assert capsys.readouterr() == ("", "")


def test_exit_codes_of_the_command_itself(folder):
    result = run_script("predict_price.py", "--data-dir", folder, "--text", "thing", "--category", LEAF, "--json")
    assert result.returncode == 0 and json.loads(result.stdout)["category"] == LEAF
    result = run_script("predict_price.py", "--data-dir", folder, "--text", "")
    assert (result.returncode, result.stdout) == (1, "") and result.stderr.startswith("error: the text is empty: ")
    result = run_script("predict_price.py", "--data-dir", folder)
    assert result.returncode == 2 and "--text" in result.stderr


def test_torch_is_not_imported_before_it_is_needed():
    code = "import predict_price, sys; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
