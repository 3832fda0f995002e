"""The two scikit-learn notebooks, executed on a small sample: with scores that a broken pipeline would miss."""

import re

import numpy as np
import pytest
from executed_notebook import copied_folder, execute, shown

from evaluation.plots import MODEL_COLOURS
from evaluation.tables import QUESTIONS
from marketplace.data_folder import DataFolder, read_json
from marketplace.listings import load_products
from shallow.price import CategoryLevel, load_price_model

PRICE, PHOTO = "tabular_linear_regression", "image_classification"


@pytest.fixture(scope="module")
def executed(sample_folder, tmp_path_factory):
    """By name the executed notebook, its results and the data folder."""
    found = {}
    for name in (PRICE, PHOTO):
        folder = DataFolder(copied_folder(sample_folder, tmp_path_factory.mktemp("notebooks") / name))
        notebook = execute(name, folder.path)
        found[name] = (notebook, read_json(folder.results / f"{name}.json", name), folder)
    return found


def rows_of(results, model):
    """Rows of a model by metric or, among those of photos, which have one metric, by task."""
    rows = [row for row in results["rows"] if row["model"] == model]
    return {row["metric"] if row["task"] == "price" else row["task"]: row for row in rows}


@pytest.mark.parametrize(("name", "question"), [(PRICE, "price"), (PHOTO, "category by photo")])
def test_it_shows_pictures_and_rows_that_answer_a_question(executed, name, question):
    notebook, results, _ = executed[name]
    assert len(shown(notebook, "image/png") + shown(notebook, "image/jpeg")) >= 9
    table = shown(notebook, "text/markdown")[-1]
    for row in results["rows"]:
        assert f"| {row['model']} |" in table and row["kind"] in MODEL_COLOURS
        assert row["test_interval"][0] <= row["test"] <= row["test_interval"][1]
        assert {"task", "metric", "validation", "baseline", "seconds"} <= set(row)
    assert {row["question"] for row in results["rows"]} == {question, None} and question in QUESTIONS


def test_price_from_text_beats_the_median_and_the_given_features(executed):
    results = executed[PRICE][1]
    final = rows_of(results, next(row["model"] for row in results["rows"] if row["kind"] == "text"))
    error, in_logs = final["mean absolute error, pounds"], final["R2, log pounds"]
    assert error["test"] < error["baseline"]
    assert in_logs["test"] > 0.1 and in_logs["folds"] > 0.2  # validation is 38 listings, one absurd price among them
    assert in_logs["train"] > in_logs["folds"] > results["checks"]["given_features_on_shuffled_prices"]


def test_price_models_of_the_task_are_all_there_and_the_mean_explains_nothing(executed):
    results = executed[PRICE][1]
    mean = rows_of(results, "mean")["R2, pounds"]
    assert mean["train"] == pytest.approx(0, abs=1e-9) and mean["test"] <= 0
    unregularised = rows_of(results, "linear regression")["R2, pounds"]["train"]
    assert 0.02 < unregularised < 0.6
    for model in ("ridge", "lasso", "elastic net"):  # with so few listings the folds may choose the mean
        assert -1e-9 <= rows_of(results, model)["R2, pounds"]["train"] <= unregularised + 1e-9


def test_each_step_of_the_price_has_its_gain_and_the_leaf_category_is_worth_most(executed):
    gains = executed[PRICE][1]["fold_gains"]
    assert {"log price", "leaf category", "words", "neighbours of place", "letters"} <= gains.keys()
    assert gains["leaf category"]["interval"][0] > 0
    assert abs(gains["neighbours of place"]["gain"]) < gains["leaf category"]["gain"]


def test_the_price_model_is_saved_and_its_interval_measured(executed):
    _, results, folder = executed[PRICE]
    for level in CategoryLevel:  # test is 44 listings
        found = results["interval"][level]
        assert 0.6 < found["coverage"] <= 1 and found["width"] > 1
    score = results["steps"]["words"]["R2, log pounds"]["test"]
    assert results["interval"][CategoryLevel.LEAF]["R2, log pounds"] == pytest.approx(score, abs=1e-3)
    listing = load_products(folder.path).iloc[0]
    found = load_price_model(folder).estimate(listing["text"], listing["category"], listing["location"])
    assert 0.1 < found.low < found.price < found.high and 1 <= len(found.factors) <= 5


def test_prices_shuffled_on_purpose_teach_nothing_and_replace_nothing(executed, sample_folder, tmp_path):
    checks = executed[PRICE][1]["checks"]
    assert abs(checks["given_features_on_shuffled_prices"]) < 0.15
    assert -0.6 < checks["text_on_shuffled_prices"] < 0.1
    folder = DataFolder(copied_folder(sample_folder, tmp_path / "data"))
    notebook = execute(PRICE, folder.path, shuffle_labels=True)
    assert not folder.results.exists() and not folder.checkpoints.exists()
    score = re.search(r"from text \| R2, log pounds \| \S+ \| (\S+)", shown(notebook, "text/markdown")[-1])
    assert score and -1 < float(score[1]) < 0.1


def test_photo_features_beat_majority_and_train_is_above_validation(executed):
    results = executed[PHOTO][1]
    majority = rows_of(results, "majority")["category per photo"]["test"]
    best = rows_of(results, results["parameters"]["best"])["category per photo"]
    assert best["train"] > best["validation"] > majority and best["test"] > majority + 0.1
    curve = results["curve"]
    assert np.all(np.diff(curve["setting"]) > 0) and curve["train"][-1] > 0.9 > curve["train"][0]
    assert curve["train"][-1] - curve["validation"][-1] > 0.3


def test_words_and_photo_together_are_better_than_the_photo_and_carried_for_every_listing(executed):
    _, results, folder = executed[PHOTO]
    best, together = results["parameters"]["best"], f"{results['parameters']['best']} and TF-IDF"
    row = rows_of(results, together)["category per listing"]
    assert row["test"] > rows_of(results, best)["category per product"]["test"] + 0.1
    products = load_products(folder.path)
    with np.load(folder.results / "image_classification.npz") as carried:
        assert carried["models"].tolist() == [best, together] and carried["ids"].tolist() == products["id"].tolist()
        right = carried["predictions"][1] == products["main_category_code"].to_numpy()
    assert right[products["split"] == "test"].mean() == pytest.approx(row["test"])


def test_a_leaky_split_flatters_the_photos_that_have_a_sibling_in_train(executed):
    leaks = executed[PHOTO][1]["leak"]
    nonsense = leaks["union, nearest neighbour, shuffled categories"]  # the listing is recognised, not the category
    assert nonsense["… with a sibling in train"] > nonsense["split by product"] + 0.1


def test_shuffled_labels_give_chance_and_lose_no_results(executed, sample_folder, tmp_path):
    results = executed[PHOTO][1]
    chance = results["parameters"]["chance"]
    limit = chance + 4 * np.sqrt(chance / results["split_sizes"]["test photos"])
    assert results["checks"]["accuracy_on_shuffled_labels"] < limit
    folder = DataFolder(copied_folder(sample_folder, tmp_path / "data"))
    notebook = execute(PHOTO, folder.path, shuffle_labels=True)
    assert not folder.results.exists()
    lines = shown(notebook, "text/markdown")[-1].splitlines()
    of_photos = [line.split(" | ") for line in lines if line.startswith("| category per photo |")]
    assert len(of_photos) == 8 and all(float(cells[3].split()[0]) < limit for cells in of_photos)
