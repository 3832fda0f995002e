"""neural_networks.ipynb, executed on a small sample as `make run` executes it where ImageNet weights can be had.

`tests/scripts/test_train_models.py` trains the same networks from random initialisation.
"""

import json
import re

import nbformat
import numpy as np
import pytest
import torch
from executed_notebook import copied_folder, execute, printed, shown
from repository import ROOT, run_script
from torchvision.models import resnet50

from evaluation.tables import QUESTIONS
from marketplace.data_folder import DataFolder, read_json
from marketplace.listings import load_products
from models.image_weights import PRETRAINED_SIZE

NAME = "neural_networks"
PARAMETERS = {"seed": 3, "text_epochs": 2, "image_epochs": 1, "text_batch_size": 32, "image_batch_size": 64}
IMAGE_MODEL = "ImageModel (imagenet weights)"


@pytest.fixture(scope="module")
def executed(sample_folder, tmp_path_factory):
    """The notebook, with one epoch for photos and two for texts, its results and the data folder."""
    folder = DataFolder(copied_folder(sample_folder, tmp_path_factory.mktemp("neural") / "sample"))
    cache = folder.path.parent / "hub" / "checkpoints"
    cache.mkdir(parents=True)
    torch.save(resnet50().state_dict(), cache / "resnet50-11ad3fa6.pth")  # torchvision's own name
    products = load_products(folder.path)[::-1]  # in another order
    known = products["main_category_code"].to_numpy()
    folder.results.mkdir()
    np.savez(
        folder.results / "image_classification.npz",
        ids=products["id"].to_numpy(str),
        labels=known,
        predictions=[known, (known + 1) % 13],
        models=["photo model", "photo and words"],
        seconds=[1.0, 2.0],
    )
    notebook = execute(
        NAME, folder.path, {"TORCH_HOME": str(folder.path.parent), "IMAGE_WEIGHTS": "auto"}, **PARAMETERS
    )
    return notebook, read_json(folder.results / f"{NAME}.json", NAME), folder


def test_it_prints_the_architecture_and_what_is_frozen(executed):
    text = printed(executed[0])
    assert (ROOT / "tests" / "models" / "architecture.txt").read_text(encoding="utf-8").strip() in text
    assert "device: " in text and "ImageModel: imagenet weights, 670,400 parameters are frozen." in text


def test_the_networks_and_the_training_loop_stand_in_the_notebook(executed):
    texts = shown(executed[0], "text/markdown")
    networks, loop = [text for text in texts if text.startswith("```python")]
    assert networks.count("= nn.Sequential(\n") + networks.count("= nn.Sequential(nn.Linear(") == 3
    assert "optimizer.step()" in loop
    shapes = next(text for text in texts if "| part | layer | output |" in text)
    assert "| text_model | MaxPool1d | 256 × 384 |" in shapes
    assert "| image_model | 3 × Bottleneck | 2,048 × 7 × 7 |" in shapes and "| fusion | Linear | 13 | 351 |" in shapes


def test_one_listing_is_followed_from_its_row_to_its_neighbours(executed):
    notebook, _, folder = executed
    products, text = load_products(folder.path), printed(notebook)
    name = re.search(r"^product_name: (.+)$", text, re.MULTILINE)
    assert name and name[1] in set(products.loc[products["split"] == "test", "product_name"])
    assert re.search(r"tokens: \[CLS\] .+\[SEP\]", text, re.DOTALL) and " × 50 × 768 numbers" in text
    assert len(shown(notebook, "image/jpeg")) == 3  # augmentations, neighbours, errors
    assert len(shown(notebook, "image/png")) == 10


def test_what_we_learned_has_the_numbers_of_the_run(executed):
    notebook, results, _ = executed
    learned = next(text for text in shown(notebook, "text/markdown") if "- **Are two inputs better" in text)
    for row in results["rows"]:
        if row["model"] in ("TextModel", "CombinedModel", IMAGE_MODEL, "majority"):
            assert f"{row['test']:.1%} (" in learned
    assert f"{results['split_sizes']['test']} test listings" in learned
    assert f"{IMAGE_MODEL} - photo model" in results["comparisons"]


def test_photos_of_the_size_for_pretrained_weights_are_cleaned(executed):
    """`make run` cleans them to 64 pixels only, which is what the photo notebook reads."""
    notebook, results, folder = executed
    assert results["parameters"]["image_weights"] == "imagenet"
    assert results["parameters"]["image_size"] == PRETRAINED_SIZE
    assert f" photos of {PRETRAINED_SIZE} pixels" in printed(notebook)
    assert folder.clean_images_manifest(PRETRAINED_SIZE).is_file()


def test_its_rows_answer_the_questions_of_the_headline_table(executed):
    rows = executed[1]["rows"]
    questions = {row["model"]: row["question"] for row in rows}
    by_words = {"TF-IDF + logistic regression", "mean embedding + logistic regression", "TF-IDF and mean embedding"}
    by_words |= {"photo and words", "TextModel", "TextModel + ImageModel, plain sum of logits", "CombinedModel"}
    assert questions == {
        "majority": "category",
        **dict.fromkeys(("photo model", IMAGE_MODEL), "category by photo"),
        **dict.fromkeys((*by_words, "CombinedModel and TF-IDF"), "category by words and photo"),
    }
    assert set(questions.values()) - {"category"} <= set(QUESTIONS)
    kinds = {row["model"]: row["kind"] for row in rows}
    assert (kinds["majority"], kinds["photo model"], kinds["TextModel"]) == ("naive", "shallow", "text")


def test_it_leaves_the_checkpoints_and_results(executed):
    _, results, folder = executed
    assert all(folder.checkpoint(name).is_file() for name in ("text", "image", "combined"))
    assert results["dataset"] == "sample marketplace" and results["seed"] == PARAMETERS["seed"]
    assert results["parameters"]["text_epochs"] == 2 and results["parameters"]["image_epochs"] == 1
    scores = {row["model"]: row["test"] for row in results["rows"]}
    assert scores["photo model"] == 1 and scores["photo and words"] == 0  # carried in by the listings' ids
    for name, ranges in results["accuracy_by_train_listings"].items():
        counts = [int(re.search(r"n = (\d+)", size)[1]) for size in ranges]
        assert sum(counts) == results["split_sizes"]["test"]
        assert np.average([*ranges.values()], weights=counts) == pytest.approx(scores[name])
    for values in results["calibration"].values():
        assert 0.05 <= values["temperature"] <= 20 and 0 <= values["ece_after"] <= 1


def test_the_command_for_one_product_reads_what_the_notebook_left(executed):
    options = ("--data-dir", executed[2].path, "--text", "A lamp with a shade", "--json")
    result = run_script("predict_category.py", *options)
    assert result.returncode == 0, result.stderr
    answer = json.loads(result.stdout)
    assert answer["model"] == "fused" and len(answer["predictions"]) == 3


def test_shuffled_labels_leave_nothing_to_learn_and_nothing_behind(executed):
    """Down to the baselines, which see the same table and options as the networks."""
    _, results, folder = executed
    saved = {path: path.stat().st_mtime_ns for path in [*folder.checkpoints.iterdir(), *folder.results.iterdir()]}
    cells = nbformat.read(ROOT / f"{NAME}.ipynb", as_version=4).cells
    end = next(place for place, cell in enumerate(cells) if cell.source.startswith("## TextModel"))
    notebook = execute(NAME, folder.path, cells=end, shuffle_labels=True, image_weights="none", seed=3)
    assert {path: path.stat().st_mtime_ns for path in saved} == saved
    table = shown(notebook, "text/html")[-1]
    learnt = {row["model"]: row["test"] for row in results["rows"]}
    for model in ("TF-IDF + logistic regression", "mean embedding + logistic regression"):
        score = re.search(rf"<td>{re.escape(model)}</td>\s*<td>[\d.]+</td>\s*<td>([\d.]+)", table)
        assert score and float(score[1]) < 0.25 < 0.5 < learnt[model]
    assert "photo model" not in table
