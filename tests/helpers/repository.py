"""Where the repository is, a way to run its scripts, and values that several test processes share."""

import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from filelock import FileLock

ROOT = Path(__file__).resolve().parents[2]
Value = TypeVar("Value")


def run_script(*arguments: object, timeout: float = 120, **options) -> subprocess.CompletedProcess:
    """Run `python ARGUMENTS` from the repository root; the result has `returncode`, `stdout` and `stderr` as text."""
    options.setdefault("cwd", ROOT)
    command = [sys.executable, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=timeout, **options)


def computed_once(file: Path, compute: Callable[[], Value]) -> Value:
    """The value of `compute()`: the first process computes it and keeps it in `file`, the others wait for it."""
    with FileLock(f"{file}.lock"):
        if not file.exists():
            file.write_bytes(pickle.dumps(compute()))
        return pickle.loads(file.read_bytes())
