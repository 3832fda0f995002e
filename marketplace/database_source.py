"""The database with the tables: where its address and credentials come from, the connection, and error messages.

Used by download_products_table.py. A source is a PostgreSQL database, reached through psycopg2, or a SQLite file.
"""

import difflib
import os
import re
import select
import sqlite3
import stat
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
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
KEYS = ("DATABASE_TYPE", "DBAPI", "ENDPOINT", "USER", "PASSWORD", "PORT", "DATABASE", "SSLMODE", "SSLROOTCERT")
READING_SETTINGS = {  # of the transaction, so that values do not depend on the settings of a server or user
    "timezone": "UTC",
    "datestyle": "ISO",
    "intervalstyle": "postgres",
    "bytea_output": "hex",
    "extra_float_digits": "1",
}

# SQLSTATE codes or beginnings of them, a pattern in the message of an error without SQLSTATE (libpq's and SQLite's own,
# and those of a refused connection), and our sentence. {place} is the database, {cause} the driver's first line.
EXPLANATIONS = (
    ("", "does not support SSL", "{place} has no TLS, which SSLMODE requires: enable it there, or change SSLMODE."),
    (
        "",
        r"certificate|SSL error|root\.crt",
        "the TLS certificate of {place} is refused ({cause}): check SSLMODE, SSLROOTCERT and ENDPOINT.",
    ),
    ("", "invalid response to SSL", "what answers at {place} is no PostgreSQL server: check ENDPOINT and PORT."),
    ("", "Connection refused", "{place} refuses the connection: check that the server runs, and ENDPOINT and PORT."),
    ("", "translate host name|resolve", "{place} is unknown ({cause}): check ENDPOINT and the network."),
    ("28P01", "authentication failed|no password supplied", "{place} refuses USER or PASSWORD: check both."),
    (
        "",
        r"pg_hba\.conf.*no encryption|SSL connection is required|connection is insecure",
        "{place} admits this computer only with TLS, or not at all ({cause}): change SSLMODE to require, or ask the "
        "server's administrator.",
    ),
    ("28000", r"pg_hba\.conf", "{place} does not admit this computer ({cause}): ask the server's administrator."),
    ("3D000", "database .*does not exist", "{place} does not exist on that server: check DATABASE."),
    (
        "",
        "startup parameter|command-line options",
        "{place} is behind a proxy that accepts no options ({cause}): take them out of DATABASE_URL and PGOPTIONS.",
    ),
    ("42501", "permission denied", "{place} does not let USER read ({cause}): ask for the right to SELECT."),
    ("40 53300 55P03", "too many|connection slots", "{place} is busy ({cause}): run the command again later."),
    (
        "57014",
        "silent for|timeout expired|Connection timed out",
        "{place} did not answer in time ({cause}): check ENDPOINT and PORT, try again later, or increase --timeout.",
    ),
    (
        "08 57P",
        "closed the connection|terminating connection|connection to server was lost|shutting down|starting up|"
        "connection already closed|Connection reset|SSL SYSCALL|not accepting connections",
        "{place} closed the connection ({cause}): run the command again when the server is back.",
    ),
    ("", "not a database|malformed|disk image", "{place} is not a whole SQLite database: make it again or replace it."),
    ("22021 22P05", "", "{place} holds text that is not UTF-8 ({cause}): correct that row."),
)


@dataclass(frozen=True)
class Source:
    """A database to read from; `found_in` is where its address was found, `file` the path of a SQLite database."""

    url: sqlalchemy.URL
    found_in: str
    file: Path | None = None

    @property
    def identity(self) -> dict[str, Any]:
        """Host, port, database and options, for SQLite path, size and time: if they differ, the tables are read again.

        It is kept in the report, so it has no user and no password.
        """
        if self.file is None:
            options = self.url.query.get("options") or os.environ.get("PGOPTIONS")  # a search_path, say
            address = {"host": self.url.host, "port": self.url.port, "database": self.url.database}
            return address | ({"options": options} if options else {})
        journal = self.file.with_name(f"{self.file.name}-wal")  # what was written but not yet merged
        stats = [path.stat() for path in (self.file, journal) if path.exists()]
        size, modified = sum(stat.st_size for stat in stats), max((stat.st_mtime_ns for stat in stats), default=0)
        return {"database": str(self.file.resolve()), "size": size, "modified": modified}

    @property
    def place(self) -> str:
        """The database in words."""
        if self.file is not None:
            return f"the SQLite database {self.file}"
        return f"the PostgreSQL database {self.url.database} at {self.url.host}:{self.url.port}"


def find_source(folder: DataFolder, credentials: Path | None) -> Source:
    """The first that exists of: `credentials`, marketplace.db, DATABASE_URL, ./credentials.yaml.

    Raises UserError when there is none, or when the first is not usable.
    """
    if credentials is not None:
        return source_from_credentials(credentials)
    if folder.database.exists():
        return sqlite_source(folder.database, "data folder")
    if os.environ.get("DATABASE_URL"):
        return source_from_url(os.environ["DATABASE_URL"])
    if Path("credentials.yaml").exists():
        return source_from_credentials(Path("credentials.yaml"))
    raise UserError(HOW_TO_GET_A_SOURCE)


def sqlite_source(path: Path, found_in: str) -> Source:
    """A SQLite file as source. Raises UserError when it is missing."""
    if not path.is_file():
        raise UserError(f"the SQLite database {path} of {found_in} is missing: check the path.")
    return Source(sqlalchemy.URL.create("sqlite", database=str(path)), found_in, file=path)


def source_from_url(text: str) -> Source:
    """The source of DATABASE_URL. Raises UserError, never with the URL, because the password is in it."""
    example = "postgresql://USER:PASSWORD@HOST:5432/DATABASE"
    parts = {"host": "host", "port": "port", "username": "user", "password": "password", "database": "dbname"}
    try:
        text.encode()  # a byte that is no UTF-8 would end up in a message
        url = sqlalchemy.make_url(text)
        for part, parameter in parts.items():  # libpq takes them as parameters, too, and prefers those
            if isinstance(value := url.query.get(parameter), str):
                url = url.set(**{part: value}).difference_update_query([parameter])  # type: ignore[arg-type]
        port = int(url.port or 5432)
        if "@" in f"{url.host}{url.database}":  # of a password; else a part of it would be shown as the host
            raise ValueError
    except (ArgumentError, ValueError):
        raise UserError(
            f"DATABASE_URL is not a database URL such as {example}: correct it; special characters in the password "
            "are written as %40 and the like."
        ) from None
    if url.get_backend_name() == "sqlite":
        return sqlite_source(Path(url.database or ""), "DATABASE_URL")
    if url.get_backend_name() not in ("postgresql", "postgres"):
        raise UserError(f"DATABASE_URL names the database type {url.get_backend_name()}: use postgresql or sqlite.")
    missing = [name for name in ("host", "username", "database") if not getattr(url, name)]
    if missing:
        raise UserError(f"DATABASE_URL has no {', '.join(missing)}: write {example}.")
    return Source(url.set(drivername="postgresql+psycopg2", port=port), "DATABASE_URL")


class _TextLoader(yaml.SafeLoader):
    """Safe YAML in which every plain value is text, so that the password 0123 is no number."""

    yaml_implicit_resolvers: dict = {}


def read_credentials(path: Path) -> dict[str, str]:
    """The keys and values of a credentials file; prints a warning when other users can read the file.

    Raises UserError, never with a value of the file, for that may be the password.
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
        values = yaml.load(text, Loader=_TextLoader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f" in line {mark.line + 1}" if mark else ""
        raise UserError(f"the credentials file {path} is not plain YAML{where}: {example}.") from None
    if not values:
        raise UserError(f"the credentials file {path} is empty: {example}.")
    if not isinstance(values, dict) or not all(isinstance(value, str) for item in values.items() for value in item):
        raise UserError(f"the credentials file {path} is not a list of KEY: value: {example}.")
    keys = {OLDER_NAMES.get(key.upper(), key.upper()): value for key, value in values.items()}
    for key in keys.keys() - set(KEYS):
        if not re.fullmatch("[A-Z_]+", key):  # `PASSWORD:secret` without a blank is a key: it must not be shown
            raise UserError(f"the credentials file {path} has a line that is not KEY: value: {example}.")
        nearest = difflib.get_close_matches(key, KEYS, n=1, cutoff=0)[0]
        raise UserError(f"the key {key} in the credentials file {path} is unknown: did you mean {nearest}?")
    # a key left blank has its default; not so those of TLS, which would be switched off in silence
    return {key: value for key, value in keys.items() if value or key.startswith("SSL")}


def source_from_credentials(path: Path) -> Source:
    """A PostgreSQL source from a credentials file. Raises UserError that names the wrong key."""
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
    query = {}
    if "SSLROOTCERT" in keys:
        authority = path.parent / Path(keys["SSLROOTCERT"]).expanduser()
        if not authority.is_file():
            raise UserError(f"SSLROOTCERT {where} names {authority}, which does not exist: check the path.")
        query = {"sslmode": "verify-full", "sslrootcert": str(authority)}
    if "SSLMODE" in keys:
        if keys["SSLMODE"] not in SSL_MODES:
            raise UserError(f"SSLMODE {where} is unknown: use one of {', '.join(SSL_MODES)}.")
        query["sslmode"] = keys["SSLMODE"]
    url = sqlalchemy.URL.create(
        "postgresql+psycopg2", keys["USER"], keys["PASSWORD"], keys["ENDPOINT"], int(port), keys["DATABASE"], query
    )
    return Source(url, str(path))


def make_engine(source: Source, timeout: float = 60) -> sqlalchemy.Engine:
    """An engine with time limits: `timeout` seconds for a statement, and at most 10 to connect."""
    if source.file is not None:
        # mode=ro: SQLite would otherwise create an empty database where there is none
        address = f"file:{quote(str(source.file.resolve()))}?mode=ro"

        def connect() -> sqlite3.Connection:
            connection = sqlite3.connect(address, uri=True, timeout=timeout)
            connection.text_factory = lambda text: text.decode("utf-8", "surrogateescape")  # SQLite checks no text
            return connection

        return sqlalchemy.create_engine(source.url, creator=connect)
    psycopg2.extensions.set_wait_callback(_waiter(min(timeout, CONNECT_SECONDS), timeout + min(timeout, 5)))
    engine = sqlalchemy.create_engine(
        source.url,
        hide_parameters=True,
        poolclass=sqlalchemy.NullPool,
        connect_args={"client_encoding": "UTF8", "application_name": "download_products_table"},
    )
    settings = READING_SETTINGS | {"statement_timeout": str(int(timeout * 1000))}
    calls = [sqlalchemy.func.set_config(name, value, True) for name, value in settings.items()]

    # Of the transaction, because proxies (PgBouncer, RDS Proxy) refuse settings in the start-up packet and keep none of
    # a session; and so that `options` of DATABASE_URL or PGOPTIONS, such as a search_path, stay in force.
    @sqlalchemy.event.listens_for(engine, "begin")
    def change_settings(connection: sqlalchemy.Connection) -> None:
        connection.execute(sqlalchemy.select(*calls))

    return engine


def _waiter(connect_seconds: float, silent_seconds: float) -> Callable:
    """A wait callback for psycopg2 that limits the whole time to connect, and each silence of the server after it.

    A server that hangs does not cancel the statement by its own statement_timeout. Without a wait callback Ctrl-C has
    no effect while the driver waits.
    """

    def wait(connection) -> None:
        connecting = connection.status == psycopg2.extensions.STATUS_SETUP
        limit = connect_seconds if connecting else silent_seconds
        deadline = time.monotonic() + limit
        while (state := connection.poll()) != psycopg2.extensions.POLL_OK:
            seconds = max(0, deadline - time.monotonic()) if connecting else limit
            reading = [connection] if state == psycopg2.extensions.POLL_READ else []
            writing = [connection] if state == psycopg2.extensions.POLL_WRITE else []
            if not any(select.select(reading, writing, [], seconds)):
                raise psycopg2.OperationalError(f"silent for {limit:g} seconds")

    return wait


def explain(error: Exception, source: Source) -> UserError:
    """A database error as one sentence of cause and remedy, without the password."""
    original = getattr(error, "orig", None) or error
    cause = re.sub(r"^connection to server (at|on) .*? failed: ", "", first_line(original))
    cause = re.sub(r"^(FATAL|ERROR):\s+", "", cause)
    # the user's own names are not searched for words: a database may be called certificates
    text = str(original)
    for name in (source.url.database, source.url.username, source.url.host):
        text = text.replace(f'"{name}"', "")
    text = re.sub(r'"[^"]*"', "", " ".join(text.split()))
    state = getattr(original, "pgcode", None)
    explanation = "{place} cannot be read ({cause}): correct that and run the command again."
    for states, pattern, sentence in EXPLANATIONS:
        if state.startswith(tuple(states.split())) if state else pattern and re.search(pattern, text, re.IGNORECASE):
            explanation = sentence
            break
    return UserError(without_password(explanation.format(place=source.place, cause=cause), source.url))


def without_password(text: str, url: sqlalchemy.URL) -> str:
    """`text` with *** for the password and its URL-encoded forms."""
    password = str(url.password or "")
    for form in {password, quote(password), quote(password, safe=""), quote_plus(password)} - {""}:
        text = text.replace(form, "***")
    return text
