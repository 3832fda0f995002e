"""Files appear whole or not at all, texts stay texts, data folders are found, faults are one sentence."""

import errno
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


@pytest.mark.parametrize("content", [None, "", "{", "[1, 2", "\x00", '"text"', "5"])
def test_a_missing_or_broken_table_is_named(tmp_path, content):
    path = tmp_path / "products_table.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(UserError, match=r"products_table\.json.*run download_products_table\.py"):
        read_table(path, "download_products_table.py", ("id",))


def test_a_notebook_shows_the_sentence_without_a_traceback(capsys, tmp_path):
    """The convention of IPython, tried as a cell."""
    shell = InteractiveShell(config=Config({"HistoryManager": {"enabled": False}}))
    shell.run_cell(f"from marketplace.dataset import load_products\nload_products({str(tmp_path)!r})")
    printed = capsys.readouterr().out
    assert "UserError: " in printed and "run clean_tabular_data.py" in printed
    assert "Traceback" not in printed and "load_products(" not in printed


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
        ("1 / 0", 1, r"^error: an unexpected ZeroDivisionError \(division by zero\): .*MARKETPLACE_TRACEBACK=1"),
        ("raise RecursionError('deep\\nand deeper')", 1, r"RecursionError \(deep\): "),
        ("'\\ud800'.encode()", 1, "an unexpected UnicodeEncodeError"),
        ("import no_such_module", 1, r"ModuleNotFoundError \(No module named 'no_such_module'\)"),
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


def test_the_whole_traceback_is_shown_on_demand():
    code = "from marketplace.command_line import run\nrun(lambda: 1 / 0)"
    result = run_script("-c", code, env=os.environ | {"MARKETPLACE_TRACEBACK": "1"})
    assert result.returncode == 1
    assert "Traceback" in result.stderr and "ZeroDivisionError: division by zero" in result.stderr


C_LOCALE = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
ESCAPED = "\\xa35 caf\\xe9 \\U0001fa91 \\ud83d\n"


@pytest.mark.parametrize(
    ("environment", "redirection", "expected"),
    [
        (
            {"PYTHONIOENCODING": "utf-8"},
            "",
            (0, ESCAPED.encode().decode("unicode-escape")[:-2] + "\\ud83d\n", "note\n"),
        ),
        ({"PYTHONIOENCODING": "ascii"}, "", (0, ESCAPED, "note\n")),
        ({"PYTHONIOENCODING": "ascii:strict"}, "", (0, ESCAPED, "note\n")),
        (C_LOCALE, "", (0, ESCAPED, "note\n")),
        ({"PYTHONIOENCODING": "ascii", "PYTHONUNBUFFERED": "1"}, "", (0, ESCAPED, "note\n")),
        ({"PYTHONIOENCODING": "ascii"}, "2>&-", (0, ESCAPED, "")),
        ({"PYTHONIOENCODING": "ascii"}, "2>/dev/full", (1, ESCAPED, "")),
        ({}, ">&-", (0, "", "note\n")),
        ({}, "<&- >&- 2>&-", (0, "", "")),
        ({}, ">/dev/full 2>/dev/full", (1, "", "")),
        (
            {},
            "1</dev/null",
            (1, "", "note\nerror: standard output or the data folder cannot be used "),
        ),
        (
            {},
            ">/dev/full",
            (1, "", "note\nerror: no space is left on the disk of standard output"),
        ),
        (
            {"PYTHONUNBUFFERED": "1"},
            ">/dev/full",
            (1, "", "error: no space is left on the disk of standard output"),
        ),
    ],
)
def test_streams_of_any_encoding_that_may_be_closed_or_full(environment, redirection, expected, tmp_path):
    code = (
        "import sys; from marketplace.command_line import run\n"
        "def main():\n"
        "    file = open(sys.argv[1], 'w')\n"  # may not take the place of a closed stream
        "    print('£5 café 🪑 \\ud83d'); print('note', file=sys.stderr)\n"
        "    file.close()\n"
        "run(main)"
    )
    (tmp_path / "script.py").write_text(code, encoding="utf-8")
    command = [
        "sh",
        "-c",
        f'exec "$@" {redirection}',
        "sh",
        sys.executable,
        *map(str, (tmp_path / "script.py", tmp_path / "file")),
    ]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": ""} | environment
    result = subprocess.run(command, env=environment, capture_output=True, timeout=60)
    status, output, errors = expected
    assert (result.returncode, result.stdout.decode()) == (status, output)
    assert result.stderr.decode().startswith(errors) and len(result.stderr.splitlines()) <= 2
    assert not (tmp_path / "file").read_bytes()


@pytest.fixture
def slow_modules(tmp_path) -> dict[str, str]:
    """An environment in which heavy modules say so and take a minute to import."""
    slow = "import time\nprint('importing', flush=True)\nfor _ in range(600): time.sleep(0.1)\n"
    for name in ("numpy", "pandas", "PIL", "sqlalchemy", "torch"):
        (tmp_path / f"{name}.py").write_text(slow)
    return os.environ | {"PYTHONPATH": str(tmp_path)}


@pytest.mark.parametrize(
    "command",
    [
        *sorted(path.name for path in ROOT.glob("*.py") if not path.name.startswith("predict_")),
        "predict_category.py --checkpoint none --text lamp",  # these two read their arguments first
        "predict_price.py --text lamp",
        "-m evaluation.results",
        "-m evaluation.pages",
    ],
)
def test_ctrl_c_is_answered_while_modules_are_imported(command, slow_modules, tmp_path):
    script = subprocess.Popen(
        [sys.executable, *command.split()],
        **{"cwd": ROOT, "env": slow_modules, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True},
    )
    with script:
        assert script.stdout.readline() == "importing\n"
        script.send_signal(signal.SIGINT)
        errors = script.communicate(timeout=30)[1]
    assert script.returncode == 130
    assert errors.startswith("stopped") and errors.count("\n") == 1


@pytest.mark.parametrize(("argument", "status"), [("--help", 0), ("--epochs=none", 2)])
def test_arguments_are_read_before_torch_is_imported(argument, status, slow_modules):
    result = run_script("train_models.py", argument, env=slow_modules, timeout=30)
    assert result.returncode == status and "usage: train_models.py" in result.stdout + result.stderr


def test_a_closed_pipe_is_no_fault():
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


@pytest.mark.parametrize(
    "text", ["", "[", "]", "[1]", "[{}", "[{},]", "[{}{}]", "[{}]x", "{}", '[{"a":}]', "\0", "[" * 99_999]
)
def test_a_file_that_is_no_table_gets_one_sentence(tmp_path, text):
    (tmp_path / "table.json").write_text(text)
    with pytest.raises(UserError, match=r"not readable as (a table|JSON): delete it"):
        read_table(tmp_path / "table.json", "a script")


def test_lone_surrogates_come_back_from_reports(tmp_path):
    records = [{"id": "p\ud83d", "text": "caf\udce9.jpg £", "price": 0.1}, {"id": "é", "text": None, "price": None}]
    write_json(tmp_path / "report.json", records)
    assert read_json(tmp_path / "report.json", "a script") == records


def test_a_large_table_is_written_in_parts(tmp_path, monkeypatch):
    monkeypatch.setattr("marketplace.tables.ROWS_AT_ONCE", 2)
    for rows in range(6):
        table = pd.DataFrame({"id": [f"0{row}" for row in range(rows)]})
        write_table(tmp_path / "table.json", table)
        assert list(read_table(tmp_path / "table.json", "a script", ("id",))["id"]) == list(table["id"])
