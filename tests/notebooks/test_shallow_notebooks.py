"""The two scikit-learn notebooks, executed on a small sample: whole, quiet, and with scores that a broken pipeline
would miss."""

import json
import os
import re
import shutil
from pathlib import Path

import nbformat
import numpy as np
import papermill
import pytest
from repository import ROOT

from marketplace.data_folder import DataFolder, read_json
from marketplace.listings import load_products
from shallow.price import CategoryLevel, load_price_model

PRICE, PHOTO = "tabular_linear_regression", "image_classification"


def execute(
    name: str, sample_folder: Path, workplace: Path, **parameters: object
) -> tuple[nbformat.NotebookNode, dict | None]:
    """Run a notebook on the sample, its results going into `workplace`; the executed notebook and the results, if it
    has written any."""
    workplace.mkdir()
    for path in sample_folder.iterdir():
        (workplace / path.name).symlink_to(path)
    executed = workplace / "executed.ipynb"
    parameters = {"data_dir": str(workplace), **parameters}
    papermill.execute_notebook(ROOT / f"{name}.ipynb", executed, parameters, cwd=ROOT, progress_bar=False)
    path = workplace / "results" / f"{name}.json"
    return nbformat.read(executed, as_version=4), read_json(path, name) if path.exists() else None


@pytest.fixture(scope="module")
def executed(sample_folder, tmp_path_factory):
    """Both notebooks, executed, by name."""
    folder = tmp_path_factory.mktemp("notebooks")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")  # so little work is only slowed by more threads
        return {name: execute(name, sample_folder, folder / name) for name in (PRICE, PHOTO)}


@pytest.mark.parametrize("name", [PRICE, PHOTO])
def test_runs_from_top_to_bottom_without_a_warning(executed, name):
    notebook, _ = executed[name]
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    loud = [output for cell in cells for output in cell.outputs if output.get("name") == "stderr"]
    assert not loud
    assert len(json.dumps(notebook)) < 2_000_000


@pytest.mark.parametrize("name", [PRICE, PHOTO])
def test_shows_pictures_and_the_rows_for_the_readme(executed, name):
    notebook, results = executed[name]
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", ())]
    pictures = [kind for output in outputs for kind in output.get("data", ()) if kind in ("image/png", "image/jpeg")]
    assert len(pictures) >= 9
    last = notebook.cells[-1].outputs[-1]["data"]["text/markdown"]
    assert all(f"| {row['model']} |" in last for row in results["rows"])
    assert {"task", "model", "metric", "validation", "test", "baseline", "seconds"} <= set(results["rows"][0])


@pytest.mark.parametrize("name", [PRICE, PHOTO])
def test_no_path_of_this_machine_is_shown(executed, name):
    notebook, _ = executed[name]
    shown = json.dumps([cell.get("outputs", ()) for cell in notebook.cells])
    assert str(ROOT) not in shown and os.path.expanduser("~/") not in shown


def of_few_listings(sample_folder: Path, folder: Path, **counts: int) -> Path:
    """A copy of the sample's folder with the first listings of each split."""
    shutil.copytree(sample_folder, folder, ignore=shutil.ignore_patterns("*images*", "*.db"))
    for name in ("images_table.json", "clean_images_64"):
        (folder / name).symlink_to(sample_folder / name)
    products = json.loads((folder / "products_table_clean.json").read_text(encoding="utf-8"))
    kept = [[p for p in products if p["split"] == split][:count] for split, count in counts.items()]
    (folder / "products_table_clean.json").write_text(json.dumps([p for some in kept for p in some]), encoding="utf-8")
    return folder


@pytest.mark.parametrize("name", [PRICE, PHOTO])
def test_twenty_listings_are_enough(name, sample_folder, tmp_path):
    folder = of_few_listings(sample_folder, tmp_path / "few", train=15, validation=2, test=3)
    notebook, results = execute(name, folder, tmp_path / "work")
    assert len(results["rows"]) >= 9 and all(np.isfinite(row["test"]) for row in results["rows"])
    assert '"stderr"' not in json.dumps(notebook)


@pytest.mark.parametrize(("name", "counts"), [(PRICE, {"train": 4, "test": 1}), (PHOTO, {"train": 1, "test": 1})])
def test_a_split_without_listings_is_one_sentence(name, counts, sample_folder, tmp_path):
    folder = of_few_listings(sample_folder, tmp_path / "few", **counts)
    with pytest.raises(papermill.PapermillExecutionError, match=r"UserError: the .* too few .* about 30 listings"):
        execute(name, folder, tmp_path / "work")
    assert not (tmp_path / "work" / "results").exists()


def rows_of(results: dict, model: str) -> dict:
    """Rows of a model by metric or, among those of photos, which have one metric, by task."""
    rows = [row for row in results["rows"] if row["model"] == model]
    return {row["metric"] if row["task"] == "price" else row["task"]: row for row in rows}


def test_price_from_text_beats_the_median_and_the_given_features(executed):
    _, results = executed[PRICE]
    final = rows_of(results, next(row["model"] for row in results["rows"] if row["model"].endswith("from text")))
    error = final["mean absolute error, pounds"]
    assert error["test"] < error["baseline"]
    in_logs = final["R2, log pounds"]
    assert in_logs["test"] > 0.1 and in_logs["folds"] > 0.2  # validation is 38 listings, one absurd price among them
    assert in_logs["train"] > in_logs["folds"] > results["checks"]["given_features_on_shuffled_prices"]


def test_price_models_of_the_task_are_all_there_and_the_mean_explains_nothing(executed):
    _, results = executed[PRICE]
    mean = rows_of(results, "mean")["R2, pounds"]
    assert mean["train"] == pytest.approx(0, abs=1e-9) and mean["test"] <= 0
    unregularised = rows_of(results, "linear regression")["R2, pounds"]["train"]
    assert 0.02 < unregularised < 0.6
    for model in ("linear regression", "ridge", "lasso", "elastic net"):
        row = rows_of(results, model)["R2, pounds"]
        assert -1e-9 <= row["train"] <= unregularised + 1e-9  # with so few listings the folds may choose the mean
        assert row["test_interval"][0] <= row["test"] <= row["test_interval"][1]
    assert results["parameters"]["chosen"].keys() == {"ridge", "lasso", "elastic net"}


def test_nothing_is_found_in_shuffled_prices(executed):
    _, results = executed[PRICE]
    assert abs(results["checks"]["given_features_on_shuffled_prices"]) < 0.15
    assert -0.6 < results["checks"]["text_on_shuffled_prices"] < 0.1


def test_prices_shuffled_on_purpose_teach_nothing_and_replace_nothing(sample_folder, tmp_path):
    notebook, results = execute(PRICE, sample_folder, tmp_path / "work", shuffle_labels=True)
    assert not results and not (tmp_path / "work" / "checkpoints").exists()
    table = notebook.cells[-1].outputs[-1]["data"]["text/markdown"]
    score = re.search(r"from text \| R2, log pounds \| \S+ \| (\S+)", table)
    assert score and -1 < float(score[1]) < 0.1


def test_each_step_of_the_price_has_its_gain_and_the_leaf_category_is_worth_most(executed):
    _, results = executed[PRICE]
    gains = results["fold_gains"]
    assert {"log price", "leaf category", "words", "neighbours of place", "letters"} <= gains.keys()
    assert all(one["interval"][0] <= one["gain"] <= one["interval"][1] for one in gains.values())
    assert gains["leaf category"]["interval"][0] > 0
    assert abs(gains["neighbours of place"]["gain"]) < gains["leaf category"]["gain"]


def test_the_price_model_is_saved_and_its_interval_measured(executed):
    notebook, results = executed[PRICE]
    interval = results["interval"]
    for known in CategoryLevel:  # test is 44 listings
        found = interval[known]
        assert 0.6 < found["coverage"] <= 1 and found["width"] > 1
        assert found["coverage_interval"][0] <= found["coverage"] <= found["coverage_interval"][1]
    assert interval[CategoryLevel.LEAF]["R2, log pounds"] == pytest.approx(
        results["steps"]["words"]["R2, log pounds"]["test"], abs=1e-3
    )
    assert all(of["listings"] >= 50 for of in interval["by main category"].values())
    folder = DataFolder(notebook.metadata.papermill.parameters.data_dir)
    listing = load_products(folder.path).iloc[0]
    found = load_price_model(folder).estimate(listing["text"], listing["category"], listing["location"])
    assert 0.1 < found.low < found.price < found.high and 1 <= len(found.factors) <= 5


def test_photo_features_beat_majority_and_train_is_above_validation(executed):
    _, results = executed[PHOTO]
    per_photo = "category per photo"
    majority = rows_of(results, "majority")[per_photo]["test"]
    best = rows_of(results, results["parameters"]["best"])[per_photo]
    assert best["test"] > majority + 0.1 and best["validation"] > majority
    pixels = rows_of(results, "pixels, logistic regression")[per_photo]
    assert pixels["train"] > pixels["validation"]
    assert best["train"] > best["validation"]
    assert {row["task"] for row in results["rows"]} == {per_photo, "category per product", "category per listing"}


def test_words_and_photo_together_are_better_than_the_photo_and_carried_for_every_listing(executed):
    notebook, results = executed[PHOTO]
    best, together = results["parameters"]["best"], f"{results['parameters']['best']} and TF-IDF"
    row = rows_of(results, together)["category per listing"]
    assert row["test"] > rows_of(results, best)["category per product"]["test"] + 0.1
    folder = DataFolder(notebook.metadata.papermill.parameters.data_dir)
    products = load_products(folder.path)
    with np.load(folder.results / "image_classification.npz") as carried:
        assert carried["models"].tolist() == [best, together] and carried["ids"].tolist() == products["id"].tolist()
        test = (products["split"] == "test").to_numpy()
        right = carried["predictions"][1] == products["main_category_code"].to_numpy()
    assert right[test].mean() == pytest.approx(row["test"])


def test_train_accuracy_grows_with_weaker_regularisation(executed):
    _, results = executed[PHOTO]
    curve = results["curve"]
    assert np.all(np.diff(curve["setting"]) > 0)
    assert curve["train"][-1] > 0.9 > curve["train"][0]
    assert curve["train"][-1] - curve["validation"][-1] > 0.3


def at_chance(accuracy: float, results: dict) -> bool:
    chance = results["parameters"]["chance"]
    return accuracy < chance + 4 * np.sqrt(chance / results["split_sizes"]["test photos"])


def test_shuffled_labels_give_chance(executed):
    _, results = executed[PHOTO]
    assert at_chance(results["checks"]["accuracy_on_shuffled_labels"], results)


def test_the_reader_can_shuffle_the_labels_of_train_and_loses_no_results(executed, sample_folder, tmp_path):
    notebook, results = execute(PHOTO, sample_folder, tmp_path / "work", shuffle_labels=True)
    assert results is None and not (tmp_path / "work" / "results").exists()
    lines = notebook.cells[-1].outputs[-1]["data"]["text/markdown"].splitlines()
    of_photos = [line.split(" | ") for line in lines if line.startswith("| category per photo |")]
    assert len(of_photos) == 8 and all(at_chance(float(cells[3].split()[0]), executed[PHOTO][1]) for cells in of_photos)
    assert "labels of train are shuffled" in json.dumps(notebook)


def test_a_missing_step_is_named(sample_folder, tmp_path):
    folder = of_few_listings(sample_folder, tmp_path / "few", train=15, validation=2, test=3)
    (folder / "clean_images_64").unlink()
    with pytest.raises(papermill.PapermillExecutionError, match=r"UserError: .* run clean_images.py --size 64"):
        execute(PHOTO, folder, tmp_path / "work")


def test_a_leaky_split_flatters_the_photos_that_have_a_sibling_in_train(executed):
    _, results = executed[PHOTO]
    leaks = results["leak"]
    known, new = (
        np.mean([leak[of] for leak in leaks.values()]) for of in ("… with a sibling in train", "… without one")
    )
    assert known > new
    nonsense = leaks["union, nearest neighbour, shuffled categories"]  # the listing is recognised, not the category
    assert nonsense["… with a sibling in train"] > nonsense["split by product"] + 0.1
