"""Where the tables come from: CSV files or the database, its address and credentials, and the rows of a table.

Used by download_products_table.py. A database is PostgreSQL, reached through psycopg2, or a SQLite file.
"""

import contextlib
import functools
import json
import os
import select
import sqlite3
import stat
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg2.extensions
import sqlalchemy
import yaml
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from marketplace.csv_source import KEYS, CsvFiles, column_names, csv_in_folder, record
from marketplace.data_folder import DataFolder, UserError, first_line
from marketplace.listing_text import key_text

CONNECT_SECONDS = 10
ROWS_AT_ONCE = 500
CREDENTIALS_KEYS = {  # and libpq's names of them; the first four are needed
    "ENDPOINT": "host",
    "USER": "user",
    "PASSWORD": "password",
    "DATABASE": "dbname",
    "PORT": "port",
    "SSLMODE": "sslmode",
    "SSLROOTCERT": "sslrootcert",
    "DATABASE_TYPE": None,
    "DBAPI": None,
}
OLDER_NAMES = {"HOST": "ENDPOINT", "DBUSER": "USER", "DBPASSWORD": "PASSWORD"}
NO_SOURCE = (
    "no source of tables: put products.csv and images.csv into the data folder, or copy credentials.yaml.example to "
    "credentials.yaml and fill it in, or run python make_sample_marketplace.py and give --data-dir data/sample."
)
JOURNAL = "it keeps a journal (WAL), so copy it, with its -wal file, to a folder that may be written to"
ADVICE = {  # by the beginning of PostgreSQL's SQLSTATE, which errors of the connection have not; the first that fits
    "42501": "ask for the right to SELECT all of its rows",
    "42P01": "check DATABASE; of another schema set PGOPTIONS='-c search_path=SCHEMA' and have its USAGE",
    "SQLITE_CANTOPEN": JOURNAL,
    "SQLITE_READONLY": JOURNAL,
    "40": "run the command again later",  # a conflict with another transaction
    "53": "run the command again later",  # too many connections
    "57": "run the command again later",  # cancelled, or the server shuts down
    "no SQLSTATE": "check ENDPOINT, PORT, USER, PASSWORD, DATABASE and SSLMODE, and that the server runs",
    "": "correct that, and run the command again",
}


@dataclass(frozen=True)
class Database:
    """A database; `place` names it in words, `found_in` says where its address was found.

    `identity` goes into the report: where it has changed, a table is downloaded again. It has no user and no password.
    """

    engine: sqlalchemy.Engine
    place: str
    found_in: str
    identity: dict[str, Any]
    password: str = ""

    def rows(self, table: str) -> Iterator[str]:
        """The rows of `table`, each as the text of a JSON object, a few in memory at a time; ids are texts.

        PostgreSQL makes the JSON itself: times in ISO 8601, and as text what JSON has no type for. Raises UserError
        when the table cannot be read, lacks a column, or has rows that the server would hide.
        """
        target = sqlalchemy.table(table)
        query = sqlalchemy.select(sqlalchemy.text("*")).select_from(target)
        postgresql = self.engine.name == "postgresql"
        with self._connection(table) as connection:
            if postgresql:
                connection.execute(sqlalchemy.text("SET LOCAL row_security = off"))  # an error, where it hides rows
            headers = list(connection.execute(query.limit(0)).keys())
            names = column_names(headers, table, self.place)
            if postgresql:
                columns: dict[str, Any] = dict(zip(names, map(sqlalchemy.column, headers), strict=True))
                columns |= {name: sqlalchemy.cast(columns[name], sqlalchemy.Text) for name in KEYS if name in names}
                labelled = [column.label(name) for name, column in columns.items()]
                inner = sqlalchemy.select(*labelled).select_from(target).subquery()
                as_json = sqlalchemy.cast(sqlalchemy.func.row_to_json(inner.table_valued()), sqlalchemy.Text)
                query = sqlalchemy.select(as_json, *(inner.c[name] for name in KEYS if name in names))
            for row in connection.execution_options(yield_per=ROWS_AT_ONCE).execute(query):
                if not postgresql:
                    yield record(dict(zip(names, row, strict=True)))
                    continue
                text, *keys = row
                yield text if keys == list(map(key_text, keys)) else record(json.loads(text))

    @contextlib.contextmanager
    def _connection(self, table: str) -> Iterator[sqlalchemy.Connection]:
        """A connection; an error of the database becomes a UserError with the first line of the driver's message."""
        try:
            with self.engine.connect() as connection:
                yield connection
        except (SQLAlchemyError, psycopg2.Error, sqlite3.Error, UnicodeDecodeError) as error:
            cause = getattr(error, "orig", None) or error
            state = str(getattr(cause, "pgcode", None) or getattr(cause, "sqlite_errorname", "no SQLSTATE"))
            advice = next(text for beginning, text in ADVICE.items() if state.startswith(beginning))
            reason = first_line(cause)
            if not self.password.isalpha():  # a word that the message may have by chance
                reason = reason.replace(self.password or "\n", "***")
            if state == "42P01":
                inspector = sqlalchemy.inspect(self.engine)
                schemas = [schema for schema in inspector.get_schema_names() if inspector.has_table(table, schema)]
                reason += f"; schemas with a table of that name: {', '.join(schemas) or 'none'}"
            raise UserError(f"{self.place} cannot be read ({reason}): {advice}.") from None


def find_source(folder: DataFolder, credentials: Path | None = None, timeout: float = 60) -> Database | CsvFiles:
    """The first that exists of: `credentials`, marketplace.db, products.csv, DATABASE_URL, ./credentials.yaml.

    `timeout` is the longest silence of a server in seconds. Raises UserError when there is none or it is not usable.
    """
    if credentials is not None:
        return database_from_credentials(credentials, timeout)
    if folder.database.exists():
        return sqlite_database(folder.database, "data folder")
    if "products" in (csv_files := csv_in_folder(folder.path)).paths:
        return csv_files
    if os.environ.get("DATABASE_URL"):
        return database_from_url(os.environ["DATABASE_URL"], timeout)
    if Path("credentials.yaml").exists():
        return database_from_credentials(Path("credentials.yaml"), timeout)
    raise UserError(NO_SOURCE)


def sqlite_database(path: Path, found_in: str) -> Database:
    """A SQLite file, opened to read only. Times, which SQLite keeps as text, become ISO 8601."""
    if not path.is_file():
        raise UserError(f"the SQLite database {path} of {found_in} is missing: check the path.")
    for kind in ("DATE", "DATETIME", "TIMESTAMP"):
        sqlite3.register_converter(kind, lambda time: (time[:10] + time[10:].replace(b" ", b"T", 1)).decode())

    def connect() -> sqlite3.Connection:
        file = f"{path.resolve().as_uri()}?mode=ro"
        connection = sqlite3.connect(file, uri=True, detect_types=sqlite3.PARSE_DECLTYPES)
        connection.text_factory = functools.partial(str, encoding="utf-8", errors="surrogateescape")
        return connection

    files = [path, path.with_name(f"{path.name}-wal")]  # what was written and not yet merged
    times = [file.stat().st_mtime_ns for file in files if file.exists()]
    identity = {"database": str(path.resolve()), "modified": max(times)}
    engine = sqlalchemy.create_engine("sqlite://", creator=connect)
    return Database(engine, f"the SQLite database {path}", found_in, identity)


def postgresql_database(parameters: dict[str, Any], found_in: str, timeout: float) -> Database:
    """A PostgreSQL database by libpq's connection parameters."""
    psycopg2.extensions.set_wait_callback(_waiter(timeout))
    parameters = {"port": "5432", "client_encoding": "UTF8"} | parameters
    engine = sqlalchemy.create_engine("postgresql+psycopg2://", connect_args=parameters)
    identity = {"host": parameters["host"], "port": str(parameters["port"]), "database": parameters["dbname"]}
    place = "the PostgreSQL database {database} at {host}:{port}".format(**identity)
    return Database(engine, place, found_in, identity, parameters.get("password", ""))


def _waiter(timeout: float):
    """How psycopg2 waits: a silence of `timeout` seconds is an error, and Ctrl-C works, which it otherwise does not."""

    def wait(connection) -> None:
        while (state := connection.poll()) != psycopg2.extensions.POLL_OK:
            connecting = connection.status == psycopg2.extensions.STATUS_SETUP
            seconds = min(timeout, CONNECT_SECONDS) if connecting else timeout
            reading, writing = ([connection], []) if state == psycopg2.extensions.POLL_READ else ([], [connection])
            if not any(select.select(reading, writing, [], seconds)):
                raise psycopg2.OperationalError(f"no answer for {seconds:g} seconds")

    return wait


def database_from_url(text: str, timeout: float) -> Database:
    """The database of DATABASE_URL. Raises UserError, never with the URL, because the password is in it."""
    try:
        url = sqlalchemy.make_url(text)
        parameters = url.translate_connect_args(username="user", database="dbname") | dict(url.query)
        whole = url.get_backend_name() == "sqlite" or {"host", "dbname"} <= parameters.keys()
    except (ArgumentError, ValueError):
        whole = False
    # an @ that stands unescaped in a password would show the rest of it as the host
    if not whole or "@" in f"{url.host}{url.database}":
        raise UserError(
            "DATABASE_URL is not a URL such as postgresql://USER:PASSWORD@HOST:5432/DATABASE: correct it; write "
            "special characters in the password as %40 and the like."
        )
    if url.get_backend_name() == "sqlite":
        return sqlite_database(Path(url.database or ""), "DATABASE_URL")
    if url.get_backend_name() not in ("postgresql", "postgres"):
        raise UserError(f"DATABASE_URL names the database type {url.get_backend_name()}: use postgresql or sqlite.")
    return postgresql_database(parameters, "DATABASE_URL", timeout)


def database_from_credentials(path: Path, timeout: float) -> Database:
    """The PostgreSQL database of a credentials file. A message never has a value, which may be the password."""
    keys = read_credentials(path)
    if missing := [key for key in list(CREDENTIALS_KEYS)[:4] if key not in keys]:
        raise UserError(f"{', '.join(missing)} is missing in {path}: add it, as in credentials.yaml.example.")
    if keys.get("DATABASE_TYPE", "postgresql") not in ("postgresql", "postgres"):
        raise UserError(f"DATABASE_TYPE in {path} is not postgresql: use PostgreSQL, or a SQLite file in DATABASE_URL.")
    if "SSLROOTCERT" in keys:
        authority = path.parent / Path(keys["SSLROOTCERT"]).expanduser()
        keys = {"SSLMODE": "verify-full"} | keys | {"SSLROOTCERT": str(authority)}
    parameters = {name: keys[key] for key, name in CREDENTIALS_KEYS.items() if name and key in keys}
    return postgresql_database(parameters, str(path), timeout)


def read_credentials(path: Path) -> dict[str, str]:
    """The keys that are not left blank, with their values as text; prints a warning when others can read the file."""
    if os.name == "posix" and path.stat().st_mode & (stat.S_IRGRP | stat.S_IROTH):
        print(f"warning: {path} can be read by others: run chmod 600 {path}", file=sys.stderr)
    try:
        values = yaml.load(path.read_text(encoding="utf-8"), Loader=yaml.BaseLoader)
    except (UnicodeDecodeError, yaml.YAMLError):
        values = None
    if not isinstance(values, dict) or not all(isinstance(text, str) for item in values.items() for text in item):
        values = {}
    keys = {OLDER_NAMES.get(key.upper(), key.upper()): value for key, value in values.items()}
    if not keys or keys.keys() - CREDENTIALS_KEYS.keys():
        names = ", ".join(CREDENTIALS_KEYS)
        raise UserError(f"{path} is not a list of KEY: value with the keys {names}: see credentials.yaml.example.")
    return {key: value for key, value in keys.items() if value}
