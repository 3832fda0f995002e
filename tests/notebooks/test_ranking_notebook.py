"""product_ranking.ipynb, executed on a small sample with untrained networks."""

import json
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
    copy = folder.path / "product_ranking.ipynb"
    options = ["--cwd", ROOT, "--no-progress-bar", "--log-level", "WARNING", "-p", "data_dir", folder.path]
    run = run_script("-m", "papermill", *options, NOTEBOOK, copy, timeout=600)
    assert run.returncode == 0, run.stderr
    return nbformat.read(copy, as_version=4), read_json(folder.results / "product_ranking.json", "")


def test_every_way_to_rank_is_measured(executed):
    rows = {row["model"]: row for row in executed[1]["rows"]}
    assert list(rows) == [
        "random",
        "popular category",
        "TF-IDF",
        "category, then TF-IDF",
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
    (found,) = results["comparisons"].values()
    assert set(found) == {"difference", "interval"}


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
    assert kinds.count("image/png") == 3
