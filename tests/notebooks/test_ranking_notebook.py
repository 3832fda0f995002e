"""product_ranking.ipynb, executed on a small sample with untrained networks."""

import re

import pytest
from executed_notebook import copied_folder, execute, shown
from untrained_networks import write_untrained_checkpoints

from marketplace.data_folder import DataFolder, read_json

NAME, RIVAL = "product_ranking", "leaf and main category, TF-IDF"
WAYS = ["random", "popular category", "TF-IDF", "category, then TF-IDF", RIVAL, "text encoder"]
WAYS += ["photo only", "text only", "text and photo"]


@pytest.fixture(scope="module")
def executed(sample_folder, tmp_path_factory):
    """The executed notebook, its results and the data folder."""
    folder = DataFolder(copied_folder(sample_folder, tmp_path_factory.mktemp("ranking") / "data"))
    write_untrained_checkpoints(folder)
    return execute(NAME, folder.path), read_json(folder.results / f"{NAME}.json", NAME), folder


def ndcg(notebook):
    """NDCG@10 on test of every way to rank, from the table in the notebook."""
    (table,) = [html for html in shown(notebook, "text/html") if "MRR, test" in html]
    rows = re.findall(r"<th>([^<]+)</th>\s*<td>[^<]+</td>\s*<td>([\d.]+) \(", table)
    return {name: float(score) for name, score in rows}


def test_every_way_to_rank_is_measured_and_compared(executed):
    notebook, results, _ = executed
    assert (results["dataset"], results["seed"]) == ("sample marketplace", 7)
    assert abs(sum(results["parameters"]["weights"].values()) - 1) < 1e-6
    rows = {row["model"]: row for row in results["rows"]}
    assert list(rows) == WAYS
    for row in rows.values():
        assert 0 <= row["test_interval"][0] <= row["test"] <= row["test_interval"][1] <= 1
        assert (row["question"], row["metric"]) == ("ranking", "NDCG@10")
        assert {"kind", "test_precision", "test_mrr", "test_precision_interval"} <= row.keys()
    scores = {model: row["test"] for model, row in rows.items()}
    assert scores["random"] < min(scores["text encoder"], scores["text and photo"])
    assert scores["TF-IDF"] < scores["category, then TF-IDF"] < scores[RIVAL]
    for pair in (("text and photo", RIVAL), ("text only", RIVAL), ("text and photo", "text only")):
        found = results["comparisons"][" - ".join(pair)]
        assert found["difference"] == pytest.approx(scores[pair[0]] - scores[pair[1]])
        assert found["interval"][0] <= found["difference"] <= found["interval"][1]
    assert len(shown(notebook, "image/jpeg")) == 2  # queries and failures, in photos
    assert len(shown(notebook, "image/png")) == 4  # a vector, the weight of the photos, causes of failures, all ways


def test_shuffled_labels_take_away_what_was_learnt_from_them_and_nothing_is_saved(executed):
    notebook, _, folder = executed
    with_labels = ndcg(notebook)
    saved = [folder.results / f"{NAME}.json", *folder.index.iterdir()]
    contents = [path.read_bytes() for path in saved]
    shuffled = ndcg(execute(NAME, folder.path, shuffle_labels=True))
    for name in ("random", "TF-IDF", "text encoder"):
        assert shuffled[name] == with_labels[name]
    for name in ("category, then TF-IDF", "text only", "text and photo"):  # the networks here know nothing either
        assert shuffled[name] < 0.6 * with_labels[name]
    assert shuffled[RIVAL] <= with_labels["TF-IDF"]
    assert [path.read_bytes() for path in saved] == contents
