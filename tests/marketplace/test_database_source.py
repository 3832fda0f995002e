"""Credentials and URLs: a mistake in them is refused, nothing in a file is run, and no secret is shown."""

import re
from pathlib import Path

import psycopg2
import pytest
import sqlalchemy
import yaml
from marketplace_database import SCRIPT, assert_refused
from repository import ROOT, run_script

from marketplace.data_folder import UserError
from marketplace.database_source import (
    CREDENTIALS_KEYS,
    Database,
    database_from_credentials,
    database_from_url,
    read_credentials,
)

KEYS = {
    "DATABASE_TYPE": "postgresql",
    "DBAPI": "psycopg2",
    "ENDPOINT": "db.example.com",
    "USER": "learner",
    "PASSWORD": "p@ss/%:#w",
    "PORT": "5433",
    "DATABASE": "marketplace",
}


def write(folder: Path, text: str | None = None, **changes: str | None) -> Path:
    """A private credentials file with `text`, or with KEYS and `changes` (None leaves a key out)."""
    path = folder / "credentials.yaml"
    keys = {key: value for key, value in (KEYS | changes).items() if value is not None}
    path.write_text(yaml.safe_dump(keys) if text is None else text, encoding="utf-8")
    path.chmod(0o600)
    return path


def parameters(database: Database, message: str = "no server") -> dict:
    """What the driver gets to connect; it then fails with `message`, and the sentence about that is at "error"."""
    given: dict = {}

    def connect(dialect, record, arguments, parameters):
        given.update(parameters)
        raise psycopg2.OperationalError(message)

    sqlalchemy.event.listen(database.engine, "do_connect", connect)
    with pytest.raises(UserError) as refusal:
        next(database.rows("products"))
    return given | {"error": str(refusal.value)}


def of_file(path: Path, **options) -> dict:
    return parameters(database_from_credentials(path, 60), **options)


def test_the_keys_become_parameters_of_the_connection(tmp_path):
    given = of_file(write(tmp_path))
    assert (given["host"], given["port"], given["user"]) == ("db.example.com", "5433", "learner")
    assert (given["password"], given["dbname"]) == ("p@ss/%:#w", "marketplace")
    assert "sslmode" not in given
    identity = database_from_credentials(tmp_path / "credentials.yaml", 60).identity
    assert identity == {"host": "db.example.com", "port": "5433", "database": "marketplace"}


def test_older_names_are_taken_and_blank_keys_have_their_defaults(tmp_path):
    names = {"HOST": "old.example.com", "dbuser": "old", "DBPASSWORD": "0123"}
    given = of_file(write(tmp_path, **names, **dict.fromkeys(("ENDPOINT", "USER", "PASSWORD", "DBAPI")), PORT=""))
    assert [given[name] for name in ("host", "user", "password", "port")] == ["old.example.com", "old", "0123", "5432"]


def test_an_authority_is_found_beside_the_file_and_means_verify_full(tmp_path):
    given = of_file(write(tmp_path, SSLROOTCERT="ca.pem"))
    assert (given["sslmode"], given["sslrootcert"]) == ("verify-full", str(tmp_path / "ca.pem"))
    assert of_file(write(tmp_path, SSLROOTCERT="/ca.pem", SSLMODE="verify-ca"))["sslmode"] == "verify-ca"


@pytest.mark.parametrize("value", ["0123", "1e5", "yes", "null", "~", "2022-02-26", "0x1F", "'[a'", "'# x'"])
def test_a_password_is_text_whatever_it_looks_like(value, tmp_path):
    text = write(tmp_path).read_text().replace(yaml.safe_dump({"PASSWORD": KEYS["PASSWORD"]}), f"PASSWORD: {value}\n")
    assert of_file(write(tmp_path, text))["password"] == value.strip("'")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"ENDPOINT": None, "USER": ""}, r"^ENDPOINT, USER is missing in .*: add it"),
        ({"DATABASE_TYPE": "mysql"}, "DATABASE_TYPE in .* is not postgresql"),
        ({"SSL_MODE": "verify-full"}, "with the keys .*SSLMODE, SSLROOTCERT"),
    ],
)
def test_a_wrong_key_or_type_is_refused(changes, words, tmp_path):
    with pytest.raises(UserError, match=words):
        database_from_credentials(write(tmp_path, **changes), 60)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "# only a comment\n",
        "- USER\n- s3cret\n",
        "s3cret",
        "PASSWORD: [s3cret]\n",
        "USER: a\nPASSWORD: 's3cret\n",
        "USER: a\n\tPASSWORD: s3cret\n",
        "PASSWORD: %s3cret\n",
        "USER: &a [*a]\nPASSWORD: s3cret",
        "{USER: a, PASSWORD:s3cret, DATABASE: d}",
        "PASSWORD: !!python/object/apply:os.mkdir [s3cret]\n",
        b"PASSWORD: s3cret\xff\xfe\n",
    ],
)
def test_a_file_that_is_not_key_and_value_is_refused_and_nothing_in_it_is_run(text, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = write(tmp_path, "")
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(UserError, match="is not a list of KEY: value") as refusal:
        read_credentials(path)
    assert "s3cret" not in str(refusal.value)
    assert not Path("s3cret").exists()


def test_the_script_warns_and_refuses_in_one_sentence(tmp_path):
    missing = run_script(SCRIPT, "--data-dir", tmp_path, "--credentials", tmp_path / "nowhere.yaml")
    assert_refused(missing, "nowhere.yaml cannot be used (No such file or directory)")
    path = write(tmp_path, "PASSWORD:s3cret")
    path.chmod(0o640)
    refused = run_script(SCRIPT, "--data-dir", tmp_path, "--credentials", path)
    assert_refused(refused, "is not a list of KEY: value", secret="s3cret")
    assert refused.stderr.startswith(f"warning: {path} can be read by others: run chmod 600 {path}\n")


def test_the_example_file_has_the_keys(tmp_path):
    example = (ROOT / "credentials.yaml.example").read_text(encoding="utf-8")
    assert list(read_credentials(write(tmp_path, example))) == list(KEYS)
    with_tls = re.sub(r"(?m)^# (SSL\w+:)", r"\1", example)
    assert read_credentials(write(tmp_path, with_tls)).keys() == CREDENTIALS_KEYS.keys()


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://learner:p%40ss%2F%25%3A%23w@db.example.com/m?sslmode=require",
        "postgres://learner:p%40ss%2F%25%3A%23w@db.example.com/m?sslmode=require",
        "postgresql:///m?host=db.example.com&user=learner&password=p%40ss%2F%25%3A%23w&sslmode=require",
    ],
)
def test_a_postgresql_url(url):
    given = parameters(database_from_url(url, 60))
    assert [given[name] for name in ("host", "port", "user")] == ["db.example.com", "5432", "learner"]
    assert [given[name] for name in ("password", "dbname", "sslmode")] == ["p@ss/%:#w", "m", "require"]


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("not a url with s3cret", "DATABASE_URL is not a URL"),
        ("postgresql://user:s3cret@host:abc/database", "DATABASE_URL is not a URL"),
        ("postgresql://user:p@s3cret@host/database", "DATABASE_URL is not a URL"),
        ("postgresql://user:p@ss/s3cret@host/database", "DATABASE_URL is not a URL"),
        ("postgresql://user:s3cret@/database", "DATABASE_URL is not a URL"),
        ("mysql://user:s3cret@host/database", "database type mysql"),
        ("sqlite:////nowhere/at/all.db", "is missing"),
    ],
)
def test_a_database_url_that_is_none(url, words):
    with pytest.raises(UserError, match=words) as refusal:
        database_from_url(url, 60)
    assert "s3cret" not in str(refusal.value)


def test_a_password_in_a_message_of_the_driver_is_replaced(tmp_path):
    error = of_file(write(tmp_path), message="FATAL: strange fault with p@ss/%:#w inside\nsecond line")["error"]
    assert error == (
        "the PostgreSQL database marketplace at db.example.com:5433 cannot be read (FATAL: strange fault with *** "
        "inside): check ENDPOINT, PORT, USER, PASSWORD, DATABASE and SSLMODE, and that the server runs."
    )
