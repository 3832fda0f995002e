"""What every script shares: arguments, progress bar, printed report and exit status."""

import argparse
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


STOPPED = "stopped by Ctrl-C: finished work is kept, run the command again to continue."


def run(main: Callable[[], object], stopped: str = STOPPED) -> None:
    """Run a script's `main`; the exit status is 0 when it is done.

    What the user can correct (UserError, a file or folder that cannot be used, a full disk) ends with 1 and one
    sentence on stderr, wrong arguments with 2 (argparse), Ctrl-C with 130 and the sentence `stopped`. Any other
    exception is a fault of the program and shows its traceback. Characters that a stream cannot encode are escaped.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # and not what a test or a notebook has put in its place
            stream.reconfigure(errors="backslashreplace")
    try:
        main()
        sys.stdout.flush()
    except UserError as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        print(stopped, file=sys.stderr)
        sys.exit(130)
    except BrokenPipeError:  # the reader of our output has exited (`| head`); Python flushes once more at its exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except OSError as error:
        where = error.filename or "standard output or the data folder"
        sys.exit(f"error: {where} cannot be used ({error.strerror or first_line(error)}): check path, rights and disk.")
