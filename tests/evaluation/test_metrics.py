"""Metrics against values computed by hand and by scikit-learn; intervals and calibration."""

import contextlib

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import f1_score, r2_score

from evaluation import metrics
from marketplace.data_folder import UserError

LABELS = np.array([0, 0, 0, 1, 1, 2])
PREDICTIONS = np.array([0, 0, 1, 1, 2, 2])


def random_labels(rows=400, classes=5, right=0.6, seed=3):
    generator = np.random.default_rng(seed)
    labels = generator.integers(classes, size=rows)
    return labels, np.where(generator.random(rows) < right, labels, generator.integers(classes, size=rows))


def test_accuracy_and_macro_f1_by_hand_with_intervals_around_them():
    scores = metrics.classification_metrics(LABELS, PREDICTIONS)
    assert scores["accuracy"] == pytest.approx(4 / 6)
    # F1: class 0 2*2/(3+2), class 1 2*1/(2+2), class 2 2*1/(1+2)
    assert scores["macro_f1"] == pytest.approx((4 / 5 + 1 / 2 + 2 / 3) / 3)
    for name in ("accuracy", "macro_f1"):
        low, high = scores[f"{name}_interval"]
        assert low <= scores[name] <= high


@pytest.mark.parametrize("right", [0.0, 0.5, 1.0])
def test_the_quick_metrics_of_bootstraps_equal_those_of_scikit_learn(right):
    labels, predictions = random_labels(right=right)
    assert metrics.macro_f1(labels, predictions) == pytest.approx(f1_score(labels, predictions, average="macro"))
    assert metrics.r_squared(labels, predictions) == pytest.approx(r2_score(labels, predictions))


def test_price_metrics_by_hand():
    prices, predicted = np.array([1.0, 10.0, 100.0, 1000.0]), np.array([10.0, 10.0, 100.0, -5.0])
    values = {name: value for name, (value, _) in metrics.price_metrics(prices, predicted).items()}
    assert values["mean absolute error, pounds"] == pytest.approx((9 + 0 + 0 + 1005) / 4)
    assert values["median absolute error, pounds"] == pytest.approx(4.5)
    assert values["R2, pounds"] == pytest.approx(r2_score(prices, predicted))
    assert metrics.r_squared(np.ones(3), np.ones(3)) == 1 and metrics.r_squared(np.ones(3), np.zeros(3)) == 0
    # in powers of ten: true 0 1 2 3, predicted 1 1 2 0, the last because less than a pound counts as one
    assert values["R2, log pounds"] == pytest.approx(1 - (1 + 9) / 5)


def test_interval_of_a_mean_has_the_width_that_statistics_gives():
    values = np.random.default_rng(0).normal(size=900)
    low, high = metrics.bootstrap_interval(np.mean, values)
    assert low < values.mean() < high
    assert high - low == pytest.approx(2 * 1.96 * values.std() / 30, rel=0.1)
    assert metrics.bootstrap_interval(np.mean, values) == (low, high)
    assert metrics.bootstrap_interval(np.mean, values, seed=1) != (low, high)


def test_interval_by_group_is_wider_when_rows_of_a_group_are_copies():
    values = np.random.default_rng(0).normal(size=100)
    groups = np.array([f"product {index}" for index in range(100)])
    alone = metrics.bootstrap_interval(np.mean, values, groups=groups)
    copied = metrics.bootstrap_interval(np.mean, np.repeat(values, 9), groups=np.repeat(groups, 9))
    ignored = metrics.bootstrap_interval(np.mean, np.repeat(values, 9))
    width = {name: high - low for name, (low, high) in {"alone": alone, "copied": copied, "ignored": ignored}.items()}
    assert width["copied"] == pytest.approx(width["alone"], rel=0.1)
    assert width["ignored"] == pytest.approx(width["alone"] / 3, rel=0.15)


def test_paired_bootstrap_tells_a_real_difference_from_none():
    generator = np.random.default_rng(0)
    good, bad, same = (generator.random(500) < share for share in (0.8, 0.6, 0.8))
    better = metrics.paired_bootstrap(good, bad)
    assert better["difference"] == pytest.approx(good.mean() - bad.mean())
    assert better["interval"][0] > 0
    low, high = metrics.paired_bootstrap(good, same)["interval"]
    assert low < 0 < high


def test_confident_mistakes_are_one_a_group_the_largest_margin_first():
    scores = np.array([[5, 0], [3, 0], [9, 0], [0, 1], [0, 4], [8, 0]], float)
    labels, groups = np.array([1, 1, 0, 0, 0, 1]), np.array([7, 7, 7, 8, 9, 9])
    assert metrics.confident_mistakes(scores, labels, groups, 9).tolist() == [5, 0, 3]
    assert metrics.confident_mistakes(scores, labels, groups, 2).tolist() == [5, 0]
    assert metrics.confident_mistakes(scores[2:3], labels[2:3], groups[2:3], 2).tolist() == []


def test_calibration_error_by_hand():
    probabilities = np.array([[0.9, 0.1], [0.9, 0.1], [0.4, 0.6], [0.4, 0.6]])
    labels = np.array([0, 1, 1, 1])  # at 0.9 half are right, at 0.6 all
    assert metrics.expected_calibration_error(probabilities, labels) == pytest.approx((0.4 + 0.4) / 2)
    certain = np.eye(3)[[0, 1, 2]]
    assert metrics.expected_calibration_error(certain, np.array([0, 1, 2])) == pytest.approx(0)


def test_temperature_recovers_by_how_much_logits_were_sharpened():
    generator = np.random.default_rng(0)
    logits = generator.normal(scale=2, size=(4000, 4))
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    labels = np.array([generator.choice(4, p=row) for row in probabilities])
    temperature = metrics.fit_temperature(5 * logits, labels)
    assert temperature == pytest.approx(5, rel=0.1)


@pytest.mark.parametrize(
    ("splits", "options", "sentence"),
    [
        ("train train validation test", {}, None),
        (
            "train train test test",
            {},
            r"the validation split has too few listings \(0 of at least 1\): .* 30 listings for",
        ),
        ("train validation test", {"what": "photos"}, r"the train split has too few photos \(1 of at least 2\)"),
        ("train validation train test", {}, r"all listings of the train split are of one category: "),
        ("train validation train test", {"categories": 1}, None),
        ("train train validation", {"splits": ("train", "validation")}, None),
    ],
)
def test_too_few_listings_are_one_sentence_that_names_the_split(splits, options, sentence):
    products = pd.DataFrame({"split": splits.split()})
    products["main_category_code"] = products.index % 2
    with pytest.raises(UserError, match=sentence) if sentence else contextlib.nullcontext():
        metrics.check_splits(products, **options)


def test_the_row_of_a_model_has_its_scores_and_the_majority_baseline():
    splits = ["train", "train", "train", "validation", "test", "test", "test"]
    products = pd.DataFrame({"main_category_code": [0, 0, 1, 1, 0, 1, 1], "split": splits})
    predictions = np.array([0, 0, 0, 1, 1, 1, 1])
    row = metrics.category_row("ours", "text", "category by photo", products, predictions, 1.5)
    assert (row["validation"], row["test"], row["baseline"]) == (1, pytest.approx(2 / 3), pytest.approx(1 / 3))
    assert row["macro_f1"] == pytest.approx(0.4)  # F1 of class 0 is 0, of class 1 2*2/(3+2)
    assert (row["question"], row["kind"], row["seconds"]) == ("category by photo", "text", 1.5)


def test_accuracy_by_the_number_of_train_listings_of_the_leaf():
    train = ["a"] * 5 + ["b"] * 6 + ["c"] * 12
    test = ["a", "a", "b", "c", "never seen"]
    products = pd.DataFrame({"category": train + test, "split": ["train"] * len(train) + ["test"] * len(test)})
    correct = {"one": np.array([True, False, True, False, False]), "other": np.ones(5, bool)}
    table = metrics.by_train_listings(correct, products)
    assert list(table) == ["fewer than 6 (n = 3)", "6 to 11 (n = 1)", "12 or more (n = 1)"]
    assert table.loc["one"].tolist() == pytest.approx([1 / 3, 1, 0]) and table.loc["other"].tolist() == [1, 1, 1]
    few = metrics.by_train_listings({"one": np.array([True])}, products.iloc[: len(train) + 1])
    assert list(few) == ["fewer than 6 (n = 1)"]
