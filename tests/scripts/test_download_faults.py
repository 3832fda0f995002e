"""What the database can do to a download: each fault is made for real, and each ends in one sentence."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time

import psycopg2
import pytest
from marketplace_database import assert_refused, fresh_marketplace, is_downloading, make_long_products, wait_for
from postgres_server import free_port
from repository import ROOT
from tls_proxy import Authority, tls_proxy

LONG = 150_000  # rows that take about a second


@pytest.fixture
def marketplace(postgres, tmp_path):
    with fresh_marketplace(postgres, tmp_path) as made:
        yield made


def refused(marketplace, *words: str, arguments: tuple = (), seconds: float = 25) -> None:
    """The download ends within `seconds` and as `assert_refused` says."""
    start = time.monotonic()
    result = marketplace.download(*arguments)
    assert time.monotonic() - start < seconds
    assert_refused(result, *words, secret=marketplace.server.password, folder=marketplace.folder)
    assert not list(marketplace.folder.glob("*_table.json"))


def start_download(marketplace, *arguments: object) -> subprocess.Popen:
    """A download that runs while the test goes on."""
    command = [sys.executable, *marketplace.command("--tables", "products", *arguments)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def end_of(process: subprocess.Popen) -> subprocess.CompletedProcess:
    output, errors = process.communicate(timeout=60)
    return subprocess.CompletedProcess(process.args, process.returncode, output, errors)


def test_a_refused_connection(marketplace):
    port = free_port()
    marketplace.write_credentials(PORT=port)
    refused(marketplace, f"127.0.0.1:{port} refuses the connection", "ENDPOINT and PORT")


def test_an_unknown_host(marketplace):
    marketplace.write_credentials(ENDPOINT="database.invalid")
    refused(marketplace, "database.invalid", "unknown", "check ENDPOINT")


def test_a_silent_host(marketplace):
    with socket.create_server(("127.0.0.1", 0)) as silent:  # connects, and never says a word
        port = silent.getsockname()[1]
        marketplace.write_credentials(PORT=port)
        refused(marketplace, f"127.0.0.1:{port}", "did not answer in time", arguments=("--timeout", 1), seconds=15)


def test_a_host_that_is_no_postgresql(marketplace):
    with socket.create_server(("127.0.0.1", 0)) as other:
        marketplace.write_credentials(PORT=other.getsockname()[1])
        process = start_download(marketplace)
        connection, _ = other.accept()
        connection.recv(8)
        connection.sendall(b"HTTP/1.0 400 Bad Request\r\n\r\n")
        connection.close()
        assert_refused(end_of(process), "no PostgreSQL server", folder=marketplace.folder)


@pytest.mark.parametrize("change", [{"PASSWORD": "wr0ng:p@ss"}, {"USER": "nobody_known"}])
def test_a_wrong_password_or_user(marketplace, change):
    marketplace.write_credentials(**change)
    start = time.monotonic()
    result = marketplace.download()
    assert time.monotonic() - start < 25
    assert_refused(result, "refuses USER or PASSWORD", secret="wr0ng:p@ss", folder=marketplace.folder)
    assert marketplace.server.password not in result.stderr


def test_a_database_that_is_not_there(marketplace):
    marketplace.write_credentials(DATABASE="other")
    refused(marketplace, "database other", "does not exist", "check DATABASE")


def test_a_user_who_may_not_read(marketplace):
    marketplace.execute("DROP ROLE IF EXISTS visitor")
    marketplace.execute("CREATE ROLE visitor LOGIN PASSWORD 'v:s@t/'")
    marketplace.write_credentials(USER="visitor", PASSWORD="v:s@t/")
    refused(marketplace, "permission denied", "SELECT")


def test_advice_does_not_come_from_the_users_own_names(marketplace):
    """A name that holds a word of another fault, also where the server does not quote it twice."""
    marketplace.write_credentials(DATABASE="certificates")
    refused(marketplace, "does not exist", "check DATABASE")
    marketplace.write_credentials(DATABASE='x"certificate"y SSL error')
    refused(marketplace, "does not exist", "check DATABASE")
    marketplace.write_credentials(USER="dns_resolver")
    refused(marketplace, "refuses USER or PASSWORD")
    marketplace.execute(
        'DROP TABLE images; CREATE VIEW images AS SELECT 1/(id::int - 1) AS "connection refused", '
        "'1' AS id, '' AS product_id, '' AS bucket_link FROM (VALUES ('1')) AS certificates (id)"
    )
    marketplace.write_credentials()
    refused(marketplace, "division by zero", "correct that", arguments=("--tables", "images"))


@contextlib.contextmanager
def server_that_refuses(message: str, sqlstate: str):
    """The port of a server that answers each start with an error, as a proxy or pg_hba.conf does."""
    fields = f"SFATAL\0VFATAL\0C{sqlstate}\0M{message}\0\0".encode()

    def serve(listener: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = listener.accept()
                with client:
                    while client.recv(4096)[4:8] in (b"\x04\xd2\x16\x2f", b"\x04\xd2\x16\x30"):  # TLS? GSS?
                        client.sendall(b"N")
                    client.sendall(b"E" + (len(fields) + 4).to_bytes(4) + fields)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=serve, args=(listener,), daemon=True).start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)


@pytest.mark.parametrize(
    ("message", "sqlstate", "words"),
    [
        ('no pg_hba.conf entry for host "10.0.0.1", user "learner", database "m", no encryption', "28000", "SSLMODE"),
        ("SSL connection is required. Please specify SSL options and retry.", "28000", "change SSLMODE"),
        ('no pg_hba.conf entry for host "1.1.1.1", user "u", database "d", SSL encryption', "28000", "administrator"),
        ("unsupported startup parameter: options", "08P01", "take them out of DATABASE_URL and PGOPTIONS"),
        ("RDS Proxy currently doesn\u2019t support command-line options.", "0A000", "DATABASE_URL and PGOPTIONS"),
        ("sorry, too many clients already", "53300", "again later"),
        ("the database system is starting up", "57P03", "when the server is back"),
    ],
)
def test_what_a_server_or_proxy_refuses_at_the_start(message, sqlstate, words, marketplace):
    with server_that_refuses(message, sqlstate) as port:
        marketplace.write_credentials(PORT=port, SSLMODE="disable")
        refused(marketplace, words)


@pytest.mark.parametrize(
    ("sqlstate", "words"),
    [
        ("40001", "again later"),  # a replica: canceling statement due to conflict with recovery
        ("55P03", "again later"),
        ("42501", "right to SELECT"),
        ("57014", "did not answer in time"),
        ("57P01", "when the server is back"),
        ("22012", "correct that"),
    ],
)
def test_a_statement_that_ends_with_an_error(sqlstate, words, marketplace):
    """By its SQLSTATE: the message has words of other faults in it."""
    marketplace.execute(
        "CREATE FUNCTION fail() RETURNS text LANGUAGE plpgsql AS "
        f"$$ BEGIN RAISE 'certificate: Connection refused' USING ERRCODE = '{sqlstate}'; END $$; "
        "ALTER TABLE products RENAME TO old; CREATE VIEW products AS SELECT fail() AS page_id, old.id, product_name, "
        "category, product_description, price, location FROM old"
    )
    refused(marketplace, words)


def test_a_server_without_tls_is_refused_where_tls_is_asked_for(marketplace):
    marketplace.write_credentials(SSLMODE="require")
    refused(marketplace, "has no TLS", "SSLMODE")


def test_only_the_right_certificate_is_trusted(marketplace, tmp_path):
    ours, theirs = Authority(tmp_path, "ours"), Authority(tmp_path, "theirs")

    def use(port, authority, mode="verify-full"):
        marketplace.write_credentials(PORT=port, SSLMODE=mode, SSLROOTCERT=authority.certificate.name)

    with tls_proxy(ours.server_context("127.0.0.1"), marketplace.server.port) as port:
        use(port, theirs)
        refused(marketplace, "TLS certificate", "refused", "SSLROOTCERT")
        use(port, theirs, mode=None)  # an authority alone means that it is to be checked
        refused(marketplace, "TLS certificate", "refused")
        use(port, ours)
        result = marketplace.download()
        assert result.returncode == 0, result.stderr
        assert len(marketplace.table("products")) == 3
    for path in marketplace.folder.iterdir():
        path.unlink()
    with tls_proxy(ours.server_context("127.0.0.2"), marketplace.server.port) as port:
        use(port, ours)
        refused(marketplace, "TLS certificate", "127.0.0.1", "refused")


def test_a_server_killed_in_the_middle_leaves_nothing_and_the_next_run_succeeds(marketplace):
    make_products_long(marketplace, LONG)
    process = start_download(marketplace)
    wait_for(lambda: is_downloading(marketplace.folder))
    marketplace.server.kill()
    try:
        result = end_of(process)
    finally:
        marketplace.server.start()
    words = ("closed the connection", "run the command again")
    assert_refused(result, *words, secret=marketplace.server.password, folder=marketplace.folder)
    assert not (marketplace.folder / "products_table.json").exists()
    assert f"products: {LONG:,} rows" in marketplace.download("--tables", "products").stdout
    assert len(marketplace.table("products")) == LONG


def make_products_long(marketplace, rows: int) -> None:
    marketplace.execute("DROP TABLE products")
    make_long_products(marketplace, rows)


def test_a_server_that_falls_silent_in_the_middle(marketplace):
    """Its machine still acknowledges what we send, and it never cancels the statement itself."""
    make_products_long(marketplace, LONG)
    process = start_download(marketplace, "--timeout", 1)
    wait_for(lambda: is_downloading(marketplace.folder))
    backends = "SELECT pid FROM pg_stat_activity WHERE application_name = 'download_products_table'"
    pids = [pid for (pid,) in marketplace.execute(backends)]
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        result = end_of(process)
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)
    assert len(pids) == 1
    assert_refused(result, "did not answer in time", folder=marketplace.folder)


@pytest.fixture
def locked_products(marketplace):
    """Somebody else holds the lock of `products`, so that each statement on it hangs."""
    other = psycopg2.connect(
        host="127.0.0.1",
        port=marketplace.server.port,
        user=marketplace.server.user,
        password=marketplace.server.password,
        dbname=marketplace.database,
    )
    other.cursor().execute("LOCK TABLE products IN ACCESS EXCLUSIVE MODE")
    yield
    other.close()


def test_a_statement_that_hangs(marketplace, locked_products):
    refused(marketplace, "did not answer in time", "statement timeout", arguments=("--timeout", 1), seconds=15)


def test_ctrl_c_ends_a_hanging_statement(marketplace, locked_products):
    process = start_download(marketplace)
    assert process.stdout.readline().startswith("source: ")
    waiting = "SELECT 1 FROM pg_locks WHERE NOT granted AND database = (SELECT oid FROM pg_database WHERE datname = {})"
    wait_for(lambda: marketplace.execute(waiting.format(f"'{marketplace.database}'")))
    start = time.monotonic()
    process.send_signal(signal.SIGINT)
    result = end_of(process)
    assert time.monotonic() - start < 5
    assert result.returncode == 130 and "Traceback" not in result.stderr and "Ctrl-C" in result.stderr
    assert not list(marketplace.folder.rglob("*.partial"))


def test_a_killed_download_leaves_the_earlier_table_whole(marketplace):
    marketplace.download()
    before = (marketplace.folder / "products_table.json").read_bytes()
    make_products_long(marketplace, LONG)
    process = start_download(marketplace, "--force")
    wait_for(lambda: is_downloading(marketplace.folder))
    process.kill()
    assert end_of(process).returncode == -signal.SIGKILL
    assert (marketplace.folder / "products_table.json").read_bytes() == before
    make_long_products(marketplace, 2)
    assert "products: 2 rows" in marketplace.download("--tables", "products", "--force").stdout
    assert len(list(marketplace.folder.glob(".*.partial"))) == 1, "it may belong to another run for a day"
