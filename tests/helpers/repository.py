"""Where the repository is, a way to run its scripts, and folders that several test processes share."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from filelock import FileLock

ROOT = Path(__file__).resolve().parents[2]
NO_TORCH = """
import sys
class NoTorch:
    def find_spec(self, name, *more):  # skops imports all of scikit-learn, and that torch where it is installed
        if name == "torch":
            raise ModuleNotFoundError
sys.meta_path.insert(0, NoTorch())
"""  # code after which torch cannot be imported


def run_script(*arguments: object, timeout: float = 120, **options) -> subprocess.CompletedProcess:
    """Run `python ARGUMENTS` from the repository root; the result has `returncode`, `stdout` and `stderr` as text."""
    options.setdefault("cwd", ROOT)
    command = [sys.executable, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=timeout, **options)


def made_once(folder: Path, make: Callable[[Path], object]) -> Path:
    """`folder` after `make(folder)`, which only the first of several test processes runs; the others wait for it."""
    done = folder.with_name(f"{folder.name}.done")
    with FileLock(f"{folder}.lock"):
        if not done.exists():
            make(folder)
            done.touch()
    return folder
