"""How a script ends: exit status, sentence or traceback, and streams that cannot take every character."""

import os
import subprocess
import sys

import pytest
from repository import ROOT, run_script


@pytest.mark.parametrize(
    ("statement", "status", "message"),
    [
        ("pass", 0, ""),
        ("raise UserError('The sky fell: wait.')", 1, "error: The sky fell: wait."),
        ("raise KeyboardInterrupt", 130, "stopped by Ctrl-C: "),
        ("open('/nowhere/at/all', 'w')", 1, "error: /nowhere/at/all cannot be used (No such file or directory)"),
        (
            "print('x', file=open('/dev/full', 'w'), flush=True)",
            1,
            "error: standard output",
        ),
    ],
)
def test_exit_status_and_sentence(statement, status, message):
    code = (
        "from marketplace.command_line import run\nfrom marketplace.data_folder import UserError\n"
        f"def main():\n    {statement}\nrun(main)"
    )
    result = run_script("-W", "ignore", "-c", code)
    assert result.returncode == status
    assert result.stderr.startswith(message) and len(result.stderr.splitlines()) == (1 if status else 0)


def test_a_fault_of_the_program_shows_its_traceback():
    result = run_script("-c", "from marketplace.command_line import run\nrun(lambda: 1 / 0)")
    assert result.returncode == 1
    assert "Traceback" in result.stderr and "ZeroDivisionError: division by zero" in result.stderr


@pytest.mark.parametrize("encoding", ["ascii", "ascii:strict", "latin-1"])
def test_characters_that_a_stream_cannot_encode_are_escaped(encoding):
    code = "from marketplace.command_line import run\nrun(lambda: print('chair \\U0001fa91 \\ud83d'))"
    result = run_script("-c", code, env=os.environ | {"PYTHONIOENCODING": encoding})
    assert (result.returncode, result.stdout) == (0, "chair \\U0001fa91 \\ud83d\n")


def test_a_closed_pipe_is_no_fault():
    code = "from marketplace.command_line import run\ndef main():\n    for i in range(100000): print(i)\nrun(main)"
    command = [sys.executable, "-c", code]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as script:
        assert script.stdout.readline() == b"0\n"
        script.stdout.close()
        assert script.stderr.read() == b""
        assert script.wait(timeout=60) == 1
