"""neural_networks.ipynb, executed on a small sample as `make run` executes it where ImageNet weights can be had.

`tests/scripts/test_train_models.py` trains the same networks from random initialisation.
"""

import ast
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
from models.image_weights import PRETRAINED_SIZE

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


def shown(notebook: nbformat.NotebookNode, kind: str) -> list[str]:
    """The contents of all outputs of a MIME type."""
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    return [output["data"][kind] for output in outputs if kind in output.get("data", {})]


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


def test_the_networks_and_the_training_loop_stand_in_the_notebook(executed):
    code = [text for text in shown(executed[1], "text/markdown") if text.startswith("```python")]
    assert len(code) == 2
    assert code[0].count("= nn.Sequential(\n") + code[0].count("= nn.Sequential(nn.Linear(") == 3
    assert "optimizer.step()" in code[1]
    shapes = next(text for text in shown(executed[1], "text/markdown") if "| part | layer | output |" in text)
    assert "| text_model | MaxPool1d | 256 × 384 |" in shapes
    assert "| image_model | 3 × Bottleneck | 2,048 × 7 × 7 |" in shapes and "| fusion | Linear | 13 | 351 |" in shapes


def test_one_listing_is_followed_from_its_row_to_its_neighbours(executed):
    folder, notebook = executed
    text = printed(notebook)
    products = pd.read_json(folder / "products_table_clean.json", dtype=False)
    name = re.search(r"^product_name: (.+)$", text, re.MULTILINE)
    assert name and name[1] in set(products.loc[products["split"] == "test", "product_name"])
    assert re.search(r"tokens: \[CLS\] .+\[SEP\]", text, re.DOTALL) and " × 50 × 768 numbers" in text
    assert len(shown(notebook, "image/jpeg")) == 4  # augmentations, neighbours, errors, occlusion
    assert len(shown(notebook, "image/png")) >= 10


def test_what_we_learned_has_the_figures_of_the_run(executed):
    folder, notebook = executed
    results = json.loads((folder / "results" / "neural_networks.json").read_text())
    learned = next(text for text in shown(notebook, "text/markdown") if "- **Are two inputs better" in text)
    for row in results["rows"]:
        if row["model"] in ("TextModel", "CombinedModel", "ImageModel (imagenet weights)", "majority"):
            assert f"{row['test']:.1%} (" in learned
    assert f"{results['split_sizes']['test']} test listings" in learned
    assert "ImageModel (imagenet weights) - photo model" in results["comparisons"]


def test_shuffled_labels_leave_nothing_to_learn_and_nothing_behind(executed, tmp_path):
    """Down to the baselines, which see the same table and options as the networks."""
    folder, _ = executed
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    places = {cell.id: place for place, cell in enumerate(notebook.cells)}
    notebook.cells = notebook.cells[: places["cell-16"] + 1]
    code = "print('SCORES', {row['model']: row['test'] for row in result_rows}, options.data_dir)"
    notebook.cells.append(nbformat.v4.new_code_cell(code))
    nbformat.write(notebook, tmp_path / "start.ipynb")
    saved = [*(folder / "checkpoints").iterdir(), *(folder / "results").iterdir()]
    before = {path: path.stat().st_mtime_ns for path in saved}
    result = run_script(
        *("-m", "papermill", tmp_path / "start.ipynb", tmp_path / "run.ipynb", "--cwd", ROOT, "--no-progress-bar"),
        *("--log-level", "ERROR", "-p", "data_dir", folder, "-p", "shuffle_labels", "True", "-p", "seed", 3),
        *("-p", "image_weights", "none"),
        timeout=120,
    )
    assert result.returncode == 0, result.stderr[-3000:]
    line = re.search(r"SCORES ({.+}) None", printed(nbformat.read(tmp_path / "run.ipynb", as_version=4)))
    assert line
    scores, results = ast.literal_eval(line[1]), json.loads((folder / "results" / "neural_networks.json").read_text())
    learnt = {row["model"]: row["test"] for row in results["rows"]}
    for model in ("TF-IDF + logistic regression", "mean embedding + logistic regression"):
        assert scores[model] < 0.25 < 0.5 < learnt[model]
    assert "photo model" not in scores
    assert {path: path.stat().st_mtime_ns for path in saved} == before


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
