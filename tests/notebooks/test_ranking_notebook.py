"""product_ranking.ipynb, executed on a small sample with untrained networks."""

import json
import re
import shutil

import nbformat
import pytest
from repository import ROOT, run_script
from untrained_networks import write_untrained_checkpoints

from marketplace.data_folder import DataFolder, read_json

NOTEBOOK = ROOT / "product_ranking.ipynb"


@pytest.fixture(scope="module")
def executed(sample_folder, tmp_path_factory):
    """The notebook, run as `make run` runs it on a small data folder, and the results that it wrote."""
    folder = DataFolder(shutil.copytree(sample_folder, tmp_path_factory.mktemp("notebook") / "data"))
    write_untrained_checkpoints(folder)
    run, notebook = run_notebook(folder)
    assert run.returncode == 0, run.stderr
    return notebook, read_json(folder.results / "product_ranking.json", ""), folder


def run_notebook(folder, *parameters):
    """The finished process, and the notebook as far as it ran, in a data folder with some further parameters."""
    copy = folder.path / "product_ranking.ipynb"
    options = ["--cwd", ROOT, "--no-progress-bar", "--log-level", "WARNING", "-p", "data_dir", folder.path]
    run = run_script("-m", "papermill", *options, *parameters, NOTEBOOK, copy, timeout=600)
    return run, nbformat.read(copy, as_version=4)


def ndcg(notebook):
    """NDCG@10 on test of every way to rank, from the table in the notebook."""
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    (table,) = [html for output in outputs if "MRR, test" in (html := output.get("data", {}).get("text/html", ""))]
    rows = re.findall(r"<th>([^<]+)</th>\s*<td>[^<]+</td>\s*<td>([\d.]+) \(", table)
    return {name: float(score) for name, score in rows}


def test_every_way_to_rank_is_measured(executed):
    rows = {row["model"]: row for row in executed[1]["rows"]}
    assert list(rows) == [
        "random",
        "popular category",
        "TF-IDF",
        "category, then TF-IDF",
        "leaf and main category, TF-IDF",
        "text encoder",
        "photo only",
        "text only",
        "text and photo",
    ]
    for row in rows.values():
        low, high = row["test_interval"]
        assert 0 <= low <= row["test"] <= high <= 1
        assert row["metric"] == "NDCG@10"
        assert {"test_precision", "test_mrr", "test_precision_interval"} <= row.keys()
    assert rows["random"]["test"] < rows["text encoder"]["test"]
    assert rows["random"]["test"] < rows["text and photo"]["test"]


def test_the_results_say_what_they_are_of(executed):
    results = executed[1]
    assert results["dataset"] == "sample marketplace"
    assert results["seed"] == 7
    assert set(results["split_sizes"]) == {"train", "validation", "test"}
    assert abs(sum(results["parameters"]["weights"].values()) - 1) < 1e-6
    rows = {row["model"]: row["test"] for row in results["rows"]}
    rival = "leaf and main category, TF-IDF"
    for pair in (("text and photo", rival), ("text only", rival), ("text and photo", "text only")):
        found = results["comparisons"][" - ".join(pair)]
        assert found["difference"] == pytest.approx(rows[pair[0]] - rows[pair[1]])
        assert found["interval"][0] <= found["difference"] <= found["interval"][1]


def test_predicted_categories_improve_on_tf_idf(executed):
    scores = ndcg(executed[0])
    assert scores["TF-IDF"] < scores["category, then TF-IDF"] < scores["leaf and main category, TF-IDF"]


def test_shuffled_labels_take_away_what_was_learnt_from_them_and_nothing_is_saved(executed):
    before, _, folder = executed
    saved = (folder.results / "product_ranking.json", folder.index / "product_index.npz")
    contents = [path.read_bytes() for path in saved]
    run, notebook = run_notebook(folder, "-p", "shuffle_labels", "True")
    assert run.returncode == 0, run.stderr
    with_labels, shuffled = ndcg(before), ndcg(notebook)
    for name in ("random", "TF-IDF", "text encoder"):
        assert shuffled[name] == with_labels[name]
    for name in ("category, then TF-IDF", "text only", "text and photo"):  # the networks here know nothing either
        assert shuffled[name] < with_labels[name] / 2
    assert shuffled["leaf and main category, TF-IDF"] <= with_labels["TF-IDF"]
    assert [path.read_bytes() for path in saved] == contents


def test_without_a_network_it_says_which_notebook_comes_before(executed, tmp_path):
    folder = DataFolder(tmp_path)
    for path in executed[2].path.iterdir():
        if path.suffix == ".json":
            (tmp_path / path.name).symlink_to(path)
    folder.checkpoints.mkdir()
    shutil.copy(executed[2].checkpoints / "text_model_best.pt", folder.checkpoints)
    run, notebook = run_notebook(folder)
    assert run.returncode != 0
    (error,) = [output for cell in notebook.cells for output in cell.get("outputs", []) if "ename" in output]
    assert error.ename == "UserError"
    assert "run neural_networks.ipynb first" in error.evalue


def test_nothing_goes_wrong_unseen_and_nothing_of_the_machine_stands_in_it(executed):
    for cell in executed[0].cells:
        for output in cell.get("outputs", []):
            assert output.get("name") != "stderr", output
            assert str(ROOT) not in json.dumps(output)


def test_it_draws_what_it_talks_about(executed):
    kinds = [
        kind for cell in executed[0].cells for output in cell.get("outputs", []) for kind in output.get("data", {})
    ]
    assert kinds.count("image/jpeg") == 2  # queries and failures, in photos
    assert kinds.count("image/png") == 4  # a vector, the weight of the photos, causes of failures, all ways to rank
