"""The layout of the repository: imports go one way, stand at the top of a file, and load torch only where needed."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest
from repository import NO_TORCH, ROOT

# Each package may import itself and the ones before it.
ORDER = ("marketplace", "evaluation", "shallow", "models", "ranking")
ALLOWED = {name: set(ORDER[: place + 1]) for place, name in enumerate(ORDER)}
ALLOWED["sample_marketplace"] = {"marketplace", "sample_marketplace"}
OWN = {*ALLOWED, "benchmarks", "tests", *(path.stem for path in ROOT.glob("*.py"))}
FILES = [path for package in ALLOWED for path in sorted((ROOT / package).rglob("*.py"))]
WITHOUT_TORCH = ("marketplace", "evaluation", "shallow")
# Packages that few users need: only these may be imported inside a function.
OPTIONAL = ("distributed", "cloudpickle")


def imported(path: Path) -> list[tuple[str, bool]]:
    """The modules that a file imports, inside functions too, and whether each import stands inside a function."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    inside = {
        id(node)
        for function in ast.walk(tree)
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        for node in ast.walk(function)
    }
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [(alias.name, id(node) in inside) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0 and node.module, f"{path}: relative import"
            found.append((node.module, id(node) in inside))
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_go_one_way(path):
    package = path.relative_to(ROOT).parts[0]
    names = {module.split(".")[0] for module, _ in imported(path)}
    assert names & OWN <= ALLOWED[package]
    assert package not in WITHOUT_TORCH or not names & {"torch", "torchvision", "transformers"}


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_function_imports_nothing_but_optional_packages(path):
    assert not [module for module, inside in imported(path) if inside and module not in OPTIONAL]


def test_the_rule_sees_an_import_inside_a_function(tmp_path):
    path = tmp_path / "module.py"
    path.write_text("import os\ndef f():\n    from models.training import fit\n", encoding="utf-8")
    assert imported(path) == [("os", False), ("models.training", True)]


def test_tables_and_shallow_models_need_no_torch():
    modules = [
        ".".join(path.relative_to(ROOT).with_suffix("").parts)
        for package in WITHOUT_TORCH
        for path in sorted((ROOT / package).glob("*.py"))
    ]
    code = f"{NO_TORCH}import {', '.join(modules)}"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


def test_slow_test_files_are_there(request):
    conftest = request.config.pluginmanager.get_plugin(str(ROOT / "tests" / "conftest.py"))
    assert [name for name in conftest.SLOW_FILES if not (ROOT / "tests" / name).is_file()] == []


def test_packages_are_found_from_any_folder(tmp_path):
    code = f"import importlib.util\nassert all(map(importlib.util.find_spec, {[*ALLOWED, 'benchmarks']}))"
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True)
