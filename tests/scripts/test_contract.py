"""What every script promises: help at once, wrong arguments 2, a missing data folder 1 with one sentence."""

import os
import subprocess
import sys

import pytest
from repository import ROOT, run_script

SCRIPTS = sorted(path.name for path in ROOT.glob("*.py"))
ARGUMENTS = {  # that a script needs
    "predict_category.py": ["--text", "lamp"],
    "predict_price.py": ["--text", "lamp"],
    "rank_products.py": ["--text", "lamp"],
}
READERS = [name for name in SCRIPTS if name not in ("make_sample_marketplace.py", "download_products_table.py")]


@pytest.mark.parametrize("script", SCRIPTS)
def test_help_needs_no_torch_and_says_where_the_data_is(script, tmp_path):
    (tmp_path / "torch.py").write_text("raise SystemExit('torch was imported')")
    result = run_script(script, "--help", env=os.environ | {"PYTHONPATH": str(tmp_path)})
    assert (result.returncode, result.stderr) == (0, "")
    assert "--data-dir" in result.stdout


@pytest.mark.parametrize("script", SCRIPTS)
def test_an_unknown_option_gets_status_2(script):
    result = run_script(script, *ARGUMENTS.get(script, []), "--no-such-option")
    assert result.returncode == 2
    assert "usage: " in result.stderr and "Traceback" not in result.stderr


@pytest.mark.parametrize("script", READERS)
def test_a_missing_data_folder_gets_one_sentence_and_status_1(script, tmp_path):
    result = run_script(script, *ARGUMENTS.get(script, []), "--data-dir", tmp_path / "nothing")
    assert result.returncode == 1
    assert result.stderr.startswith("error: ") and len(result.stderr.splitlines()) == 1
    assert str(tmp_path / "nothing") in result.stderr
    assert not (tmp_path / "nothing").exists()


def test_waiting_threads_soon_sleep_unless_the_environment_says_otherwise():
    names = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")
    code = f"import marketplace, os, sys; print([os.environ[name] for name in {names}], 'torch' in sys.modules)"
    clean = {name: value for name, value in os.environ.items() if name not in names}
    for own, expected in (({}, ["passive", "1000"]), ({"OMP_WAIT_POLICY": "active"}, ["active", "1000"])):
        result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=clean | own, capture_output=True, text=True)
        assert result.stdout == f"{expected} False\n"
