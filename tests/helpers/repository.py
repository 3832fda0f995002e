"""Where the repository is, and a way to run its scripts."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def run_script(*arguments: object, timeout: float = 120, **options) -> subprocess.CompletedProcess:
    """Run `python ARGUMENTS` from the repository root; the result has `returncode`, `stdout` and `stderr` as text."""
    options.setdefault("cwd", ROOT)
    command = [sys.executable, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=timeout, **options)
