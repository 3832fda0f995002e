"""What every script shares: arguments, progress bar, printed report and exit status."""

import argparse
import errno
import importlib
import io
import os
import re
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from alive_progress import alive_bar

from marketplace.data_folder import DataFolder, UserError, first_line


class HelpFormatter(argparse.ArgumentDefaultsHelpFormatter):
    """Help that names the default where there is one."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        return super()._get_help_string(action) if action.default not in (None, False) else action.help


def argument_parser(description: str) -> argparse.ArgumentParser:
    """An argument parser with `--data-dir`, the path of a DataFolder."""
    parser = argparse.ArgumentParser(description=description, formatter_class=HelpFormatter)
    parser.add_argument("--data-dir", type=data_dir, default="data", metavar="DIR", help="folder with the data")
    return parser


def data_dir(text: str) -> Path:
    """Argument type: a data folder, in the current folder or else in the repository."""
    return DataFolder(text).path


def positive_int(text: str) -> int:
    """Argument type: a whole number from 1 up."""
    if not re.fullmatch(r"[0-9]+", text) or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above 0")
    return int(text)


def progress_bar(total: int | None, title: str):
    """An alive-progress bar on a terminal; nothing is written to a pipe or a file. `total` None: unknown."""
    return alive_bar(total, title=title, file=sys.stderr, disable=not sys.stderr.isatty())


def print_report(report: Mapping[str, Any]) -> None:
    """Print the counts of a report, one per line; a list of ids is printed as its length."""
    for name, value in report.items():
        if isinstance(value, Mapping):
            for key, count in value.items():
                print(f"  {name} / {key}: {len(count) if isinstance(count, list) else count}")
        else:
            print(f"  {name}: {len(value) if isinstance(value, list) else value}")


def open_streams() -> None:
    """Let standard output and error take any text in any encoding; where they are closed, texts go nowhere."""
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass  # a closed stream would be the next file that is opened
    os.close(descriptor)
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name) or open(os.devnull, "w")  # noqa: SIM115
        setattr(sys, name, stream)
        if isinstance(stream, io.TextIOWrapper):  # and not what a test or a notebook has put in its place
            stream.reconfigure(errors="backslashreplace")


STOPPED = "stopped by Ctrl-C: finished work is kept, run the command again to continue."


def run(main: Callable[[], object] | str, stopped: str = STOPPED) -> None:
    """Run a script's `main`, or `main` of the module of that name, which is imported first.

    Exits with 1 and one sentence on stderr when it cannot be done, 2 for wrong arguments (argparse), 130 for Ctrl-C,
    with the sentence `stopped`, also while the modules that the script needs are imported. MARKETPLACE_TRACEBACK=1
    shows the whole traceback of an unexpected exception.
    """
    open_streams()
    try:
        (importlib.import_module(main).main if isinstance(main, str) else main)()
        sys.stdout.flush()
    except UserError as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        print(stopped, file=sys.stderr)
        sys.exit(130)
    except MemoryError:
        sys.exit("error: there is not enough free memory: close other programs or work on less data.")
    except BrokenPipeError:
        # The reader of our output has exited (`| head`). SIGPIPE stays ignored: it would also end the process when a
        # server closes a connection.
        sys.exit(1)
    except OSError as error:
        where = error.filename or "standard output or the data folder"
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            sys.exit(f"error: no space is left on the disk of {where}: free some and run the command again.")
        cause = error.strerror or first_line(error)
        sys.exit(f"error: {where} cannot be used ({cause}): check the path and its permissions.")
    except Exception as error:
        if os.environ.get("MARKETPLACE_TRACEBACK"):
            raise
        sys.exit(
            f"error: an unexpected {type(error).__name__} ({first_line(error)}): run the command again with "
            "MARKETPLACE_TRACEBACK=1 to see the whole traceback, and report it."
        )
    finally:
        for number, stream in enumerate((sys.stdout, sys.stderr), start=1):
            try:
                stream.flush()
            except OSError:  # the fault that is reported came first; Python flushes once more when it exits
                os.dup2(os.open(os.devnull, os.O_WRONLY), number)
