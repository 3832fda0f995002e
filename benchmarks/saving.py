"""How a benchmark's rows become the file that the tables of docs/benchmarks.md are made of."""

import argparse
import os
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from evaluation.tables import PUBLISHED, as_json, environment
from marketplace.data_folder import write_json


def add_save_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--save", action="store_true", help="write the rows to docs/results/benchmarks/")


def comparison(
    what: str, ours: float, straightforward: float | None = None, ratio: float | None = None
) -> dict[str, Any]:
    """A row of a comparison; `what` says the unit, too, and `ratio` is above 1 where ours is better."""
    return {"what": what, "straightforward": straightforward, "ours": ours, "ratio": ratio}


def save_rows(
    name: str, rows: Sequence[Mapping[str, Any]], gpu: str | None = None, published: Path = PUBLISHED, **about: Any
) -> None:
    """Write docs/results/benchmarks/`name`.json with the rows, the hardware, and the command that is running.

    A page shows the keys of the rows as heads. `about` is anything else to say, such as the `dataset`. Absolute paths
    of the command are replaced by DIR.
    """
    words = ["DIR" if os.path.isabs(word) else shlex.quote(word) for word in sys.argv[1:] if word != "--save"]
    command = " ".join(["python -m", f"benchmarks.{Path(sys.argv[0]).stem}", *words])
    results = {"name": name, "command": command, "hardware": environment(gpu), **about, "rows": list(rows)}
    write_json(published / "benchmarks" / f"{name}.json", as_json(results))
