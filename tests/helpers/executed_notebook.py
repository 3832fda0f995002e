"""Runs a notebook of the repository on a data folder, as `make run` does."""

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path

import nbformat
from repository import ROOT, run_script

LIMIT = 1200  # seconds, against hanging only


def copied_folder(sample_folder: Path, folder: Path) -> Path:
    """A copy of the sample's data folder for a notebook to write to, which shares the raw photos."""
    shutil.copytree(sample_folder, folder, ignore=shutil.ignore_patterns("images"))
    (folder / "images").symlink_to(sample_folder / "images")
    return folder


def execute(
    name: str, folder: Path, env: Mapping[str, str] | None = None, cells: int | None = None, **parameters: object
) -> nbformat.NotebookNode:
    """The notebook after a run, which has to be whole, without a word on stderr and without a path of this machine.

    `cells`: only so many of the first ones are run.
    """
    source, copy = folder / f"source_{name}.ipynb", folder / f"executed_{name}.ipynb"
    notebook = nbformat.read(ROOT / f"{name}.ipynb", as_version=4)
    notebook.cells = notebook.cells[:cells]
    nbformat.write(notebook, source)
    options = [word for item in {"data_dir": folder, **parameters}.items() for word in ("-p", *item)]
    result = run_script(
        *("-m", "papermill", source, copy, "--cwd", ROOT, "--no-progress-bar", "--log-level", "ERROR"),
        *options,
        timeout=LIMIT,
        env=os.environ | {"OMP_NUM_THREADS": "1"} | dict(env or {}),
    )
    assert result.returncode == 0, result.stderr[-3000:]
    notebook = nbformat.read(copy, as_version=4)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    assert not [output for cell in code for output in cell.outputs if output.get("name") == "stderr"]
    text = json.dumps([cell.outputs for cell in code])
    assert len(text) < 2_000_000 and str(ROOT) not in text and os.path.expanduser("~/") not in text
    return notebook


def printed(notebook: nbformat.NotebookNode) -> str:
    """What the cells have printed."""
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    return "".join(output["text"] for output in outputs if output["output_type"] == "stream")


def shown(notebook: nbformat.NotebookNode, kind: str) -> list[str]:
    """The contents of all outputs of a MIME type."""
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    return [output["data"][kind] for output in outputs if kind in output.get("data", {})]
