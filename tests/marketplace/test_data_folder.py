"""Files appear whole or not at all, texts stay texts, data folders are found."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pandas as pd
import pytest
from IPython.core.interactiveshell import InteractiveShell
from marketplace_database import fill, image, product
from repository import ROOT, run_script
from traitlets.config import Config

from marketplace.data_folder import DataFolder, UserError, read_json, write_json, write_whole
from marketplace.listings import read_table, write_table


def test_a_failed_write_leaves_the_earlier_file_and_nothing_else(tmp_path):
    path = tmp_path / "table.json"
    write_json(path, {"kept": True})
    with pytest.raises(ZeroDivisionError), write_whole(path) as partial:
        partial.write_text("half")
        raise ZeroDivisionError
    assert read_json(path, "x.py") == {"kept": True}
    assert list(tmp_path.iterdir()) == [path]


WRITER = """
import os, sys
from pathlib import Path
from marketplace.data_folder import write_whole
path, letter = Path(sys.argv[1]), sys.argv[2]
sys.stdin.readline()
for number in range(60):
    with write_whole(path) as partial:
        partial.write_text(f"{letter}{number}\\n" * 20_000)
"""


def test_two_processes_may_write_the_same_file_at_once(tmp_path):
    path = tmp_path / "table.json"
    write_json(path, "before")
    options = {"stdin": subprocess.PIPE, "stderr": subprocess.PIPE, "cwd": ROOT, "text": True}
    writers = [subprocess.Popen([sys.executable, "-c", WRITER, path, letter], **options) for letter in "ab"]
    for writer in writers:
        writer.stdin.write("start\n")
        writer.stdin.flush()
    sizes = set()
    while any(writer.poll() is None for writer in writers):
        lines = path.read_text().splitlines()
        sizes.add(len(lines))
        assert len(set(lines)) == 1
    for writer in writers:
        assert (writer.communicate()[1], writer.returncode) == ("", 0)
    assert sizes <= {1, 20_000} and 20_000 in sizes
    assert list(tmp_path.iterdir()) == [path]


def test_a_killed_writer_leaves_a_partial_file_for_a_day(tmp_path):
    path = tmp_path / "value.json"
    killed = "with write_whole(path) as partial: partial.write_text('half'); os.kill(os.getpid(), signal.SIGKILL)"
    code = (
        "import os, signal, sys; from pathlib import Path; from marketplace.data_folder import write_json, write_whole"
    )
    code = f"{code}\npath = Path(sys.argv[1])\n"
    assert run_script("-c", code + killed, path).returncode == -signal.SIGKILL
    assert not path.exists()
    (old,) = tmp_path.iterdir()
    two_days_ago = time.time() - 2 * 24 * 60 * 60
    os.utime(old, (two_days_ago, two_days_ago))
    young = tmp_path / ".0123456789abcdef.partial"
    young.write_text("of another run")
    other = tmp_path / "other.json"
    assert run_script("-c", code + "write_json(path, 1)", other).returncode == 0
    assert sorted(tmp_path.iterdir()) == [young, other]


@pytest.fixture
def folder_in_the_repository():
    with tempfile.TemporaryDirectory(dir=ROOT / "data", prefix="test_") as name:
        yield Path(name)


def test_a_relative_data_folder_is_found_in_the_repository(folder_in_the_repository, tmp_path, monkeypatch):
    relative = folder_in_the_repository.relative_to(ROOT)
    fill(f"sqlite:///{folder_in_the_repository}/marketplace.db", [product(1)], [image(1)])
    result = run_script(ROOT / "download_products_table.py", "--data-dir", relative, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert (folder_in_the_repository / "products_table.json").exists()
    assert not list(tmp_path.iterdir())
    monkeypatch.chdir(tmp_path)
    assert DataFolder(relative).path == folder_in_the_repository
    shutil.copytree(folder_in_the_repository, tmp_path / relative)
    assert DataFolder(relative).path == relative, "the current folder comes first"
    assert DataFolder("data/no_such_folder").path == Path("data/no_such_folder")


def test_texts_stay_texts(tmp_path):
    table = pd.DataFrame(
        {
            "id": ["007", "1e5"],
            "text": ["2022-02-26", "=cmd()\r\n\N{SAUROPOD} £5 /"],
            "create_time": ["2022-02-26T14:38:18.000", None],
            "number": [0.1, 123456789.123456],
        }
    )
    write_table(tmp_path / "table.json", table)
    back = read_table(tmp_path / "table.json", "x.py", ("id", "text"))
    assert back["id"].tolist() == ["007", "1e5"]
    assert back["text"].tolist() == table["text"].tolist()
    assert back["create_time"][0] == "2022-02-26T14:38:18.000" and pd.isna(back["create_time"][1])
    assert back["number"].tolist() == table["number"].tolist()


@pytest.mark.parametrize("content", [None, "", "[1, 2", "\x00", "5", "[1]", "[{}]x", "[" * 99_999])
def test_a_missing_or_broken_table_is_named(tmp_path, content):
    path = tmp_path / "products_table.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(UserError, match=r"products_table\.json.*run download_products_table\.py"):
        read_table(path, "download_products_table.py", ("id",))


def test_a_notebook_shows_the_sentence_without_a_traceback(capsys, tmp_path):
    """The convention of IPython, tried as a cell."""
    shell = InteractiveShell(config=Config({"HistoryManager": {"enabled": False}}))
    shell.run_cell(f"from marketplace.listings import load_products\nload_products({str(tmp_path)!r})")
    printed = capsys.readouterr().out
    assert "UserError: " in printed and "run clean_tabular_data.py" in printed
    assert "Traceback" not in printed and "load_products(" not in printed


def test_a_missing_column_is_named(tmp_path):
    write_table(tmp_path / "t.json", pd.DataFrame({"id": ["a"]}))
    with pytest.raises(UserError, match="no column price"):
        read_table(tmp_path / "t.json", "x.py", ("id", "price"))


def test_lone_surrogates_come_back_from_reports(tmp_path):
    records = [{"id": "p\ud83d", "text": "caf\udce9.jpg £", "price": 0.1}, {"id": "é", "text": None, "price": None}]
    write_json(tmp_path / "report.json", records)
    assert read_json(tmp_path / "report.json", "a script") == records
