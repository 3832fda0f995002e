"""Credentials and sources: each mistake in the file is named, nothing in it is run, and no secret is shown."""

import re
from pathlib import Path

import pytest
import sqlalchemy
import yaml
from marketplace_database import SCRIPT, assert_refused
from repository import ROOT, run_script
from sqlalchemy.exc import OperationalError

from marketplace.data_folder import UserError
from marketplace.database_source import (
    Source,
    explain,
    read_credentials,
    source_from_credentials,
    source_from_url,
    without_password,
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
    if text is None:
        keys = {key: value for key, value in (KEYS | changes).items() if value is not None}
        text = yaml.safe_dump(keys)
    path = folder / "credentials.yaml"
    path.write_text(text, encoding="utf-8")
    path.chmod(0o600)
    return path


def test_the_keys_become_a_url(tmp_path):
    source = source_from_credentials(write(tmp_path))
    url = source.url
    assert (url.drivername, url.host, url.port) == ("postgresql+psycopg2", "db.example.com", 5433)
    assert (url.username, url.password, url.database) == ("learner", "p@ss/%:#w", "marketplace")
    assert source.identity == {"host": "db.example.com", "port": 5433, "database": "marketplace"}
    assert url.query == {}


def test_keys_left_blank_have_their_defaults(tmp_path):
    assert source_from_credentials(write(tmp_path, PORT="", DBAPI="", DATABASE_TYPE="")).url.port == 5432


def test_older_names_and_missing_optional_keys_are_taken(tmp_path):
    names = {"HOST": "old.example.com", "DBUSER": "old", "DBPASSWORD": "0123"}
    left_out = dict.fromkeys(("ENDPOINT", "USER", "PASSWORD", "PORT", "DBAPI", "DATABASE_TYPE"))
    url = source_from_credentials(write(tmp_path, **names, **left_out)).url
    assert (url.host, url.username, url.password, url.port) == ("old.example.com", "old", "0123", 5432)


@pytest.mark.parametrize("value", ["0123", "1e5", "yes", "null", "~", "2022-02-26", "1_000", "0x1F", "[a", "{", "# x"])
def test_a_password_is_text_whatever_it_looks_like(value, tmp_path):
    quoted = f"'{value}'" if value[0] in "[{#" else value
    text = yaml.safe_dump(KEYS | {"PASSWORD": "x"}).replace("PASSWORD: x", f"PASSWORD: {quoted}")
    assert source_from_credentials(write(tmp_path, text)).url.password == value


@pytest.mark.parametrize("key", ["ENDPOINT", "USER", "PASSWORD", "DATABASE"])
@pytest.mark.parametrize("value", [None, ""])
def test_a_missing_or_empty_key_is_named(key, value, tmp_path):
    with pytest.raises(UserError, match=rf"^{key} is missing in the credentials file .*: add it"):
        source_from_credentials(write(tmp_path, **{key: value}))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"PORT": "five"}, "PORT in the credentials file"),
        ({"PORT": "-1"}, "not a number from 1 to 65535"),
        ({"PORT": "0"}, "not a number from 1 to 65535"),
        ({"PORT": "65536"}, "not a number from 1 to 65535"),
        ({"PORT": "5432.5"}, "not a number from 1 to 65535"),
        ({"PORT": "٥٤٣٢"}, "not a number from 1 to 65535"),
        ({"DATABASE_TYPE": "mysql"}, "DATABASE_TYPE"),
        ({"DBAPI": "pg8000"}, "DBAPI"),
        ({"SSL_MODE": "verify-full"}, "key SSL_MODE .* is unknown: did you mean SSLMODE"),
        ({"sslrootcrt": "ca.pem"}, "key SSLROOTCRT .* did you mean SSLROOTCERT"),
        ({"SCHEMA": "market"}, "key SCHEMA .* is unknown"),
        ({"SSLMODE": ""}, "SSLMODE .* verify-full"),
        ({"SSLMODE": "please"}, "SSLMODE .* verify-full"),
        ({"SSLROOTCERT": "nowhere.pem"}, "SSLROOTCERT .*nowhere.pem, which does not exist"),
    ],
)
def test_a_wrong_value_is_named(changes, words, tmp_path):
    with pytest.raises(UserError, match=words) as refusal:
        source_from_credentials(write(tmp_path, **changes))
    assert KEYS["PASSWORD"] not in str(refusal.value)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "is empty"),
        ("# only a comment\n", "is empty"),
        ("---\n", "is empty"),
        ("- USER\n- s3cret\n", "is not a list of KEY: value"),
        ("s3cret", "is not a list of KEY: value"),
        ("PASSWORD: [s3cret]\n", "is not a list of KEY: value"),
        ("[a]: s3cret\n", "is not"),
        ("USER: a\nPASSWORD: 's3cret\n", "is not plain YAML"),
        ("USER: a\n\tPASSWORD: s3cret\n", "is not plain YAML in line 2"),
        ("PASSWORD: %s3cret\n", "is not plain YAML in line 1"),
        ("USER: &a [*a]\nPASSWORD: s3cret", "is not"),
        ("PASSWORD: s3cret\nUSER: *nobody\n", "is not plain YAML in line 2"),
        ("PASSWORD: !!binary s3cret*\n", "is not plain YAML"),
        ("USER: s3cret\x07\n", "is not plain YAML"),
        ("USER: a\nPASSWORD:s3cret:\nDATABASE: d\n", "has a line that is not KEY: value"),
        ("{USER: a, PASSWORD:s3cret, DATABASE: d}", "has a line that is not KEY: value"),
    ],
)
def test_a_file_that_is_not_plain_yaml(text, words, tmp_path):
    with pytest.raises(UserError, match=words) as refusal:
        read_credentials(write(tmp_path, text))
    assert "s3cret" not in str(refusal.value)


@pytest.mark.parametrize("tag", ["object/apply:os.mkdir", "object/new:os.mkdir", "object/apply:pathlib.Path.mkdir"])
def test_a_tag_that_would_make_an_object_is_refused_and_not_run(tag, tmp_path):
    trap = tmp_path / "trap"
    path = write(tmp_path, f"USER: a\nPASSWORD: !!python/{tag} ['{trap}']\n")
    with pytest.raises(UserError, match="is not plain YAML in line 2"):
        read_credentials(path)
    assert not trap.exists()


def test_bytes_that_are_no_text(tmp_path):
    path = write(tmp_path, "")
    path.write_bytes(b"PASSWORD: \xff\xfe\n")
    with pytest.raises(UserError, match="is not UTF-8 text"):
        read_credentials(path)


@pytest.mark.parametrize(("mode", "warned"), [(0o600, False), (0o400, False), (0o640, True), (0o604, True)])
def test_a_file_that_others_can_read_gets_a_warning(mode, warned, tmp_path, capsys):
    path = write(tmp_path)
    path.chmod(mode)
    read_credentials(path)
    printed = capsys.readouterr()
    assert printed.out == ""
    assert bool(re.fullmatch(rf"warning: {path} can be read by others: run chmod 600 {path}\n", printed.err)) == warned


def test_the_script_says_it_in_one_sentence(tmp_path):
    missing = run_script(SCRIPT, "--data-dir", tmp_path, "--credentials", tmp_path / "nowhere.yaml")
    assert_refused(missing, "nowhere.yaml is missing", "credentials.yaml.example")
    folder = run_script(SCRIPT, "--data-dir", tmp_path, "--credentials", tmp_path)
    assert_refused(folder, f"{tmp_path} cannot be used")
    path = write(tmp_path, "PASSWORD: !!python/object/apply:os.system ['echo s3cret']\n")
    path.chmod(0o644)
    tagged = run_script(SCRIPT, "--data-dir", tmp_path, "--credentials", path)
    assert_refused(tagged, "is not plain YAML", secret="s3cret")
    assert tagged.stderr.startswith("warning: ")


def test_the_example_file_has_the_keys(tmp_path):
    example = (ROOT / "credentials.yaml.example").read_text(encoding="utf-8")
    keys = read_credentials(write(tmp_path, example))
    assert list(keys) == list(KEYS)
    with_tls = read_credentials(write(tmp_path, re.sub(r"(?m)^# (SSL\w+:)", r"\1", example)))
    assert list(with_tls) == [*KEYS, "SSLMODE", "SSLROOTCERT"]
    assert source_from_credentials(write(tmp_path, example)).url.port == 5432


@pytest.mark.parametrize("scheme", ["postgresql", "postgres", "postgresql+psycopg2", "postgresql+psycopg"])
def test_every_way_to_write_a_postgresql_url_is_taken(scheme):
    url = source_from_url(f"{scheme}://learner:p%40ss%2F%25%3A%23w@db.example.com/m?sslmode=require").url
    assert (url.drivername, url.password, url.port) == ("postgresql+psycopg2", "p@ss/%:#w", 5432)
    assert url.query == {"sslmode": "require"}


def test_a_password_in_a_message_of_the_driver_is_replaced():
    url = sqlalchemy.URL.create("postgresql+psycopg2", "u", "p@ss/%:#w", "h", 5432, "d")
    written = url.render_as_string(hide_password=False)
    assert "p%40ss" in written
    for text in ("dsn: password='p@ss/%:#w'", written, "postgresql://u:p%40ss%2F%25%3A%23w@h"):
        replaced = without_password(text, url)
        assert "***" in replaced and "ss/" not in replaced and "p%40ss" not in replaced
    error = OperationalError("SELECT", {}, Exception("strange fault with p@ss/%:#w inside\nsecond line"))
    sentence = str(explain(error, Source(url, "test")))
    assert sentence == (
        "the PostgreSQL database d at h:5432 cannot be read (strange fault with *** inside): "
        "correct that and run the command again."
    )
