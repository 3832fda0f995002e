"""A data folder with trained networks, made once for the tests that look at them."""

import json
import os
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
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


@cache
def trained_by_two_processes(source: Path, target: Path) -> subprocess.CompletedProcess:
    """Train all three networks for an epoch under torchrun into a new folder `target`."""
    copy_inputs(source, target)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    command += ["train_models.py", "--data-dir", target, "--epochs", "1", "--image-weights", "none"]
    # not 32: on some processors oneDNN crashes on TextModel's first linear layer in bfloat16 with 16 rows
    command += ["--batch-size", "24"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, env=environment)
