"""A data folder with trained networks, made once for the tests that look at them."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

from repository import ROOT, made_once

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


def trained_by_two_processes(sample_folder: Path) -> Path:
    """A folder in which all three networks were trained for an epoch under torchrun, once for all test processes."""
    return made_once(sample_folder.parent / "trained", lambda folder: _train(sample_folder, folder))


def _train(source: Path, target: Path) -> None:
    copy_inputs(source, target)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    command += ["train_models.py", "--data-dir", str(target), "--epochs", "1", "--image-weights", "none"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=1200, env=environment)
    assert result.returncode == 0 and "Traceback" not in result.stderr, result.stderr
    (target / "printed.txt").write_text(result.stdout, encoding="utf-8")
