"""Metrics against values computed by hand and by scikit-learn; intervals, calibration, pictures, table of results."""

import json

import matplotlib
import numpy as np
import pytest
from conftest import run_script
from sklearn.metrics import accuracy_score, f1_score, precision_recall_fscore_support, r2_score

from data_folder import UserError
from models import evaluation

matplotlib.use("Agg")

LABELS = np.array([0, 0, 0, 1, 1, 2])
PREDICTIONS = np.array([0, 0, 1, 1, 2, 2])


def random_labels(rows=400, classes=5, right=0.6, seed=3):
    generator = np.random.default_rng(seed)
    labels = generator.integers(classes, size=rows)
    return labels, np.where(generator.random(rows) < right, labels, generator.integers(classes, size=rows))


def test_accuracy_and_macro_f1_by_hand():
    assert evaluation.accuracy(LABELS, PREDICTIONS) == pytest.approx(4 / 6)
    # F1: class 0 2*2/(3+2), class 1 2*1/(2+2), class 2 2*1/(1+2)
    assert evaluation.macro_f1(LABELS, PREDICTIONS) == pytest.approx((4 / 5 + 1 / 2 + 2 / 3) / 3)


@pytest.mark.parametrize("right", [0.0, 0.5, 1.0])
def test_metrics_equal_those_of_scikit_learn(right):
    labels, predictions = random_labels(right=right)
    metrics = evaluation.classification_metrics(labels, predictions)
    assert metrics["accuracy"] == pytest.approx(accuracy_score(labels, predictions))
    assert metrics["macro_f1"] == pytest.approx(f1_score(labels, predictions, average="macro"))
    for name in ("accuracy", "macro_f1"):
        low, high = metrics[f"{name}_interval"]
        assert low <= metrics[name] <= high


def test_macro_f1_counts_a_class_that_is_only_predicted():
    labels, predictions = np.array([0, 0, 2]), np.array([0, 1, 2])
    assert evaluation.macro_f1(labels, predictions) == pytest.approx(f1_score(labels, predictions, average="macro"))


def test_per_class_table_has_a_row_for_an_absent_class():
    table = evaluation.per_class_table(LABELS, PREDICTIONS, ["a", "b", "c", "never"])
    precision, recall, f1, rows = precision_recall_fscore_support(LABELS, PREDICTIONS)
    assert table.loc[["a", "b", "c"]].to_numpy() == pytest.approx(np.stack([precision, recall, f1, rows], axis=1))
    assert table.loc["never"].tolist() == [0, 0, 0, 0]


def test_price_metrics_by_hand():
    prices, predicted = np.array([1.0, 10.0, 100.0, 1000.0]), np.array([10.0, 10.0, 100.0, -5.0])
    metrics = {name: value for name, (value, _) in evaluation.price_metrics(prices, predicted).items()}
    assert metrics["mean absolute error, pounds"] == pytest.approx((9 + 0 + 0 + 1005) / 4)
    assert metrics["median absolute error, pounds"] == pytest.approx(4.5)
    assert metrics["R2, pounds"] == pytest.approx(r2_score(prices, predicted))
    assert evaluation.r_squared(np.ones(3), np.ones(3)) == 1 and evaluation.r_squared(np.ones(3), np.zeros(3)) == 0
    # in powers of ten: true 0 1 2 3, predicted 1 1 2 0, the last because less than a pound counts as one
    assert metrics["R2, log pounds"] == pytest.approx(1 - (1 + 9) / 5)


def test_interval_of_a_mean_has_the_width_that_statistics_gives():
    values = np.random.default_rng(0).normal(size=900)
    low, high = evaluation.bootstrap_interval(np.mean, values)
    assert low < values.mean() < high
    assert high - low == pytest.approx(2 * 1.96 * values.std() / 30, rel=0.1)
    assert evaluation.bootstrap_interval(np.mean, values) == (low, high)
    assert evaluation.bootstrap_interval(np.mean, values, seed=1) != (low, high)


def test_interval_by_group_is_wider_when_rows_of_a_group_are_copies():
    values = np.random.default_rng(0).normal(size=100)
    groups = np.array([f"product {index}" for index in range(100)])
    alone = evaluation.bootstrap_interval(np.mean, values, groups=groups)
    copied = evaluation.bootstrap_interval(np.mean, np.repeat(values, 9), groups=np.repeat(groups, 9))
    ignored = evaluation.bootstrap_interval(np.mean, np.repeat(values, 9))
    width = {name: high - low for name, (low, high) in {"alone": alone, "copied": copied, "ignored": ignored}.items()}
    assert width["copied"] == pytest.approx(width["alone"], rel=0.1)
    assert width["ignored"] == pytest.approx(width["alone"] / 3, rel=0.15)


def test_paired_bootstrap_tells_a_real_difference_from_none():
    generator = np.random.default_rng(0)
    good, bad, same = (generator.random(500) < share for share in (0.8, 0.6, 0.8))
    better = evaluation.paired_bootstrap(good, bad)
    assert better["difference"] == pytest.approx(good.mean() - bad.mean())
    assert better["interval"][0] > 0
    low, high = evaluation.paired_bootstrap(good, same)["interval"]
    assert low < 0 < high


def test_calibration_error_by_hand():
    probabilities = np.array([[0.9, 0.1], [0.9, 0.1], [0.4, 0.6], [0.4, 0.6]])
    labels = np.array([0, 1, 1, 1])  # at 0.9 half are right, at 0.6 all
    assert evaluation.expected_calibration_error(probabilities, labels) == pytest.approx((0.4 + 0.4) / 2)
    certain = np.eye(3)[[0, 1, 2]]
    assert evaluation.expected_calibration_error(certain, np.array([0, 1, 2])) == pytest.approx(0)


def test_temperature_recovers_by_how_much_logits_were_sharpened():
    generator = np.random.default_rng(0)
    logits = generator.normal(scale=2, size=(4000, 4))
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    labels = np.array([generator.choice(4, p=row) for row in probabilities])
    temperature = evaluation.fit_temperature(5 * logits, labels)
    assert temperature == pytest.approx(5, rel=0.1)
    sharp = evaluation.negative_log_likelihood(5 * logits, labels)
    assert evaluation.negative_log_likelihood(5 * logits, labels, temperature) < sharp


def test_confusion_matrix_shows_shares_of_the_true_class_and_similar_ones_side_by_side():
    labels = np.repeat([0, 1, 2, 3], 10)
    predictions = labels.copy()
    predictions[:4], predictions[20:25] = 2, 0  # 0 and 2 are taken for each other, 1 and 3 never
    ax = evaluation.plot_confusion_matrix(labels, predictions, ["sofa", "drill", "armchair", "shoe"])
    names = [label.get_text() for label in ax.get_yticklabels()]
    assert abs(names.index("sofa") - names.index("armchair")) == 1
    shares = np.asarray(ax.images[0].get_array())
    assert shares.sum(axis=1) == pytest.approx(np.ones(4))
    assert shares[names.index("sofa"), names.index("armchair")] == pytest.approx(0.4)


def test_pictures_can_be_drawn_from_few_rows_and_absent_classes():
    evaluation.plot_confusion_matrix(np.array([0, 1]), np.array([1, 1]), ["a", "b"])
    evaluation.plot_confusion_matrix(np.array([0, 0]), np.array([0, 0]), list("abcd"))
    evaluation.plot_reliability(np.array([[0.5, 0.5], [1.0, 0.0]]), np.array([0, 0]))
    figure = evaluation.photo_grid(np.zeros((7, 8, 8, 3), np.uint8), ["is\nsaid"] * 7, columns=3, title="Seven")
    assert sum(bool(ax.images) for ax in figure.axes) == 7
    matplotlib.pyplot.close("all")


def results(**changes):
    row = {"task": "price", "model": "ridge", "metric": "R2", "validation": np.float32(0.5), "test": 0.25}
    row |= {"test_interval": (0.125, np.nan), "baseline": -0.01, "seconds": 1234.5}
    return {
        "seed": 7,
        "split_sizes": {"train": 2000, "test": 300},
        "parameters": {"alpha": np.int64(10)},
        "rows": [row],
    } | changes


def test_results_are_plain_json_and_tell_no_name_of_the_machine(tmp_path):
    written = evaluation.write_results(tmp_path, "tabular_linear_regression", results())
    read = json.loads((tmp_path / "results" / "tabular_linear_regression.json").read_text(encoding="utf-8"))
    assert read == written
    assert read["dataset"] == "user data" and read["parameters"] == {"alpha": 10}
    assert read["rows"][0]["test_interval"] == [0.125, None]
    assert "cores" in read["hardware"]["words"] and "node" not in read["hardware"]
    assert read["hardware"]["cores"] >= 1


def test_sample_is_known_by_its_embedded_database(tmp_path):
    (tmp_path / "marketplace.db").touch()
    assert evaluation.dataset_name(tmp_path) == "sample marketplace"


def test_incomplete_results_are_refused_and_nothing_written(tmp_path):
    with pytest.raises(ValueError, match="lack rows"):
        evaluation.write_results(tmp_path, "x", {"seed": 1, "split_sizes": {}, "parameters": {}})
    assert not (tmp_path / "results").exists()


def test_readme_rows_are_a_markdown_table_with_sizes_seed_and_hardware(tmp_path):
    lines = evaluation.readme_rows(evaluation.write_results(tmp_path, "x", results())).splitlines()
    assert len({line.count("|") for line in lines[:3]}) == 1
    assert "| 0.500 | 0.250 |" in lines[2] and "1,234" in lines[2]
    assert "train 2,000, test 300; seed 7" in lines[-1]


def test_command_prints_one_table_in_the_order_of_the_notebooks(tmp_path):
    for name, model in (("product_ranking", "z"), ("tabular_linear_regression", "a"), ("own_command", "q")):
        rows = [{"task": name, "model": model}]
        evaluation.write_results(tmp_path, name, results(rows=rows))
    printed = run_script("-m", "models.evaluation", "--data-dir", tmp_path)
    assert printed.returncode == 0 and printed.stderr == ""
    positions = [printed.stdout.index(name) for name in ("tabular_linear_regression", "product_ranking", "own_command")]
    assert positions == sorted(positions)
    assert all(word in printed.stdout for word in ("validation", "test", "baseline", "seconds"))


def test_command_without_results_says_so_in_one_sentence(tmp_path):
    printed = run_script("-m", "models.evaluation", "--data-dir", tmp_path)
    assert printed.returncode == 1 and printed.stdout == ""
    assert printed.stderr.count("\n") == 1 and "run the notebooks" in printed.stderr


@pytest.mark.parametrize("content", ["", "[1, 2]", '{"rows": 5}', "\x00"])
def test_damaged_results_are_named(tmp_path, content):
    path = tmp_path / "results" / "image_classification.json"
    path.parent.mkdir()
    path.write_text(content, encoding="utf-8")
    with pytest.raises(UserError, match=r"image_classification\.json"):
        evaluation.results_table(tmp_path)
