"""Results files and the tables made of them."""

import contextlib
import json

import numpy as np
import pandas as pd
import pytest
from repository import run_script

from evaluation.tables import (
    by_train_listings,
    check_splits,
    dataset_name,
    read_results,
    result_rows,
    results_markdown,
    rows_table,
    write_results,
)
from marketplace.data_folder import UserError


def some_results(**changes):
    row = {"task": "price", "model": "ridge", "metric": "R2", "validation": np.float32(0.5), "test": 0.25}
    row |= {"test_interval": (0.125, np.nan), "baseline": -0.01, "seconds": 1234.5}
    return {
        "seed": 7,
        "split_sizes": {"train": 2000, "test": 300},
        "parameters": {"alpha": np.int64(10)},
        "rows": [row],
    } | changes


def test_results_are_plain_json_and_tell_no_name_of_the_machine(tmp_path):
    written = write_results(tmp_path, "tabular_linear_regression", some_results())
    read = json.loads((tmp_path / "results" / "tabular_linear_regression.json").read_text(encoding="utf-8"))
    assert read == written
    assert read["dataset"] == "user data" and read["parameters"] == {"alpha": 10}
    assert read["rows"][0]["test_interval"] == [0.125, None]
    assert "cores" in read["hardware"]["words"] and "node" not in read["hardware"]


def test_sample_is_known_by_its_embedded_database(tmp_path):
    (tmp_path / "marketplace.db").touch()
    assert dataset_name(tmp_path) == "sample marketplace"


def test_incomplete_results_are_refused_and_nothing_written(tmp_path):
    with pytest.raises(ValueError, match="lack rows"):
        write_results(tmp_path, "x", {"seed": 1, "split_sizes": {}, "parameters": {}})
    assert not (tmp_path / "results").exists()


@pytest.mark.parametrize("value", [float("nan"), np.float32("nan"), np.float64("inf")])
def test_a_score_that_is_no_number_is_refused_and_the_earlier_file_stays(tmp_path, value):
    write_results(tmp_path, "x", some_results())
    before = (tmp_path / "results" / "x.json").read_bytes()
    rows = [{"model": "mean", "test": 0.5}, {"model": "ridge", "validation": value, "test": 0.5, "seconds": None}]
    with pytest.raises(UserError, match=r"^the results of x are not written, since validation of ridge is no number: "):
        write_results(tmp_path, "x", some_results(rows=rows))
    assert (tmp_path / "results" / "x.json").read_bytes() == before


@pytest.mark.parametrize(
    ("splits", "options", "sentence"),
    [
        ("train train validation test", {}, None),
        (
            "train train test test",
            {},
            r"the validation split has too few listings \(0 of at least 1\): .* 30 listings for",
        ),
        ("train validation test", {}, r"the train split has too few listings \(1 of at least 2\)"),
        ("train train train train validation test test", {"least": 2}, r"validation .* \(1 of at least 2\)"),
        (
            "train train validation test",
            {"what": "photos", "rows": [0, 0, 1, 3]},
            r"validation .* photos .* 30 listings with",
        ),
        ("train validation train test", {}, r"all listings of the train split are of one category: "),
        ("train validation train test", {"categories": 1}, None),
        ("train train validation", {"splits": ("train", "validation")}, None),
    ],
)
def test_too_few_listings_are_one_sentence_that_names_the_split(splits, options, sentence):
    products = pd.DataFrame({"split": splits.split()})
    products["main_category_code"] = products.index % 2
    with pytest.raises(UserError, match=rf"{sentence}[^\n]*\.$") if sentence else contextlib.nullcontext():
        check_splits(products.iloc[options.pop("rows", slice(None))], **options)


def test_results_are_a_markdown_table_below_sizes_seed_and_hardware(tmp_path):
    first, _, *lines = results_markdown(write_results(tmp_path, "x", some_results())).splitlines()
    assert "train 2,000, test 300; seed 7" in first and "cores" in first
    assert lines[0] == "| model | validation R2 | test R2 | baseline | seconds |"
    assert len({line.count("|") for line in lines}) == 1
    assert lines[2] == "| ridge | 0.500 | 0.250 (0.125 to ) | -0.010 | 1,234 |"


def test_a_table_leaves_out_columns_that_say_nothing():
    rows = [{"task": "price", "model": name, "metric": "R2", "test": 0.5, "seconds": 0.01} for name in ("a", "b")]
    assert list(rows_table(rows)) == ["model", "test R2"]
    rows[0]["metric"], rows[1]["macro_f1"] = "error", 0.25
    table = rows_table(rows)
    assert list(table) == ["model", "metric", "test", "macro-F1"]
    assert table["macro-F1"].tolist() == ["", "0.250"]


def test_rows_per_photo_weigh_every_photo_and_compare_with_the_same_photos():
    products = pd.DataFrame({"main_category_code": [0, 0, 1, 1], "split": ["train", "validation", "test", "test"]})
    owners, predicted = np.array([0, 1, 2, 2, 2, 3]), np.array([0, 0, 1, 1, 0, 0])
    (row,) = result_rows("ours", products, predicted, 1.5, product_rows=owners)
    assert row["test"] == 0.5 and row["validation"] == 1.0 and row["baseline"] == 0.0
    assert row["macro_f1"] == pytest.approx(1 / 3)  # F1 of class 0 is 0, of class 1 2*2/(4+2)
    assert result_rows("ours", products, predicted[:2], 1.5, product_rows=owners[:2]) == []


def test_command_prints_each_file_in_the_order_of_the_notebooks(tmp_path):
    for name, model in (("product_ranking", "z"), ("tabular_linear_regression", "a"), ("own_command", "q")):
        write_results(tmp_path, name, some_results(rows=[{"task": name, "model": model, "test": 0.5}]))
    printed = run_script("-m", "evaluation.results", "--data-dir", tmp_path)
    assert printed.returncode == 0 and printed.stderr == ""
    positions = [printed.stdout.index(name) for name in ("tabular_linear_regression", "product_ranking", "own_command")]
    assert positions == sorted(positions)


def test_command_tells_the_same_model_of_two_sources_apart_in_120_columns(tmp_path):
    row = {"task": "category", "metric": "accuracy", "validation": 0.76, "test": 0.7601, "test_interval": [0.72, 0.79]}
    row |= {"macro_f1": 0.75, "baseline": 0.10, "seconds": 1234.5}
    models = ("TextModel", "ImageModel (random initialisation), per product")
    for name, seconds in (("train_models", 11), ("neural_networks", 22)):
        rows = [{**row, "model": model, "seconds": seconds} for model in models]
        write_results(tmp_path, name, some_results(rows=rows))
    lines = run_script("-m", "evaluation.results", "--data-dir", tmp_path).stdout.splitlines()
    assert max(map(len, lines[1:])) <= 120  # the first names the folder
    of_networks, of_command = lines.index("neural_networks"), lines.index("train_models")
    places = [number for number, line in enumerate(lines) if line.startswith("TextModel ")]
    assert of_networks < places[0] < of_command < places[1]
    assert "22" in lines[places[0]] and "11" in lines[places[1]]


def test_command_without_results_says_so_in_one_sentence(tmp_path):
    printed = run_script("-m", "evaluation.results", "--data-dir", tmp_path)
    assert printed.returncode == 1 and printed.stdout == ""
    assert printed.stderr.count("\n") == 1 and "run the notebooks" in printed.stderr


@pytest.mark.parametrize("content", ["", "[1, 2]", '{"rows": 5}', "\x00"])
def test_damaged_results_are_named(tmp_path, content):
    path = tmp_path / "results" / "image_classification.json"
    path.parent.mkdir()
    path.write_text(content, encoding="utf-8")
    with pytest.raises(UserError, match=r"image_classification\.json"):
        read_results(tmp_path)


def test_accuracy_by_the_number_of_train_listings_of_the_leaf():
    train = ["a"] * 5 + ["b"] * 6 + ["c"] * 12
    test = ["a", "a", "b", "c", "never seen"]
    products = pd.DataFrame({"category": train + test, "split": ["train"] * len(train) + ["test"] * len(test)})
    correct = {"one": np.array([True, False, True, False, False]), "other": np.ones(5, bool)}
    table = by_train_listings(correct, products).set_index(["model", "train_listings"])
    assert table.loc["one", "listings"].to_dict() == {"fewer than 6": 3, "6 to 11": 1, "12 or more": 1}
    assert table.loc["one", "test"].tolist() == pytest.approx([1 / 3, 1, 0])
    assert table.loc["other", "test"].tolist() == [1, 1, 1]
    few = by_train_listings({"one": np.array([True])}, products.iloc[: len(train) + 1])
    assert few["listings"].tolist() == [1, 0, 0] and few["test"].isna().tolist() == [False, True, True]
