"""The Makefile, with a small program in place of Python, so that it runs in a second."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from repository import ROOT

NOTEBOOKS = sorted(path.stem for path in ROOT.glob("*.ipynb"))
# `python -m evaluation.run_notebook NOTEBOOK COPY ...` writes the copy twice, as papermill saves it after every cell
PYTHON = """#!/bin/sh
[ "$2 $3" = "pip --version" ] && echo pip 1
[ "$2" = evaluation.run_notebook ] || exit 0
echo "weights: $IMAGE_WEIGHTS"
basename "$3" >> "$4"
sleep 0.3
basename "$3" >> "$4"
"""
# `python3 -m venv --clear .venv`
BASE_PYTHON = """#!/bin/sh
[ "$2" = venv ] || exit 0
rm -rf .venv
mkdir -p .venv/bin
cp program .venv/bin/python
echo "VIRTUAL_ENV='$PWD/.venv'" > .venv/bin/activate
touch .venv/pyvenv.cfg
"""


@pytest.fixture
def project(tmp_path) -> Path:
    """The Makefile in a folder with empty notebooks and scripts, as it is after the installation."""
    shutil.copy(ROOT / "Makefile", tmp_path)
    for pattern in ("*.ipynb", "*.py", "requirements*", "pyproject.toml"):
        for path in ROOT.glob(pattern):
            (tmp_path / path.name).touch()
    for name, content in {"program": PYTHON, "python3": BASE_PYTHON}.items():
        (tmp_path / name).write_text(content)
        (tmp_path / name).chmod(0o755)
    make(tmp_path, ".venv/test-installed")
    return tmp_path


def environment() -> dict[str, str]:
    """Without what `make test` passes on to a make that it starts."""
    own = ("MAKE", "MFLAGS", "IMAGE_WEIGHTS")
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(own)}
    return inherited | {"PYTHON": "./python3"}


def make(project: Path, *arguments: str) -> str:
    result = subprocess.run(
        ["make", *arguments], cwd=project, env=environment(), capture_output=True, text=True, timeout=600
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


def make_data(project: Path) -> None:
    """Leave what the data scripts would leave."""
    tables = ("products_table.json", "products_table_clean.json", "clean_images_64/manifest.json", "marketplace.db")
    fill(project / "data" / "sample", tables)


def test_notebooks_that_run_at_once_do_not_overwrite_each_other(project):
    make(project, "-j3", "run")
    copies = project / "data" / "sample" / "notebooks"
    assert sorted(path.stem for path in copies.glob("*.ipynb")) == NOTEBOOKS
    for name in NOTEBOOKS:
        assert (copies / f"{name}.ipynb").read_text().split() == [f"{name}.ipynb"] * 2


def test_the_ranking_waits_for_the_networks(project):
    lines = make(project, "-n", "run").splitlines()
    order = [match[1] for line in lines if (match := re.fullmatch(r'echo "running (\w+)\.ipynb"', line))]
    assert sorted(order) == NOTEBOOKS
    assert order.index("neural_networks") < order.index("product_ranking")


def test_a_notebook_runs_anew_when_a_package_that_it_imports_has_changed(project):
    for package in ("marketplace", "models"):
        (project / package).mkdir()
        (project / package / "module.py").touch()
    (project / "shallow").mkdir()
    (project / "shallow" / "price.py").touch()
    make_data(project)
    make(project, "run")
    assert "running" not in make(project, "run")
    os.utime(project / "models" / "module.py", (2e9, 2e9))
    again = make(project, "run")
    assert "running neural_networks.ipynb" in again and "running product_ranking.ipynb" in again
    assert "running tabular_linear_regression.ipynb" not in again
    os.utime(project / "shallow" / "price.py", (3e9, 3e9))
    assert "running tabular_linear_regression.ipynb" in make(project, "run")


def test_image_weights_reach_the_notebooks_and_others_run_the_networks_anew(project):
    make_data(project)
    assert make(project, "run").count("weights: auto") == len(NOTEBOOKS)
    again = make(project, "run", "IMAGE_WEIGHTS=none")
    assert again.count("weights: none") == 2
    assert "running neural_networks.ipynb" in again and "running product_ranking.ipynb" in again
    assert "weights" not in make(project, "run", "IMAGE_WEIGHTS=none")
    recorded = project / ".venv" / "bin" / "jupyter"
    recorded.write_text('#!/bin/sh\necho "weights: $IMAGE_WEIGHTS"\n')
    recorded.chmod(0o755)
    assert "weights: none" in make(project, "notebooks").splitlines()


def test_help_lists_every_command(project):
    targets = re.search(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)[1].split()
    listed = [line.split()[0] for line in make(project, "help").splitlines()]
    assert sorted(listed) == sorted(set(targets) - {"expect", "FORCE"})


def test_the_installation_is_bound_by_the_lock(project):
    (project / "requirements.lock").touch()
    os.utime(project / "requirements.lock", (2e9, 2e9))
    lines = [line for line in make(project, "-n", "test").splitlines() if "pip install" in line]
    assert len(lines) == 2 and all("--constraint requirements.lock" in line for line in lines)
    assert "--editable ." in lines[0]


@pytest.mark.parametrize(
    "damage",
    [
        "ln -sf /gone/python3 .venv/bin/python",
        "sed -i.old 's/pip --version/no pip/' .venv/bin/python",
        "rm .venv/bin/activate",
        "mkdir moved && mv Makefile .venv *.* program python3 moved",
    ],
    ids=["Python removed", "no pip", "half built", "moved"],
)
def test_an_environment_that_does_not_work_is_built_anew(project, damage):
    assert "venv" not in make(project, ".venv/test-installed").replace(".venv/test-installed", "")
    subprocess.run(damage, shell=True, cwd=project, check=True)
    place = project / "moved" if (project / "moved").exists() else project
    again = make(place, ".venv/test-installed")
    assert again.count("-m venv --clear .venv") == 1 and again.count("-m pip install") == 2
    assert "up to date" in make(place, ".venv/test-installed")


def test_serving_sets_up_what_it_needs_and_takes_the_data_folder(project):
    lines = make(project, "-n", "serve", "DATA_DIR=data").splitlines()
    assert "--constraint requirements.lock --requirement requirements-serve.txt" in lines[0]
    assert lines[-1].endswith("serve.py --data-dir data")


UNFIT = (
    "my data",
    "",
    "data ",
    "/",
    "//",
    "-data",
    "~",
    "~/data",
    "a\nb",
    "d\xe9",
    *(f"a{c}b" for c in "$#%*?:;'\"`\\!&|<>()[]{}=,"),
)


@pytest.mark.parametrize(
    "value", [*UNFIT, "$(shell touch touched)", "$$HOME", "'; touch touched; '", "`touch touched`"]
)
def test_a_data_folder_that_make_cannot_hold_is_refused_before_anything_is_done(project, value):
    before = sorted(project.rglob("*"))
    for arguments, variables in (([f"DATA_DIR={value}"], {}), ([], {"DATA_DIR": value})):
        for target in ("run", "clean"):
            command = ["make", target, *arguments]
            result = subprocess.run(command, cwd=project, env=environment() | variables, capture_output=True, text=True)
            assert result.returncode == 2 and result.stdout == ""
            assert result.stderr.partition(": *** ")[2] == (
                f"DATA_DIR is '{value}': give a path of a-z A-Z 0-9 _./+@- alone, "
                "or run the scripts, which take any.  Stop.\n"
            )
    assert sorted(project.rglob("*")) == before


KEPT = ("images/1.jpg", "marketplace.db", "notes.txt", "sales_report.json", "clean_images_2024_raw/1.jpg")
MADE = (
    *("products_table.json", "images_table.json", "products_table_clean.json", "main_categories.json"),
    *("duplicates.json", "download_report.json", "clean_images_64_report.json", "clean_images_64/manifest.json"),
    *("embeddings/key.npy", "checkpoints/text_model_best.pt", "results/a.json", "index/product_index.npz"),
    *("notebooks/product_ranking.ipynb", "clean_tabular_report.json", "download_images_report.json"),
)


def fill(folder: Path, names: tuple[str, ...]) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


@pytest.mark.parametrize(("name", "kept"), [("data", KEPT), ("data/sample/", KEPT[2:]), ("of+me@home/1.0_a", KEPT)])
def test_clean_deletes_what_was_made_and_follows_no_link(project, name, kept):
    folder, outside = project / name, project / "outside"
    fill(folder, KEPT + MADE)
    fill(outside, ("precious", "data/precious"))
    (folder / "clean_images_224").symlink_to(outside)
    make(project, "clean", f"DATA_DIR={name}")
    assert {str(path.relative_to(folder)) for path in folder.rglob("*") if not path.is_dir()} == set(kept)
    assert sorted(path.name for path in outside.rglob("*") if path.is_file()) == ["precious"] * 2
    make(project, "clean", f"DATA_DIR={name}")  # nothing is left to delete


def test_clean_deletes_nothing_in_a_folder_without_tables(project):
    fill(project / "docs", ("results/mine.json", "index/mine", "notebooks/mine.ipynb"))
    before = sorted(project.rglob("*"))
    assert "nothing is deleted in docs: it holds no tables" in make(project, "clean", "DATA_DIR=docs")
    assert sorted(project.rglob("*")) == before


def test_run_says_what_to_expect_of_this_processor(project):
    assert re.search(r"this processor has (no )?bfloat16: .* minutes", make(project, "run"))
