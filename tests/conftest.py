"""What several tests share: a seed, a way to run a script, a small prepared data folder, a real PostgreSQL server."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from repository import run_script


@pytest.fixture(autouse=True)
def seed():
    np.random.seed(0)  # libraries draw from the global generator
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def sample_folder(tmp_path_factory) -> Path:
    """A data folder of 300 sample listings on which every data script ran; copy it before you write to it."""
    folder = tmp_path_factory.mktemp("sample")
    for script, *options in (
        ("make_sample_marketplace.py", "--listings", 300),
        ("download_products_table.py",),
        ("clean_tabular_data.py",),
        ("clean_images.py",),
    ):
        result = run_script(script, "--data-dir", folder, *options)
        assert result.returncode == 0, f"{script}: {result.stderr}"
    return folder


@pytest.fixture(scope="session")
def postgres():
    """A PostgreSQL server that asks for a password; see postgres_server.py."""
    from postgres_server import running_postgres

    with running_postgres() as server:
        yield server


@pytest.fixture(scope="session", autouse=True)
def quiet_libraries():
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
