"""data_folder.py and command_line.py: files appear whole or not at all, texts stay texts, faults are one sentence."""

import errno
import json
import os
import signal
import subprocess
import sys

import pandas as pd
import pytest
from repository import ROOT, run_script

from marketplace.data_folder import UserError, read_json, read_records, read_table, write_json, write_table, write_whole


def test_a_failed_write_leaves_the_earlier_file_and_nothing_else(tmp_path):
    path = tmp_path / "table.json"
    write_json(path, {"kept": True})
    with pytest.raises(ZeroDivisionError), write_whole(path) as partial:
        partial.write_text("half")
        raise ZeroDivisionError
    assert read_json(path, "x.py") == {"kept": True}
    assert list(tmp_path.iterdir()) == [path]


def test_what_a_killed_writer_left_is_overwritten(tmp_path):
    path = tmp_path / "value.json"
    code = (
        "import os, signal, sys; from pathlib import Path; from marketplace.data_folder import write_whole\n"
        "with write_whole(Path(sys.argv[1])) as partial:\n"
        "    partial.write_text('half'); os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    result = subprocess.run([sys.executable, "-c", code, str(path)], cwd=ROOT, check=False)
    assert result.returncode == -signal.SIGKILL and not path.exists()
    write_json(path, 1)
    assert [entry.name for entry in tmp_path.iterdir()] == ["value.json"]


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


@pytest.mark.parametrize("content", [None, "", "{", "[1, 2", "\x00", '"text"', "5"])
def test_a_missing_or_broken_table_is_named(tmp_path, content):
    path = tmp_path / "products_table.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(UserError, match=r"products_table\.json.*run download_products_table\.py"):
        read_table(path, "download_products_table.py", ("id",))


def test_a_missing_column_is_named(tmp_path):
    write_table(tmp_path / "t.json", pd.DataFrame({"id": ["a"]}))
    with pytest.raises(UserError, match="no column price"):
        read_table(tmp_path / "t.json", "x.py", ("id", "price"))


@pytest.mark.parametrize(
    ("statement", "status", "message"),
    [
        ("pass", 0, ""),
        ("raise UserError('The sky fell: wait.')", 1, "error: The sky fell: wait."),
        ("raise KeyboardInterrupt", 130, "stopped by Ctrl-C"),
        ("raise MemoryError", 1, "not enough free memory"),
        (f"raise OSError({errno.ENOSPC}, os.strerror({errno.ENOSPC}), 'a.json')", 1, "no space is left .* a.json"),
        ("open('/nowhere/at/all', 'w')", 1, "/nowhere/at/all cannot be used"),
    ],
)
def test_exit_status_and_sentence(statement, status, message):
    code = (
        "import os\nfrom marketplace.command_line import run\nfrom marketplace.data_folder import UserError\n"
        f"def main():\n    {statement}\nrun(main)"
    )
    result = run_script("-c", code)
    assert result.returncode == status
    assert "Traceback" not in result.stderr
    assert len(result.stderr.splitlines()) == (1 if status else 0)
    assert pd.Series([result.stderr]).str.contains(message).all()


def test_a_reader_that_goes_away_is_no_fault():
    code = "from marketplace.command_line import run\ndef main():\n    for i in range(100000): print(i)\nrun(main)"
    script = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert script.stdout.readline() == b"0\n"
    script.stdout.close()
    script.wait(timeout=30)
    assert script.stderr.read() == b""
    script.stderr.close()


@pytest.mark.parametrize(
    "script",
    sorted(path.name for path in ROOT.glob("*.py") if "argument_parser" in path.read_text() and path.is_file()),
)
def test_every_script_explains_itself_and_refuses_wrong_arguments(script):
    help_text = run_script(script, "--help")
    assert help_text.returncode == 0 and "--data-dir" in help_text.stdout
    wrong = run_script(script, "--no-such-flag")
    assert wrong.returncode == 2 and "Traceback" not in wrong.stderr


@pytest.mark.parametrize("script", ["clean_tabular_data.py", "clean_images.py"])
def test_an_empty_data_folder_gets_one_sentence(script, tmp_path):
    result = run_script(script, "--data-dir", tmp_path / "nothing")
    assert result.returncode == 1
    assert result.stderr.startswith("error: ") and len(result.stderr.splitlines()) == 1
    assert not os.path.exists(tmp_path / "nothing")


@pytest.mark.parametrize("block", [3, 7, 1000])
@pytest.mark.parametrize("indent", [None, 2])
def test_records_are_the_same_wherever_a_block_of_the_file_ends(tmp_path, monkeypatch, block, indent):
    monkeypatch.setattr("marketplace.data_folder.BLOCK_CHARACTERS", block)
    records = [{"a": 'é😀 "]},{[\\'}, {}, {"b": [1, {"c": None}], "a": "007"}, {"a": -1.5e3, "b": True}]
    (tmp_path / "table.json").write_text(json.dumps(records, indent=indent, ensure_ascii=False), encoding="utf-8")
    assert list(read_records(tmp_path / "table.json")) == records
    assert len(read_table(tmp_path / "table.json", "a script")) == 4


@pytest.mark.parametrize(
    "text", ["", "[", "]", "[1]", "[{}", "[{},]", "[{}{}]", "[{}]x", "{}", '[{"a":}]', "\0", "[" * 99_999]
)
def test_a_file_that_is_no_table_gets_one_sentence(tmp_path, text):
    (tmp_path / "table.json").write_text(text)
    with pytest.raises(UserError, match="not readable as a table"):
        read_table(tmp_path / "table.json", "a script")


def test_a_large_table_is_written_in_parts(tmp_path, monkeypatch):
    monkeypatch.setattr("marketplace.data_folder.ROWS_AT_ONCE", 2)
    for rows in range(6):
        table = pd.DataFrame({"id": [f"0{row}" for row in range(rows)]})
        write_table(tmp_path / "table.json", table)
        assert list(read_table(tmp_path / "table.json", "a script", ("id",))["id"]) == list(table["id"])
