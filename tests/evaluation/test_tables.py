"""Results files, what is published of them, and the tables and the chart of the pages."""

import json
import sqlite3
import sys

import numpy as np
import pytest
from PIL import Image
from repository import ROOT, run_script

from benchmarks.saving import comparison, save_rows
from evaluation.tables import (
    CHART,
    PAGES,
    PUBLISHED,
    SOURCES,
    TABLE,
    chart_key,
    chart_table,
    collect,
    dataset_name,
    draw_chart,
    headline_block,
    headline_table,
    read_published,
    results_markdown,
    rows_table,
    with_tables,
    write_results,
)
from marketplace.data_folder import DataFolder, UserError, write_json

SECRET = "56dc481a-8974-4f10-a5db-85157530d971"  # an id, or a text of a listing
ROW = {"task": "ranking", "question": "ranking", "metric": "NDCG@10", "test_interval": [0.125, 0.5]}
ROWS = [  # the best shallow model on validation is not the best one on test
    {**ROW, "kind": "naive", "model": "random", "validation": 0.1, "test": 0.125, "seconds": None},
    {**ROW, "kind": "shallow", "model": "TF-IDF", "validation": 0.5, "test": 0.375, "seconds": 1234.5},
    {**ROW, "kind": "shallow", "model": "text encoder", "validation": 0.4, "test": 0.875},
    {**ROW, "kind": "both", "model": "text and photo", "validation": 0.6, "test": 0.75},
]
RESULTS = {
    "seed": 7,
    "split_sizes": {"train": 2000, "test": 300},
    "parameters": {"encoder": SECRET, "columns": [SECRET, SECRET], "alpha": np.float64(1 / 3)},
    "rows": ROWS,
    "comparisons": {"text and photo - TF-IDF": {"difference": 0.375, "interval": (-0.125, np.nan)}},
    "calibration": {"TextModel": {"temperature": 0.5, "ece_before": 0.25, "ece_after": 0.125}},
    "something new": {"text": SECRET, "score": 0.5},
}


@pytest.fixture
def data_dir(tmp_path):
    """A data folder with results and a cleaning report that hold ids and texts."""
    write_results(tmp_path / "data", "product_ranking", RESULTS)
    report = {"source": SECRET, "rows in": 9, "rejected": {"no price": [SECRET, SECRET]}, "rows out": 4254}
    report |= {"banners removed": 1, "located by": {"town": 7}, "split": {"train": 7}, "far": [SECRET]}
    write_json(tmp_path / "data" / "clean_tabular_report.json", report)
    return tmp_path / "data"


@pytest.fixture
def published(data_dir, tmp_path):
    collect(data_dir, "real", tmp_path / "published")
    return tmp_path / "published"


def test_results_are_plain_json_and_name_no_machine(data_dir):
    results = json.loads((data_dir / "results" / "product_ranking.json").read_text(encoding="utf-8"))
    assert results["dataset"] == "user data" and results["name"] == "product_ranking"
    assert results["comparisons"]["text and photo - TF-IDF"]["interval"] == [-0.125, None]
    assert "cores" in results["hardware"]["words"] and "node" not in results["hardware"]


def test_a_sample_marketplace_is_known_wherever_it_is_and_a_users_database_is_none(tmp_path):
    for folder, table in (("mine", "products"), ("seed8", "sample_settings")):
        (tmp_path / folder).mkdir()
        with sqlite3.connect(tmp_path / folder / "marketplace.db") as connection:
            connection.execute(f"CREATE TABLE {table} (id TEXT)")
        connection.close()
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "marketplace.db").write_text("no database", encoding="utf-8")
    names = [dataset_name(tmp_path / folder) for folder in ("mine", "seed8", "other", "missing")]
    assert names == ["user data", "sample marketplace", "user data", "user data"]


def test_a_score_that_is_no_number_is_refused_and_the_earlier_file_stays(data_dir):
    path = data_dir / "results" / "product_ranking.json"
    before = path.read_bytes()
    rows = [ROWS[0], {**ROWS[1], "validation": np.float32("nan")}]
    with pytest.raises(
        UserError, match=r"^the results of \w+ are not written, since validation of TF-IDF is no number"
    ):
        write_results(data_dir, "product_ranking", RESULTS | {"rows": rows})
    assert path.read_bytes() == before


def test_a_table_leaves_out_columns_without_values_and_the_metric_that_all_share(data_dir):
    first, _, *lines = results_markdown(write_results(data_dir, "x", RESULTS)).splitlines()
    assert "train 2,000, test 300; seed 7" in first and "cores" in first
    assert lines[0] == "| model | validation NDCG@10 | test NDCG@10 | seconds |"
    assert lines[3] == "| TF-IDF | 0.500 | 0.375 (0.125 to 0.500) | 1,234 |"
    table = rows_table([ROWS[0], {**ROWS[1], "metric": "MRR", "macro_f1": 0.25}])
    assert list(table) == ["model", "metric", "validation", "test", "macro-F1", "seconds"]
    assert table["macro-F1"].tolist() == ["", "0.250"]


def test_the_command_prints_each_file_in_the_order_of_the_notebooks(data_dir):
    for name in ("own_command", "tabular_linear_regression"):
        write_results(data_dir, name, RESULTS)
    (DataFolder(data_dir).results / "of_others.json").write_text('["no results"]')
    printed = run_script("-m", "evaluation.tables", "--data-dir", data_dir)
    assert printed.returncode == 0 and printed.stderr == ""
    lines = printed.stdout.splitlines()
    positions = [lines.index(name) for name in ("tabular_linear_regression", "product_ranking", "own_command")]
    assert positions == sorted(positions) and max(map(len, lines[2:])) <= 120


def test_a_folder_without_results_is_one_sentence(tmp_path):
    printed = run_script("-m", "evaluation.tables", "--data-dir", tmp_path)
    assert printed.returncode == 1 and printed.stdout == ""
    assert printed.stderr.count("\n") == 1 and "run the notebooks" in printed.stderr


def test_all_numbers_are_published_without_texts_and_ids(published):
    files = {path.stem: path.read_text(encoding="utf-8") for path in (published / "real").iterdir()}
    assert set(files) == {"product_ranking", "clean_tabular"} and SECRET not in "".join(files.values())
    results = json.loads(files["product_ranking"])
    assert results["rows"] == ROWS
    assert results["parameters"] == {"columns": 2, "alpha": 0.333333} and results["something new"] == {"score": 0.5}
    assert results["command"] == SOURCES["real"][2] and "cores" in results["hardware"]["words"]
    assert json.loads(files["clean_tabular"])["rejected"] == {"no price": 2}


def test_the_number_of_clean_listings_comes_from_the_cleaning_report(published):
    for name in ("product_ranking", "clean_tabular"):
        dataset = read_published(published, "real", name)["dataset"]
        assert dataset == "real: 4,254 clean listings of the AiCore Facebook Marketplace data"
    count = f"{read_published(PUBLISHED, 'real', 'clean_tabular')['rows out']:,}"
    assert not [page.name for page in PAGES if count in TABLE.sub("", page.read_text(encoding="utf-8"))]


def test_a_page_gets_its_tables_and_keeps_the_rest(published):
    page = "Before.\n<!-- table: real/product_ranking -->\n| old | 0.99 |\n<!-- end -->\nBetween.\n"
    page += "<!-- table: real/clean_tabular -->\n<!-- end -->\nAfter."
    filled = with_tables(page, published)
    assert "old" not in filled
    assert filled.startswith("Before.\n") and "\nBetween.\n" in filled and filled.endswith("\nAfter.")
    assert "| text and photo - TF-IDF | +0.375 (-0.125 to ) |" in filled
    assert "|  | without temperature | with temperature |\n| --- | --- | --- |\n| TextModel | 0.250 | 0.125 |" in filled
    assert "| rejected: no price | 2 |" in filled and "far" not in filled
    assert with_tables(filled, published) == filled


def test_a_benchmark_is_saved_with_its_command_and_no_path_of_the_machine(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["/x/benchmarks/training.py", "--data-dir", "/home/me", "--save", "--rounds", "3"])
    rows = [comparison("photos a second", 1972.0, 488.0, 4.04), comparison("seconds to skip them", 1.6)]
    save_rows("training", rows, published=tmp_path)
    filled = with_tables("<!-- table: benchmarks/training -->\n<!-- end -->", tmp_path)
    assert "`python -m benchmarks.training --data-dir DIR --rounds 3`" in filled
    assert "| what | straightforward | ours | ratio |" in filled
    assert "| photos a second | 488 | 1,972 | 4.04 |\n| seconds to skip them |  | 1.60 |  |" in filled


@pytest.mark.parametrize("page", ["<!-- table: sample/missing -->\n<!-- end -->", "<!-- table: a -->\n"])
def test_a_page_that_cannot_be_filled_is_one_sentence(page, tmp_path):
    with pytest.raises(UserError):
        with_tables(page, tmp_path)


def test_the_best_of_validation_stands_in_the_headline_table_with_its_test_score(published):
    table = headline_table(published)
    line = table.iloc[-1]  # the last question, on the real listings
    assert line["listings"] == "real"
    assert line["naive"] == "0.125 (0.125 to 0.500)<br>random"
    assert line["best shallow"] == "0.375 (0.125 to 0.500)<br>TF-IDF"
    assert line["ours"] == "0.750 (0.125 to 0.500)<br>text and photo"
    assert line["ours - best shallow"] == "+0.375 (-0.125 to )"
    assert len(table) == 9 and (table.iloc[:-1, 2:] == "–").all(axis=None)  # nothing else is published here


def test_the_chart_has_no_seconds_where_they_were_not_measured_and_is_the_same_twice(published, tmp_path):
    table = chart_table(published).set_index("model")
    assert table["seconds"].dropna().to_dict() == {"TF-IDF": 1234.5}
    assert list(table["kind"]) == ["naive", "shallow", "shallow", "both"]
    files = [tmp_path / name for name in ("first.png", "second.png")]
    for file in files:
        draw_chart(published, file)
    assert files[0].read_bytes() == files[1].read_bytes()


def test_the_readme_answers_all_questions_with_committed_numbers():
    assert headline_block(PUBLISHED) in (ROOT / "README.md").read_text(encoding="utf-8")
    assert not (headline_table(PUBLISHED)[["naive", "best shallow", "ours"]] == "–").any(axis=None)
    with Image.open(CHART) as image:
        assert image.info["Description"] == chart_key(chart_table(PUBLISHED)), "run make tables"
