"""What several tests share: a seed, a small prepared data folder, a PostgreSQL server, and the order of the files."""

import os
import sys
from pathlib import Path

import numpy as np
import pytest
from repository import ROOT, made_once, run_script

import marketplace  # noqa: F401  sets how threads wait, before torch is imported

# Test files that take more than about five seconds, the longest first. They start first, so that parallel processes
# end at about the same time; `make test-quick` leaves them out.
SLOW_FILES = (
    "notebooks/test_neural_notebook.py",
    "notebooks/test_shallow_notebooks.py",
    "scripts/test_train_models.py",
    "notebooks/test_ranking_notebook.py",
    "models/test_distributed.py",
    "scripts/test_serve.py",
    "scripts/test_contract.py",
    "scripts/test_rank_products.py",
    "scripts/test_predict_category.py",
    "scripts/test_clean_images_cluster.py",
    "scripts/test_download_products_table.py",
    "scripts/test_download_images.py",
    "sample_marketplace/test_sample_marketplace.py",
    "scripts/test_clean_images.py",
    "scripts/test_clean_tabular_data.py",
    "models/test_training.py",
    "test_makefile.py",
)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    rank = {ROOT / "tests" / name: number for number, name in enumerate(SLOW_FILES)}
    for item in items:
        if item.path in rank:
            item.add_marker(pytest.mark.slow)
    items.sort(key=lambda item: rank.get(item.path, len(rank)))


@pytest.fixture(autouse=True)
def seed():
    np.random.seed(0)  # libraries draw from the global generator
    if torch := sys.modules.get("torch"):  # most tests do not need it, and it is slow to import
        torch.manual_seed(0)


@pytest.fixture(scope="session")
def sample_folder(tmp_path_factory, worker_id) -> Path:
    """A data folder of 300 sample listings on which every data script ran; copy it before you write to it.

    Parallel test processes share one, in the folder above their own temporary folders.
    """
    temporary = tmp_path_factory.getbasetemp()
    shared = temporary if worker_id == "master" else temporary.parent
    return made_once(shared / "sample", make_sample_folder)


def make_sample_folder(folder: Path) -> None:
    for script, *options in (
        ("make_sample_marketplace.py", "--listings", 300),
        ("download_products_table.py",),
        ("clean_tabular_data.py",),
        ("clean_images.py",),
    ):
        result = run_script(script, "--data-dir", folder, *options)
        assert result.returncode == 0, f"{script}: {result.stderr}"


@pytest.fixture(scope="session")
def postgres():
    """A PostgreSQL server that asks for a password; see postgres_server.py."""
    from postgres_server import running_postgres

    with running_postgres() as server:
        yield server


@pytest.fixture(scope="session", autouse=True)
def quiet_libraries():
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ["IMAGE_WEIGHTS"] = "none"  # no test reaches for the network
