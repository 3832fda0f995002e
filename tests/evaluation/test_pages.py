"""What is published of results, and the tables that pages hold of it."""

import json
import sys

import pytest
from repository import run_script

from benchmarks.saving import comparison, save_rows
from evaluation.tables import collect, with_tables, write_results
from marketplace.data_folder import UserError, write_json

SECRET = "56dc481a-8974-4f10-a5db-85157530d971"  # an id, or a text of a listing
ROW = {"task": "category", "model": "TextModel", "metric": "accuracy", "test": 0.25, "test_interval": [0.125, 0.5]}
FOUND = {"difference": 0.0625, "interval": [-0.125, 0.25]}


@pytest.fixture
def data_dir(tmp_path):
    """A data folder whose results and report hold ids and texts wherever they could."""
    folder = tmp_path / "data"
    results = {
        "seed": 7,
        "split_sizes": {"train": 2000, "test": 300},
        "parameters": {"encoder": SECRET, "columns": [SECRET, SECRET], "alpha": 1 / 3},
        "rows": [{**ROW, "example": SECRET, "worst": [SECRET], "details": {"name": SECRET}}],
        "comparisons": {"CombinedModel - TextModel": FOUND},
        "interval": {
            "leaf category": {"coverage": 0.8125, "coverage_interval": [0.75, 0.875], "width": 7.25},
            "by main category": {
                "Sport": {"listings": 50, "coverage": 0.75},
                "Toys": {"listings": 60, "coverage": 1.0},
            },
        },
        "checks": [{"id": SECRET, "score": 0.5}],
        "scores_of_listings": {SECRET: 0.5},
    }
    write_results(folder, "neural_networks", results)
    report = {"source": SECRET, "rows in": 9, "set aside": {"no price": [SECRET, SECRET]}, "rows out": 7}
    report |= {"banners removed": 1, "located by": {"town": 7}, "split": {"train": 7}, "far": [SECRET]}
    write_json(folder / "clean_tabular_report.json", report)
    return folder


def test_figures_are_published_without_texts_and_ids(data_dir, tmp_path):
    collect(data_dir, "sample", tmp_path)
    published = {path.stem: path.read_text(encoding="utf-8") for path in (tmp_path / "sample").iterdir()}
    assert set(published) == {"neural_networks", "clean_tabular"}
    assert not [name for name, text in published.items() if SECRET in text]
    results = json.loads(published["neural_networks"])
    assert results["rows"] == [{**ROW, "worst": 1, "details": {}}]
    assert results["parameters"] == {"columns": 2, "alpha": 0.333333}
    assert results["command"] == "make run IMAGE_WEIGHTS=none" and "cores" in results["hardware"]["words"]
    assert json.loads(published["clean_tabular"])["set aside"] == {"no price": 2}


def test_a_page_gets_its_tables_and_keeps_the_rest(data_dir, tmp_path):
    collect(data_dir, "sample", tmp_path)
    page = "Before.\n<!-- table: sample/neural_networks -->\n| old | 0.99 |\n<!-- end -->\nBetween.\n"
    page += "<!-- table: sample/clean_tabular -->\n<!-- end -->\nAfter."
    filled = with_tables(page, tmp_path)
    assert "old" not in filled
    assert filled.startswith("Before.\n") and "\nBetween.\n" in filled and filled.endswith("\nAfter.")
    assert "\n\n| model | test accuracy |\n| --- | --- |\n| TextModel | 0.250 (0.125 to 0.500) |\n\n" in filled
    assert "train 2,000, test 300; seed 7" in filled and "`make run IMAGE_WEIGHTS=none`" in filled
    assert "CombinedModel - TextModel +0.062 (-0.125 to +0.250)" in filled
    assert "test (width: upper / lower bound, median): leaf category known 0.812 (0.750 to 0.875), width 7.2." in filled
    assert "Coverage in main categories with 50 test listings or more: 0.750 to 1.000." in filled
    assert "| set aside: no price | 2 |" in filled
    assert with_tables(filled, tmp_path) == filled


def test_a_benchmark_is_saved_with_its_command_and_no_path_of_the_machine(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["/x/benchmarks/training.py", "--data-dir", "/home/me", "--save", "--rounds", "3"])
    rows = [comparison("photos a second", 1972.0, 488.0, 4.04), comparison("seconds to skip them", 1.6)]
    save_rows("training", rows, published=tmp_path)
    filled = with_tables("<!-- table: benchmarks/training -->\n<!-- end -->", tmp_path)
    assert "`python -m benchmarks.training --data-dir DIR --rounds 3`" in filled
    assert "| what | straightforward | ours | ratio |" in filled
    assert "| photos a second | 488 | 1,972 | 4.04 |\n| seconds to skip them |  | 1.60 |  |" in filled


@pytest.mark.parametrize(
    "page", ["<!-- table: sample/missing -->\n<!-- end -->", "<!-- table: a -->\n", "<!-- end -->"]
)
def test_a_page_that_cannot_be_filled_is_one_sentence(page, tmp_path):
    with pytest.raises(UserError):
        with_tables(page, tmp_path)


def test_command_wants_to_know_what_it_collects(tmp_path):
    assert run_script("-m", "evaluation.pages", "--collect", tmp_path).returncode == 2
    result = run_script("-m", "evaluation.pages", "--collect", tmp_path, "--as", "real")
    assert result.returncode == 1 and result.stderr.count("\n") == 1 and "holds no results" in result.stderr
