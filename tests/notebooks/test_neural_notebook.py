"""neural_networks.ipynb, executed on a small sample as `make run` executes it where ImageNet weights can be had.

`tests/scripts/test_train_models.py` trains the same networks from random initialisation.
"""

import json
import os
import re
import shutil
from pathlib import Path

import nbformat
import numpy as np
import pandas as pd
import pytest
import torch
from repository import ROOT, run_script
from torchvision.models import resnet50

from marketplace.data_folder import DataFolder
from models.image_model import PRETRAINED_SIZE

NOTEBOOK = ROOT / "neural_networks.ipynb"
PARAMETERS = {"seed": 3, "text_epochs": 2, "image_epochs": 1, "text_batch_size": 32, "image_batch_size": 64}


@pytest.fixture(scope="module")
def executed(sample_folder, tmp_path_factory) -> tuple[Path, nbformat.NotebookNode]:
    """The data folder and the notebook after a run with one epoch for photos and two for texts."""
    folder = tmp_path_factory.mktemp("neural") / "sample"
    shutil.copytree(sample_folder, folder, ignore=shutil.ignore_patterns("images"))
    (folder / "images").symlink_to(sample_folder / "images")
    cache = folder.parent / "hub" / "checkpoints"
    cache.mkdir(parents=True)
    torch.save(resnet50().state_dict(), cache / "resnet50-11ad3fa6.pth")  # torchvision's own name
    environment = os.environ | {"TORCH_HOME": str(folder.parent), "IMAGE_WEIGHTS": "auto"}
    products = pd.read_json(folder / "products_table_clean.json", dtype=False)[::-1]  # in another order
    known = products["main_category_code"].to_numpy()
    DataFolder(folder).results.mkdir(exist_ok=True)
    path = DataFolder(folder).results / "image_classification.npz"
    predictions, models = [known, (known + 1) % 13], ["photo model", "photo and words"]
    ids = products["id"].to_numpy(str)
    np.savez(path, ids=ids, labels=known, predictions=predictions, models=models, seconds=[1.0, 2.0])
    output = folder / "notebooks" / NOTEBOOK.name
    output.parent.mkdir()
    options = [word for name, value in PARAMETERS.items() for word in ("-p", name, value)]
    result = run_script(
        *("-m", "papermill", NOTEBOOK, output, "--cwd", ROOT, "--no-progress-bar", "--log-level", "ERROR"),
        *("-p", "data_dir", folder, *options),
        timeout=300,
        env=environment,
    )
    assert result.returncode == 0, result.stderr[-3000:]
    return folder, nbformat.read(output, as_version=4)


def printed(notebook: nbformat.NotebookNode) -> str:
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    texts = [output["text"] for output in outputs if output["output_type"] == "stream"]
    return "".join(texts)


def test_every_cell_ran_in_order_without_a_word_on_stderr(executed):
    cells = [cell for cell in executed[1].cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    for cell in cells:
        assert not [output for output in cell.outputs if output.get("name") == "stderr"]
        assert not [output for output in cell.outputs if output["output_type"] == "error"]


def test_it_prints_the_architecture_and_what_is_frozen(executed):
    table = (ROOT / "tests" / "models" / "architecture.txt").read_text(encoding="utf-8").strip()
    text = printed(executed[1])
    assert table in text
    assert "device: " in text and "ImageModel: imagenet weights, 670,400 parameters are frozen." in text


def test_photos_of_the_size_for_pretrained_weights_are_cleaned(executed):
    """`make run` cleans them to 64 pixels only, which is what the photo notebook reads."""
    folder, results = (
        DataFolder(executed[0]),
        json.loads((executed[0] / "results" / "neural_networks.json").read_text()),
    )
    assert results["parameters"]["image_weights"] == "imagenet"
    assert results["parameters"]["image_size"] == PRETRAINED_SIZE
    assert f" photos cleaned to {PRETRAINED_SIZE} pixels" in printed(executed[1])
    assert f" photos of {PRETRAINED_SIZE} pixels" in printed(executed[1])
    assert folder.clean_images_manifest(PRETRAINED_SIZE).is_file()


def test_it_leaves_the_checkpoints_and_results(executed):
    folder = DataFolder(executed[0])
    names = {path.name for path in folder.checkpoints.iterdir()}
    assert names >= {f"{model}_model_best.pt" for model in ("text", "image", "combined")}
    results = json.loads((folder.results / "neural_networks.json").read_text())
    assert results["dataset"] == "sample marketplace" and results["seed"] == PARAMETERS["seed"]
    assert results["parameters"]["text_epochs"] == 2 and results["parameters"]["image_epochs"] == 1
    assert {row["model"] for row in results["rows"]} == {
        "majority",
        "TF-IDF + logistic regression",
        "mean embedding + logistic regression",
        "TF-IDF and mean embedding",
        "photo model",
        "photo and words",
        "TextModel",
        "ImageModel (imagenet weights)",
        "TextModel + ImageModel, plain sum of logits",
        "CombinedModel",
        "CombinedModel and TF-IDF",
    }
    for row in results["rows"]:
        low, high = row["test_interval"]
        assert 0 <= low <= row["test"] <= high <= 1
    scores = {row["model"]: row["test"] for row in results["rows"]}
    assert scores["photo model"] == 1 and scores["photo and words"] == 0  # carried in by the listings' ids
    for name, sizes in results["accuracy_by_train_listings"].items():
        counts = {size: found["listings"] for size, found in sizes.items()}
        assert sum(counts.values()) == results["split_sizes"]["test"]
        mean = sum(found["listings"] * (found["test"] or 0) for found in sizes.values()) / sum(counts.values())
        assert mean == pytest.approx(scores[name])
    for values in results["calibration"].values():
        assert 0.05 <= values["temperature"] <= 20 and 0 <= values["ece_after"] <= 1


def test_its_figures_are_those_of_the_saved_networks(executed):
    """The command for one product reads what the notebook left."""
    result = run_script("predict_category.py", "--data-dir", executed[0], "--text", "A lamp with a shade", "--json")
    assert result.returncode == 0, result.stderr
    answer = json.loads(result.stdout)
    found = answer["predictions"]
    assert answer["model"] == "fused" and len(found) == 3 and found[0]["probability"] >= found[1]["probability"]


def test_the_committed_notebook_is_a_clean_run_on_the_sample():
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    assert cells[0].metadata.get("tags") == ["parameters"]
    assert max(cell.source.count("\n") + 1 for cell in cells) <= 25
    content = NOTEBOOK.read_text(encoding="utf-8")
    assert len(content.encode()) < 2_000_000 and '"name": "stderr"' not in content
    assert not re.search(r"(?<![\w.:/])/(home|root|tmp|work|Users)/", content)
