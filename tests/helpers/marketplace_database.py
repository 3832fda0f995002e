"""What the download tests share: a small marketplace in a database, and what every refused run must look like."""

import contextlib
import itertools
import json
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import sqlalchemy
from postgres_server import PostgresServer
from repository import ROOT, run_script
from sqlalchemy import BigInteger, Column, DateTime, MetaData, Table, Text

METADATA = MetaData()
TEXTS = ("id", "product_name", "category", "product_description", "price", "location")
IMAGE_TEXTS = ("id", "product_id", "bucket_link", "image_ref")
PRODUCTS = Table(
    "products",
    METADATA,
    *(Column(name, Text) for name in TEXTS),
    Column("page_id", BigInteger),
    Column("create_time", DateTime),
)
IMAGES = Table("images", METADATA, *(Column(name, Text) for name in IMAGE_TEXTS), Column("create_time", DateTime))
NUMBERS = itertools.count()
SCRIPT = ROOT / "download_products_table.py"


def product(number: int, **changes: object) -> dict:
    """A listing as the database holds it."""
    return {
        "id": f"product-{number}",
        "product_name": f"Oak chair {number} | in Wokingham, Berkshire | Gumtree",
        "category": "Home & Garden / Dining, Living Room Furniture / Chairs",
        "product_description": "A sturdy chair.",
        "price": "£1,250.00",
        "location": "Wokingham, Berkshire",
        "page_id": 1_400_000_000 + number,
        "create_time": datetime(2022, 2, 26, 10, 30, number % 60, 250_000),
    } | changes


def image(number: int) -> dict:
    return {
        "id": f"image-{number}",
        "product_id": f"product-{number}",
        "bucket_link": f"https://photos.invalid/{number}.jpg",
        "image_ref": f"ref{number}",
        "create_time": datetime(2022, 2, 26, 0, 0, 0, 500_000),
    }


def fill(url: sqlalchemy.URL | str, products: list[dict], images: list[dict]) -> None:
    """Make the two tables and put the rows in."""
    engine = sqlalchemy.create_engine(url)
    METADATA.create_all(engine)
    with engine.begin() as connection:
        for table, rows in ((PRODUCTS, products), (IMAGES, images)):
            if rows:
                connection.execute(table.insert(), rows)
    engine.dispose()


@dataclass
class Marketplace:
    """One database of the server, with a credentials file for it and an empty data folder."""

    server: PostgresServer
    database: str
    credentials: Path
    folder: Path

    @property
    def url(self) -> str:
        return self.server.url_of(self.database).render_as_string(hide_password=False)

    def execute(self, statement: str) -> list[tuple]:
        return self.server.execute(statement, self.database)

    def write_credentials(self, **changes: object) -> None:
        keys = {"DATABASE_TYPE": "postgresql", "DBAPI": "psycopg2", "ENDPOINT": self.server.host}
        keys |= {"USER": self.server.user, "PASSWORD": self.server.password, "PORT": str(self.server.port)}
        lines = [f"{key}: '{value}'\n" for key, value in (keys | {"DATABASE": self.database} | changes).items()]
        self.credentials.write_text("".join(lines), encoding="utf-8")
        self.credentials.chmod(0o600)

    def command(self, *arguments: object) -> list[str]:
        return [
            str(part) for part in (SCRIPT, "--data-dir", self.folder, "--credentials", self.credentials, *arguments)
        ]

    def download(self, *arguments: object, **options) -> subprocess.CompletedProcess:
        return run_script(*self.command(*arguments), **options)

    def table(self, name: str) -> list[dict]:
        return json.loads((self.folder / f"{name}_table.json").read_text(encoding="utf-8"))

    def make_long_products(self, rows: int) -> None:
        """Make `products` a view of `rows` rows that the server invents while it is read."""
        self.execute("DROP TABLE IF EXISTS products")
        self.execute(
            "CREATE VIEW products AS SELECT 'product-' || i AS id, 'Chair ' || i AS product_name, "
            "'Home & Garden / Chairs' AS category, repeat('A sturdy chair. ', 8) || i AS product_description, "
            "'£5.00' AS price, 'Reading, Berkshire' AS location, i AS page_id, now()::timestamp AS create_time "
            f"FROM generate_series(1, {rows}) AS i"
        )


@contextlib.contextmanager
def fresh_marketplace(server: PostgresServer, folder: Path, rows: int = 3) -> Iterator[Marketplace]:
    """A new database with `rows` products and images; it is dropped when the block ends."""
    name = f"marketplace_{next(NUMBERS)}"
    server.execute(f"CREATE DATABASE {name}")
    marketplace = Marketplace(server, name, folder / "credentials.yaml", folder / "data")
    marketplace.folder.mkdir()
    marketplace.write_credentials()
    fill(marketplace.url, [product(number) for number in range(rows)], [image(number) for number in range(rows)])
    try:
        yield marketplace
    finally:
        server.execute(f"DROP DATABASE {name} WITH (FORCE)")


def wait_for(condition: Callable[[], object], seconds: float = 60) -> None:
    """Wait until `condition()` holds; fail when it does not in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.005)


def assert_refused(result: subprocess.CompletedProcess, *words: str, secret: str = "", folder: Path | None = None):
    """The run ended with status 1 and one sentence holding `words`; no traceback, no secret, no half file."""
    lines = [line for line in result.stderr.splitlines() if not line.startswith("warning: ")]
    assert result.returncode == 1, result
    assert len(lines) == 1 and lines[0].startswith("error: ") and lines[0].endswith("."), result.stderr
    for word in words:
        assert word in lines[0], lines
    assert not secret or secret not in result.stdout + result.stderr
    assert folder is None or not list(folder.rglob("*.partial"))
