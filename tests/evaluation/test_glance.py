"""The table of the four questions and the chart of all models."""

import pytest
from PIL import Image
from repository import ROOT

from evaluation.tables import (
    CHART,
    PUBLISHED,
    QUESTIONS,
    chart_key,
    chart_table,
    draw_chart,
    glance_block,
    glance_table,
)
from marketplace.data_folder import write_json

RANKING = {"task": "ranking", "metric": "NDCG@10", "test_interval": [0.1, 0.9]}


@pytest.fixture
def published(tmp_path):
    """The results of one ranking, whose best shallow model on validation is not the best one on test."""
    rows = [
        {**RANKING, "model": "random", "validation": 0.1, "test": 0.125, "seconds": None},
        {**RANKING, "model": "TF-IDF", "validation": 0.5, "test": 0.375, "seconds": 2.0},
        {**RANKING, "model": "text encoder", "validation": 0.4, "test": 0.875, "seconds": 0.0},
        {**RANKING, "model": "text and photo", "validation": 0.6, "test": 0.75},
    ]
    found = {"text and photo - TF-IDF": {"difference": 0.375, "interval": [-0.125, 0.5]}}
    results = {"rows": rows, "split_sizes": {"test": 9}, "comparisons": found}
    write_json(tmp_path / "sample" / "product_ranking.json", results)
    return tmp_path


def test_the_best_of_validation_stands_in_the_table_with_its_test_score(published):
    line = glance_table(published).set_index("question").loc["Which listings suit a query?<br>NDCG@10"]
    assert line["listings"] == "sample"
    assert line["naive"] == "0.125 (0.100 to 0.900)<br>random"
    assert line["best shallow"] == "0.375 (0.100 to 0.900)<br>TF-IDF"
    assert line["ours"] == "0.750 (0.100 to 0.900)<br>text and photo"
    assert line["ours - best shallow"] == "+0.375 (-0.125 to +0.500)"


def test_what_no_results_file_has_is_a_dash(published):
    table = glance_table(published)
    assert len(table) == 9
    others = table.drop(index=7)
    assert (others.drop(columns=["question", "listings"]) == "–").all(axis=None)


def test_the_chart_has_no_seconds_where_they_were_not_measured_and_is_the_same_twice(published, tmp_path):
    table = chart_table(published).set_index("model")
    assert table["seconds"].dropna().to_dict() == {"TF-IDF": 2.0}
    assert list(table["kind"]) == ["naive", "shallow", "shallow", "both"]
    files = [tmp_path / name for name in ("first.png", "second.png")]
    for file in files:
        draw_chart(published, file)
    assert files[0].read_bytes() == files[1].read_bytes()


def test_the_readme_answers_all_questions_with_committed_figures():
    assert glance_block(PUBLISHED) in (ROOT / "README.md").read_text(encoding="utf-8")
    assert not (glance_table(PUBLISHED)[["naive", "best shallow", "ours"]] == "–").any(axis=None)


def test_the_committed_chart_is_that_of_the_committed_figures():
    with Image.open(CHART) as image:
        assert image.info["Description"] == chart_key(chart_table(PUBLISHED)), "run make tables"


def test_the_price_model_of_text_is_ours_whichever_regression_was_chosen():
    for model in ("ridge of log price, from text", "kernel ridge of log price, from text"):
        assert (QUESTIONS[0].kind(model), QUESTIONS[0].colour(model)) == ("ours", "text")
    assert QUESTIONS[0].kind("ridge") == "shallow"
