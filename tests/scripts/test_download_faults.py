"""What the database can do to a download: each fault is made for real, and each ends in one sentence."""

import contextlib
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import time

import pytest
from marketplace_database import assert_refused, fill, fresh_marketplace, product, wait_for
from postgres_server import free_port
from repository import ROOT, run_script

LONG = 150_000  # rows that take more than a second
CHECK = "check ENDPOINT, PORT, USER, PASSWORD, DATABASE and SSLMODE"


@pytest.fixture
def marketplace(postgres, tmp_path):
    with fresh_marketplace(postgres, tmp_path) as made:
        yield made


def refused(marketplace, *words: str, arguments: tuple = (), secret: str = "") -> None:
    """The download ends as `assert_refused` says, and no table is there."""
    result = marketplace.download(*arguments)
    assert_refused(result, *words, secret=secret or marketplace.server.password, folder=marketplace.folder)
    assert not list(marketplace.folder.glob("*_table.json"))


def start_download(marketplace, *arguments: object) -> subprocess.Popen:
    """A download that runs while the test goes on."""
    command = [sys.executable, *marketplace.command("--tables", "products", *arguments)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def end_of(process: subprocess.Popen) -> subprocess.CompletedProcess:
    output, errors = process.communicate(timeout=120)
    return subprocess.CompletedProcess(process.args, process.returncode, output, errors)


def wait_for_rows(marketplace) -> None:
    """Wait until a part of a table is on the disk."""
    wait_for(lambda: any(path.stat().st_size > 100_000 for path in marketplace.folder.glob(".*.partial")))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"PORT": free_port()}, "Connection refused"),
        ({"ENDPOINT": "database.invalid"}, 'translate host name "database.invalid"'),
        ({"PASSWORD": "wr0ng:p@ss"}, "password authentication failed"),
        ({"DATABASE": "other"}, '"other" does not exist'),
        ({"SSLMODE": "require"}, "does not support SSL"),
        ({"PORT": "five"}, '"five"'),
    ],
)
def test_a_connection_that_fails(changes, words, marketplace):
    marketplace.write_credentials(**changes)
    refused(marketplace, words, CHECK, secret=changes.get("PASSWORD", ""))


@pytest.mark.parametrize(
    ("sqlstate", "advice"),
    [
        ("42501", "ask for the right to SELECT all of its rows"),
        ("40001", "run the command again later"),  # a replica: canceling statement due to conflict with recovery
        ("57P01", "run the command again later"),
        ("22012", "correct that, and run the command again"),
    ],
)
def test_a_statement_that_fails(sqlstate, advice, marketplace):
    marketplace.execute(
        "CREATE FUNCTION fail() RETURNS text LANGUAGE plpgsql AS "
        f"$$ BEGIN RAISE 'the reason' USING ERRCODE = '{sqlstate}'; END $$; "
        "ALTER TABLE products RENAME TO old; CREATE VIEW products AS SELECT fail() AS page_id, old.id, product_name, "
        "category, product_description, price, location FROM old"
    )
    refused(marketplace, f"cannot be read (the reason): {advice}.")


def test_what_the_server_hides_is_not_an_empty_table(marketplace):
    """The password is a word of the sentence, and is not starred out of it."""
    reader = f"reader_of_{marketplace.database}"
    marketplace.execute(f"CREATE ROLE {reader} LOGIN PASSWORD 'permission'; GRANT SELECT ON products TO {reader}")
    marketplace.write_credentials(USER=reader, PASSWORD="permission")
    for statement, words in (
        (f"REVOKE SELECT ON products FROM {reader}", "permission denied for table products): ask for the right"),
        (
            f"GRANT SELECT ON products TO {reader}; ALTER TABLE products ENABLE ROW LEVEL SECURITY",
            "affected by row-level security policy",
        ),
        ("CREATE SCHEMA sales; ALTER TABLE products SET SCHEMA sales", "schemas with a table of that name: sales)"),
    ):
        marketplace.execute(statement)
        refused(marketplace, words)


def test_sqlite_with_a_journal_in_a_folder_that_may_only_be_read(tmp_path):
    fill(f"sqlite:///{tmp_path}/shop.db", [product(1)], [])
    with contextlib.closing(sqlite3.connect(tmp_path / "shop.db")) as database:
        database.execute("PRAGMA journal_mode=WAL")
    for folder in (tmp_path, *tmp_path.parents[:-2]):
        folder.chmod(0o555 if folder == tmp_path else 0o755)
    code = f"""
import os
from pathlib import Path
from marketplace.database_source import sqlite_database
os.geteuid() or os.setuid(65534)  # root may write anywhere
next(sqlite_database(Path({str(tmp_path / "shop.db")!r}), "here").rows("products"))
"""
    assert "it keeps a journal (WAL), so copy it" in run_script("-c", code).stderr


def test_a_server_that_connects_and_stays_silent(marketplace):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        marketplace.write_credentials(PORT=silent.getsockname()[1])
        refused(marketplace, "no answer for 1 seconds", CHECK, arguments=("--timeout", 1))


def test_a_server_that_falls_silent_in_the_middle(marketplace):
    """Its machine still acknowledges what we send."""
    marketplace.make_long_products(LONG)
    process = start_download(marketplace, "--timeout", 1)
    wait_for_rows(marketplace)
    ((backend,),) = marketplace.execute(
        "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND pid != pg_backend_pid()"
    )
    os.kill(backend, signal.SIGSTOP)
    try:
        result = end_of(process)
    finally:
        os.kill(backend, signal.SIGCONT)
    assert_refused(result, "no answer for 1 seconds", folder=marketplace.folder)


def test_a_server_killed_in_the_middle_leaves_nothing_and_the_next_run_succeeds(marketplace):
    marketplace.make_long_products(LONG)
    process = start_download(marketplace)
    wait_for_rows(marketplace)
    marketplace.server.kill()
    try:
        result = end_of(process)
    finally:
        marketplace.server.start()
    assert_refused(result, "cannot be read", secret=marketplace.server.password, folder=marketplace.folder)
    assert not (marketplace.folder / "products_table.json").exists()
    assert f"products: {LONG:,} rows" in marketplace.download("--tables", "products").stdout


def test_ctrl_c_ends_a_statement_that_waits_for_a_lock(marketplace):
    with contextlib.closing(marketplace.server.connect(marketplace.database)) as other:
        other.cursor().execute("LOCK TABLE products IN ACCESS EXCLUSIVE MODE")
        process = start_download(marketplace)
        waiting = "SELECT 1 FROM pg_locks JOIN pg_database d ON d.oid = database WHERE NOT granted AND datname = "
        wait_for(lambda: marketplace.execute(f"{waiting}current_database()"))
        start = time.monotonic()
        process.send_signal(signal.SIGINT)
        result = end_of(process)
    assert time.monotonic() - start < 30, "the limit of silence is 60 seconds"
    assert result.returncode == 130 and "Ctrl-C" in result.stderr and "Traceback" not in result.stderr
    assert not list(marketplace.folder.rglob("*.partial"))


def test_a_killed_download_leaves_the_earlier_table_whole(marketplace):
    marketplace.download()
    before = (marketplace.folder / "products_table.json").read_bytes()
    marketplace.make_long_products(LONG)
    process = start_download(marketplace, "--force")
    wait_for_rows(marketplace)
    process.kill()
    assert end_of(process).returncode == -signal.SIGKILL
    assert (marketplace.folder / "products_table.json").read_bytes() == before
