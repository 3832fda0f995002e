"""Where the tables come from: credentials, connection and, when the database fails, one sentence without a secret.

Used by download_products_table.py. A source is a PostgreSQL database, reached through psycopg2, or a SQLite file.
"""

import os
import re
import select
import sqlite3
import stat
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote, quote_plus

import psycopg2.extensions
import sqlalchemy
import yaml
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from marketplace.data_folder import DataFolder, UserError, first_line

DATABASE_ERRORS = (SQLAlchemyError, psycopg2.Error, sqlite3.Error)
CONNECT_SECONDS = 10
SSL_MODES = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")
HOW_TO_GET_A_SOURCE = (
    "no source of tables: run python make_sample_marketplace.py for the sample marketplace (then --data-dir "
    "data/sample), or copy credentials.yaml.example to credentials.yaml and fill in your database."
)
OLDER_NAMES = {"HOST": "ENDPOINT", "DBUSER": "USER", "DBPASSWORD": "PASSWORD"}

# What the driver says, and what we say instead. {cause} is the driver's own first line, {place} the database.
EXPLANATIONS = (
    (
        r"does not support SSL",
        "{place} has no TLS, which SSLMODE asks for: turn it on there, or change SSLMODE.",
    ),
    (
        r"certificate|SSL error|root\.crt",
        "the TLS certificate of {place} is refused ({cause}): check SSLMODE, SSLROOTCERT and ENDPOINT.",
    ),
    (r"invalid response to SSL", "what answers at {place} is no PostgreSQL server: check ENDPOINT and PORT."),
    (r"Connection refused", "{place} refuses the connection: check that the server runs, and ENDPOINT and PORT."),
    (r"translate host name|resolve", "{place} is unknown ({cause}): check ENDPOINT and the network."),
    (r"authentication failed|no password supplied", "{place} refuses USER or PASSWORD: check both."),
    (r"no pg_hba\.conf entry", "{place} does not let this computer in ({cause}): ask who runs the server."),
    (r"database .* does not exist", "{place} does not exist on that server: check DATABASE."),
    (r"permission denied", "{place} does not let USER read ({cause}): ask for the right to SELECT."),
    (
        r"statement timeout|silent for|timeout expired|Connection timed out",
        "{place} did not answer in time ({cause}): check ENDPOINT and PORT, try again later, or give --timeout more.",
    ),
    (
        r"closed the connection|terminating connection|connection to server was lost|shutting down|starting up|"
        r"connection already closed|Connection reset|SSL SYSCALL|not accepting connections",
        "{place} broke the connection off ({cause}): run the command again when the server is back.",
    ),
    (r"database is locked", "{place} is being written by another program: run the command again when that is done."),
    (r"not a database|malformed|disk image", "{place} is not a whole SQLite database: make it again or replace it."),
    (r"decode to UTF-8", "{place} holds text that is not UTF-8 ({cause}): mend that row."),
)


@dataclass(frozen=True)
class Source:
    """A database to read from; `identity` is what its tables' reports keep: no user, no password."""

    url: sqlalchemy.URL
    found_in: str
    file: Path | None = None
    connect_arguments: dict[str, Any] = field(default_factory=dict)

    @property
    def identity(self) -> dict[str, Any]:
        """What tells this source from another: host, port and database; for SQLite path, size and time too."""
        if self.file is None:
            return {"host": self.url.host, "port": self.url.port, "database": self.url.database}
        journal = self.file.with_name(self.file.name + "-wal")  # holds what was written but not yet merged
        stats = [path.stat() for path in (self.file, journal) if path.exists()]
        return {
            "database": str(self.file.resolve()),
            "size": sum(stat.st_size for stat in stats),
            "modified": max((stat.st_mtime_ns for stat in stats), default=0),
        }

    @property
    def place(self) -> str:
        """The database in words."""
        if self.file is not None:
            return f"the SQLite database {self.file}"
        return f"the PostgreSQL database {self.url.database} at {self.url.host}:{self.url.port}"


def find_source(folder: DataFolder, credentials: Path | None) -> Source:
    """The first that applies: `credentials`, marketplace.db, DATABASE_URL, ./credentials.yaml.

    Raises UserError when none does, or when the one that does is not usable.
    """
    if credentials is not None:
        return source_from_credentials(credentials)
    if folder.database.exists():
        return sqlite_source(folder.database, "data folder")
    if os.environ.get("DATABASE_URL"):
        return source_from_url(os.environ["DATABASE_URL"], "DATABASE_URL")
    if Path("credentials.yaml").exists():
        return source_from_credentials(Path("credentials.yaml"))
    raise UserError(HOW_TO_GET_A_SOURCE)


def sqlite_source(path: Path, found_in: str) -> Source:
    if not path.is_file():
        raise UserError(f"the SQLite database {path} of {found_in} is not there: check the path.")
    return Source(sqlalchemy.URL.create("sqlite", database=str(path)), found_in, file=path)


def source_from_url(text: str, found_in: str) -> Source:
    """A source from an SQLAlchemy URL; the URL itself never stands in a message, for it holds the password."""
    try:
        url = sqlalchemy.make_url(text)
    except (ArgumentError, ValueError):
        raise UserError(
            f"{found_in} is not a database URL such as postgresql://USER:PASSWORD@HOST:5432/DATABASE: mend it; "
            "special characters in the password are written as %40 and the like."
        ) from None
    if url.get_backend_name() == "sqlite":
        return sqlite_source(Path(url.database or ""), found_in)
    if url.get_backend_name() not in ("postgresql", "postgres"):
        raise UserError(f"{found_in} names the database type {url.get_backend_name()}: use postgresql or sqlite.")
    missing = [name for name in ("host", "username", "database") if not getattr(url, name)]
    if missing:
        raise UserError(f"{found_in} has no {', '.join(missing)}: write postgresql://USER:PASSWORD@HOST:5432/DATABASE.")
    return Source(url.set(drivername="postgresql+psycopg2", port=url.port or 5432), found_in)


class _TextLoader(yaml.SafeLoader):
    """Safe YAML whose plain values stay text, so that the password 0123 is not a number. Other tags are refused."""

    yaml_implicit_resolvers = {}


def read_credentials(path: Path) -> dict[str, str]:
    """The keys of a credentials file, older names translated; warns when others can read the file.

    Raises UserError, never with a part of the file's text, for it may be the password.
    """
    example = "write it like credentials.yaml.example"
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise UserError(f"the credentials file {path} is missing: {example}.") from None
    except UnicodeDecodeError:
        raise UserError(f"the credentials file {path} is not UTF-8 text: {example}.") from None
    if os.name == "posix" and path.stat().st_mode & (stat.S_IRGRP | stat.S_IROTH):
        print(f"warning: {path} can be read by others: run chmod 600 {path}", file=sys.stderr)
    try:
        values = yaml.load(text, Loader=_TextLoader)  # a SafeLoader: no tag makes an object
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f" in line {mark.line + 1}" if mark else ""
        raise UserError(f"the credentials file {path} is not plain YAML{where}: {example}.") from None
    if not values:
        raise UserError(f"the credentials file {path} is empty: {example}.")
    if not isinstance(values, dict) or not all(isinstance(value, str) for item in values.items() for value in item):
        raise UserError(f"the credentials file {path} is not a list of KEY: value: {example}.")
    return {OLDER_NAMES.get(key.upper(), key.upper()): value for key, value in values.items() if value}


def source_from_credentials(path: Path) -> Source:
    """A PostgreSQL source from a credentials file. Raises UserError that names the key at fault."""
    keys = read_credentials(path)
    where = f"in the credentials file {path}"
    missing = [key for key in ("ENDPOINT", "USER", "PASSWORD", "DATABASE") if key not in keys]
    if missing:
        raise UserError(f"{', '.join(missing)} is missing {where}: add it, as in credentials.yaml.example.")
    if keys.get("DATABASE_TYPE", "postgresql").lower() not in ("postgresql", "postgres"):
        raise UserError(f"DATABASE_TYPE {where} is not postgresql: this script reads PostgreSQL (and SQLite files).")
    if keys.get("DBAPI", "psycopg2") != "psycopg2":
        raise UserError(f"DBAPI {where} is not psycopg2: that is the driver this project installs.")
    port = keys.get("PORT", "5432")
    if not re.fullmatch(r"[0-9]{1,5}", port) or not 0 < int(port) < 65536:
        raise UserError(f"PORT {where} is not a number from 1 to 65535: PostgreSQL's usual one is 5432.")
    arguments = {}
    if "SSLROOTCERT" in keys:
        authority = path.parent / Path(keys["SSLROOTCERT"]).expanduser()
        if not authority.is_file():
            raise UserError(f"SSLROOTCERT {where} names {authority}, which is not there: check the path.")
        arguments = {"sslmode": "verify-full", "sslrootcert": str(authority)}
    if "SSLMODE" in keys:
        if keys["SSLMODE"] not in SSL_MODES:
            raise UserError(f"SSLMODE {where} is unknown: use one of {', '.join(SSL_MODES)}.")
        arguments["sslmode"] = keys["SSLMODE"]
    url = sqlalchemy.URL.create(
        "postgresql+psycopg2", keys["USER"], keys["PASSWORD"], keys["ENDPOINT"], int(port), keys["DATABASE"]
    )
    return Source(url, str(path), connect_arguments=arguments)


def make_engine(source: Source, timeout: float = 60) -> sqlalchemy.Engine:
    """An engine that never waits for ever: `timeout` seconds a statement, and at most 10 to connect."""
    if source.file is not None:
        # mode=ro: SQLite would otherwise make an empty database where there is none
        address = f"file:{quote(str(source.file.resolve()))}?mode=ro"
        return sqlalchemy.create_engine(source.url, creator=lambda: sqlite3.connect(address, uri=True, timeout=timeout))
    psycopg2.extensions.set_wait_callback(_waiter(min(timeout, CONNECT_SECONDS), timeout + min(timeout, 5)))
    return sqlalchemy.create_engine(
        source.url,
        isolation_level="REPEATABLE READ",  # one snapshot, whatever others write meanwhile
        hide_parameters=True,
        poolclass=sqlalchemy.NullPool,
        connect_args={
            "options": f"-c statement_timeout={int(timeout * 1000)} -c timezone=UTC -c datestyle=ISO",
            "keepalives": 1,
            "keepalives_idle": 10,
            "keepalives_interval": 5,
            "keepalives_count": 3,
            "tcp_user_timeout": int(timeout * 1000),
            "application_name": "download_products_table",
            **source.connect_arguments,
        },
    )


def _waiter(connect_seconds: float, silent_seconds: float):
    """A wait callback for psycopg2: bounds the whole connecting and every silence after it.

    The server's statement_timeout does not help when the server itself is stuck; and while the driver waits by
    itself, Ctrl-C waits with it.
    """

    def wait(connection) -> None:
        start = time.monotonic()
        connecting = connection.status == psycopg2.extensions.STATUS_SETUP
        while True:
            state = connection.poll()
            if state == psycopg2.extensions.POLL_OK:
                return
            left = connect_seconds - (time.monotonic() - start) if connecting else silent_seconds
            reading = [connection] if state == psycopg2.extensions.POLL_READ else []
            writing = [connection] if state == psycopg2.extensions.POLL_WRITE else []
            if left <= 0 or not any(select.select(reading, writing, [], left)):
                seconds = connect_seconds if connecting else silent_seconds
                raise psycopg2.OperationalError(f"silent for {seconds:g} seconds")

    return wait


def explain(error: Exception, source: Source) -> UserError:
    """A database error as one sentence: cause and remedy, without the password in whatever form."""
    original = getattr(error, "orig", None) or error
    text = " ".join(str(original).split())
    cause = re.sub(r"^connection to server (at|on) .*? failed: ", "", first_line(original).split("\n")[0])
    cause = re.sub(r"^(FATAL|ERROR):\s+", "", cause)
    explanation = next(
        (words for pattern, words in EXPLANATIONS if re.search(pattern, text, re.IGNORECASE)),
        "{place} cannot be read ({cause}): mend that and run the command again.",
    )
    return UserError(without_password(explanation.format(place=source.place, cause=cause), source.url))


def without_password(text: str, url: sqlalchemy.URL) -> str:
    """`text` with the password, and its URL-encoded forms, blotted out."""
    password = str(url.password or "")
    for form in {password, quote(password), quote(password, safe=""), quote_plus(password)} - {""}:
        text = text.replace(form, "***")
    return text
