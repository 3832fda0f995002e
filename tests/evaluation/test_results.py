"""Results files and the tables made of them."""

import json

import numpy as np
import pytest
from repository import run_script

from evaluation.results import dataset_name, readme_rows, results_table, write_results
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
    assert read["hardware"]["cores"] >= 1


def test_sample_is_known_by_its_embedded_database(tmp_path):
    (tmp_path / "marketplace.db").touch()
    assert dataset_name(tmp_path) == "sample marketplace"


def test_incomplete_results_are_refused_and_nothing_written(tmp_path):
    with pytest.raises(ValueError, match="lack rows"):
        write_results(tmp_path, "x", {"seed": 1, "split_sizes": {}, "parameters": {}})
    assert not (tmp_path / "results").exists()


def test_readme_rows_are_a_markdown_table_with_sizes_seed_and_hardware(tmp_path):
    lines = readme_rows(write_results(tmp_path, "x", some_results())).splitlines()
    assert len({line.count("|") for line in lines[:3]}) == 1
    assert "| 0.500 | 0.250 |" in lines[2] and "1,234" in lines[2]
    assert "train 2,000, test 300; seed 7" in lines[-1]


def test_command_prints_one_table_in_the_order_of_the_notebooks(tmp_path):
    for name, model in (("product_ranking", "z"), ("tabular_linear_regression", "a"), ("own_command", "q")):
        rows = [{"task": name, "model": model}]
        write_results(tmp_path, name, some_results(rows=rows))
    printed = run_script("-m", "evaluation.results", "--data-dir", tmp_path)
    assert printed.returncode == 0 and printed.stderr == ""
    positions = [printed.stdout.index(name) for name in ("tabular_linear_regression", "product_ranking", "own_command")]
    assert positions == sorted(positions)
    assert all(word in printed.stdout for word in ("validation", "test", "baseline", "seconds"))


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
        results_table(tmp_path)
