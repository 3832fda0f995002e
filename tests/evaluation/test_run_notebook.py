"""The command by which `make run` executes a notebook."""

import nbformat
from repository import run_script


def test_a_notebook_runs_with_its_parameters_and_without_a_warning(tmp_path):
    cells = [
        nbformat.v4.new_code_cell("number = 1", metadata={"tags": ["parameters"]}),
        nbformat.v4.new_code_cell("print('the number is', number)"),
        nbformat.v4.new_code_cell(
            "import pathlib\nprint('sockets here:', [p.name for p in pathlib.Path().iterdir() if p.is_socket()])"
        ),
    ]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), tmp_path / "notebook.ipynb")
    paths = [str(tmp_path / name) for name in ("notebook.ipynb", "copy.ipynb")]
    options = ["-k", "python3", "-l", "python", "-p", "number", "5", "--no-progress-bar", "--log-output"]
    result = run_script("-m", "evaluation.run_notebook", *paths, *options, cwd=tmp_path, timeout=1200)
    assert result.returncode == 0, result.stderr
    assert "the number is 5" in result.stdout + result.stderr
    assert "WARNING" not in result.stdout + result.stderr
    outputs = str([cell.get("outputs") for cell in nbformat.read(tmp_path / "copy.ipynb", 4).cells])
    assert "the number is 5" in outputs
    assert "sockets here: []" in outputs
