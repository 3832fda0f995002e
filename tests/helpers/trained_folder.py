"""A data folder with trained networks, made once for the tests that look at them."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

from repository import ROOT, computed_once

INPUTS = ("products_table_clean.json", "main_categories.json", "duplicates.json", "images_table.json")


def copy_inputs(source: Path, target: Path) -> Path:
    """Copy what training reads, of every second listing; the photos are linked."""
    target.mkdir(parents=True)
    for name in INPUTS:
        shutil.copy(source / name, target / name)
    products = json.loads((source / INPUTS[0]).read_text(encoding="utf-8"))
    (target / INPUTS[0]).write_text(json.dumps(products[::2]), encoding="utf-8")
    (target / "clean_images_64").symlink_to(source / "clean_images_64")
    return target


def trained_by_two_processes(source: Path, target: Path) -> subprocess.CompletedProcess:
    """Train all three networks for an epoch under torchrun into `target`, once for all test processes."""
    return computed_once(target.with_suffix(".pickle"), lambda: _train(source, target))


def _train(source: Path, target: Path) -> subprocess.CompletedProcess:
    copy_inputs(source, target)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    command += ["train_models.py", "--data-dir", str(target), "--epochs", "1", "--image-weights", "none"]
    return subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=300, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
