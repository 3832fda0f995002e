"""Clean the products table.

Reads products_table.json (and images_table.json and images/, where they are, to count photos) in the data folder;
writes products_table_clean.json, main_categories.json, duplicates.json and clean_tabular_report.json beside them:

    python clean_tabular_data.py [--data-dir data] [--min-price 0.1] [--max-price 10000]

Each step is a function from one table to the next; `clean_products` lists them in order.
"""

import argparse
import functools
import math
import re
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from typing import Any

import pandas as pd

from marketplace.command_line import argument_parser, print_report, run
from marketplace.data_folder import DataFolder, UserError, write_json, write_whole
from marketplace.gazetteer import RULES, Gazetteer, split_location
from marketplace.listing_text import (
    POSTED,
    clean_description,
    clean_line,
    clean_product_name,
    compared_text,
    is_null,
    normalised_text,
    parse_price,
)
from marketplace.listings import CLEAN_COLUMNS, read_table, split_of, write_table
from marketplace.photos import photo_files

NEEDED_COLUMNS = ("id", "product_name", "category", "product_description", "price", "location")
TEXT_COLUMNS = ("product_name", "product_description", "category", "location")
SAME_LISTING = ["product_name", "product_description", "location"]
FAR_FROM_COUNTY_KM = 100
PATH_SEPARATOR = re.compile(r" [/／](?: ?[/／])* | ?-?(?:[>＞»›]|&gt;)+ ?")  # no slash alone: `Ham/Amateur Radios`
Step = Callable[[pd.DataFrame], pd.DataFrame]


def _map(function: Callable, column: pd.Series) -> pd.Series:
    """`function` of each cell that is not missing, None for the others; dtype object, so that no type is guessed."""
    cells = zip(column.to_numpy(dtype=object), column.isna().tolist(), strict=True)
    results = [None if missing else function(cell) for cell, missing in cells]
    return pd.Series(results, index=column.index, dtype=object)


def cell_text(cell: Any) -> str | None:
    """A cell as text, stripped; None where it is blank, `N/A`, `null`, `None` or `nan`."""
    if isinstance(cell, float) and cell.is_integer():
        cell = int(cell)  # a column of whole numbers with a gap is read as floats
    return _or_none(str(cell).strip())


def price_text(cell: Any) -> str | None:
    """`cell_text`, but a number gets six decimals: three could be thousands (see `parse_price`)."""
    return cell_text(f"{cell:f}" if isinstance(cell, float) else cell)


def _or_none(text: str) -> str | None:
    return None if is_null(text) else text


def _clean_column(clean: Callable[[str], str], texts: pd.Series) -> pd.Series:
    """`clean` of each text; None where nothing is left."""
    return _map(lambda text: _or_none(clean(text)), texts)


def drop_unneeded_columns(products: pd.DataFrame) -> pd.DataFrame:
    """Only the columns that cleaning uses, `create_time` among them: it decides between rows of one id."""
    return products.reindex(columns=[*NEEDED_COLUMNS, "create_time"])


def cells_to_text(products: pd.DataFrame) -> pd.DataFrame:
    """Every cell as text or None; ids without unreadable characters."""
    cells = {name: _map(price_text if name == "price" else cell_text, products[name]) for name in products.columns}
    return pd.DataFrame(cells | {"id": _clean_column(clean_line, cells["id"])}, index=products.index)


def latest_of_each_id(products: pd.DataFrame) -> pd.DataFrame:
    """One row for each id: the latest by create_time, then the last in sort order."""
    repeated = products[products["id"].duplicated(keep=False)]
    times = pd.to_datetime(_map(clean_line, repeated["create_time"]), errors="coerce", utc=True, format="ISO8601")
    order = repeated.assign(time=times).sort_values(["time", *NEEDED_COLUMNS], na_position="first", kind="stable")
    return products.drop(index=order.index[order["id"].duplicated(keep="last")])


def drop_nulls(column: str) -> Step:
    """The step that keeps only the rows with a value in `column`."""
    return lambda products: products[products[column].notna()]


def clean_texts(products: pd.DataFrame) -> pd.DataFrame:
    """Names without the page's title, descriptions without the banner, category and location on one line.

    A text becomes None when nothing is left of it.
    """
    return products.assign(
        product_name=_clean_column(clean_product_name, products["product_name"]),
        product_description=_clean_column(clean_description, products["product_description"]),
        category=_clean_column(functools.cache(clean_line), products["category"]),
        location=_clean_column(functools.cache(clean_line), products["location"]),
    )


def price_to_float(products: pd.DataFrame) -> pd.DataFrame:
    """Prices in pounds as float64; NaN where a text is no amount in pounds (see `parse_price`)."""
    return products.assign(price=_map(functools.cache(parse_price), products["price"]).astype("float64"))


def drop_prices_outside(min_price: float, max_price: float) -> Step:
    """The step that keeps only the rows with a price from `min_price` to `max_price` pounds."""
    return lambda products: products[products["price"].between(min_price, max_price)]


def merge_categories(products: pd.DataFrame) -> pd.DataFrame:
    """One spelling for each category: its parts, each in the spelling that most rows have, joined by ` / `.

    Parts are the same whatever their capitals (see `compared_text`); `a/b` is `a / b` only where that occurs, too.
    """
    rows_of = Counter(products["category"])
    parts_of: dict[str, list[str]] = {}
    for path in sorted(rows_of):
        first, *others = (part.strip() for part in PATH_SEPARATOR.split(f" {path} "))
        parts_of[path] = [first, *filter(None, others)]
    key_of = functools.cache(lambda part: re.sub(r"\s*/\s*", "/", compared_text(part).casefold()))
    beginnings = [parts[: count + 1] for parts in parts_of.values() for count in range(len(parts))]
    longest = {key_of("/".join(parts)): parts for parts in sorted(beginnings, key=len)}
    spellings: dict[str, Counter[str]] = defaultdict(Counter)
    for path, parts in parts_of.items():
        split: list[str] = []
        for part in parts:
            split = max([*split, part], longest[key_of("/".join([*split, part]))], key=len)  # the first of equal ones
        parts_of[path] = split
        for part in split:
            spellings[key_of(part)][part] += rows_of[path] if split == parts else 0  # divided anew: it has no vote
    names = {
        key: min(rows, key=lambda part: (-rows[part], part != compared_text(part), part))
        for key, rows in spellings.items()
    }
    merged = {path: clean_line(" / ".join(names[key_of(part)] for part in parts)) for path, parts in parts_of.items()}
    return products.assign(category=_map(merged.get, products["category"]))


def add_main_category(products: pd.DataFrame) -> pd.DataFrame:
    """Add `main_category`, the first part of the category's path `Home & Garden / Mirrors`; None where it is empty."""
    first_part = _clean_column(lambda path: f" {path} ".split(" / ")[0].strip(), products["category"])
    return products.assign(main_category=first_part)


def same_listing(products: pd.DataFrame) -> pd.DataFrame:
    """Name, description and location in the form in which they are compared."""
    return pd.DataFrame({name: _map(compared_text, products[name]) for name in SAME_LISTING})


def drop_duplicates(products: pd.DataFrame) -> pd.DataFrame:
    """Of listings with the same name, description and location only the first."""
    return products[~same_listing(products).duplicated()]


def add_place(products: pd.DataFrame) -> pd.DataFrame:
    """Add latitude and longitude (float64, WGS84 degrees), `place_rule` (see `gazetteer`) and `county_km`.

    `county_km` is the distance of the place from the middle of its county. NaN and None where the place is unknown.
    """
    gazetteer = Gazetteer(products["location"])
    places = _map(functools.cache(gazetteer.locate), products["location"])
    return products.assign(
        latitude=_map(lambda place: place.latitude, places).astype("float64"),
        longitude=_map(lambda place: place.longitude, places).astype("float64"),
        place_rule=_map(lambda place: place.rule, places),
        county_km=_map(lambda place: place.county_km, places).astype("float64"),
    )


def add_main_category_code(products: pd.DataFrame) -> pd.DataFrame:
    """Add `main_category_code` (int64), the position of `main_category` among the sorted main categories."""
    codes = {name: code for code, name in enumerate(sorted(products["main_category"].unique()))}
    return products.assign(main_category_code=products["main_category"].map(codes).astype("int64"))


def add_split(products: pd.DataFrame) -> pd.DataFrame:
    """Add `split` by the description alone, so that equal texts are in one split."""
    return products.assign(split=_map(lambda text: split_of(normalised_text(text)), products["product_description"]))


def kept_ids_of_duplicates(dropped: pd.DataFrame, products: pd.DataFrame) -> dict[str, str]:
    """`{dropped id: kept id}` of the dropped duplicates whose first listing is among the clean `products`."""
    dropped, products = (same_listing(table).assign(id=table["id"]) for table in (dropped, products))
    pairs = dropped.merge(products, on=SAME_LISTING)
    return dict(zip(pairs["id_x"], pairs["id_y"], strict=True))


def clean_products(
    raw: pd.DataFrame, min_price: float = 0.1, max_price: float = 10_000
) -> tuple[pd.DataFrame, dict[str, str], dict[str, Any]]:
    """The clean table, sorted by id, with CLEAN_COLUMNS; the kept ids of the dropped duplicates; the report.

    The clean table may be empty. The order of the rows in `raw` makes no difference.
    """
    steps: list[tuple[str, Step]] = [  # the reason is recorded for the rows that the step removes
        ("no id", drop_nulls("id")),
        ("another row of the same id", latest_of_each_id),
        *((f"no {column}", drop_nulls(column)) for column in NEEDED_COLUMNS[1:]),
        ("", clean_texts),
        *((f"no {column} after cleaning", drop_nulls(column)) for column in TEXT_COLUMNS),
        ("", price_to_float),
        ("price is no amount in pounds", drop_nulls("price")),
        (f"price outside £{min_price:g} to £{max_price:g}", drop_prices_outside(min_price, max_price)),
        ("", merge_categories),
        ("", add_main_category),
        ("no main category", drop_nulls("main_category")),
        ("duplicate", drop_duplicates),
        ("", add_place),
        ("place unknown", drop_nulls("place_rule")),
        ("", add_main_category_code),
        ("", add_split),
    ]
    cells = cells_to_text(drop_unneeded_columns(raw)).sort_values("id", ignore_index=True)
    products, set_aside = cells, {}
    for reason, step in steps:
        before, products = products, step(products)
        if len(products) < len(before):
            set_aside[reason] = before[~before.index.isin(products.index)]
    report = {
        "rows in": len(raw),
        "set aside": {reason: list(rows["id"].fillna("")) for reason, rows in set_aside.items()},
        **describe(products, cells),
    }
    duplicates = kept_ids_of_duplicates(set_aside["duplicate"], products) if "duplicate" in set_aside else {}
    return products[list(CLEAN_COLUMNS)].reset_index(drop=True), duplicates, report


def describe(products: pd.DataFrame, cells: pd.DataFrame) -> dict[str, Any]:
    """The report on the clean `products`; `cells` are the texts of all rows before cleaning."""
    unknown_counties = _map(functools.cache(lambda text: split_location(text).unknown or None), cells["location"])
    unknown_counties = cells["id"].fillna("").groupby(unknown_counties).agg(sorted).to_dict()
    cells = cells.loc[products.index]
    posted_before, posted = (
        table["product_description"].str.contains(POSTED).astype(bool) for table in (cells, products)
    )
    category_before = _map(functools.cache(clean_line), cells["category"])
    merged = category_before[category_before != products["category"]] + " -> " + products["category"]
    located = {rule: int((products["place_rule"] == rule).sum()) for rule in RULES}
    return {
        "rows out": len(products),
        "banners removed": int((posted_before & ~posted).sum()),
        "descriptions that still say Posted by": list(products.loc[posted, "id"]),
        "located by": located,
        "share located by": {rule: round(count / max(1, len(products)), 4) for rule, count in located.items()},
        "town far from its county": list(products.loc[products["county_km"] > FAR_FROM_COUNTY_KM, "id"]),
        "county not understood": unknown_counties,
        "category spellings merged": {change: int(rows) for change, rows in merged.value_counts().sort_index().items()},
        "split": {name: int((products["split"] == name).sum()) for name in ("train", "validation", "test")},
        "main category": {name: int(count) for name, count in products.groupby("main_category").size().items()},
    }


def count_photos(folder: DataFolder, products: pd.DataFrame, duplicates: dict[str, str]) -> dict[str, Any] | str:
    """The ids of photos without a clean listing, and of listings without photo; a sentence without images table.

    Photos are the rows of the images table and the files in images/.
    """
    if not folder.images_table.exists():
        return f"not counted, because {folder.images_table.name} is missing"
    images = read_table(folder.images_table, "download_products_table.py", ("id", "product_id"))
    listings = _map(cell_text, images["product_id"])
    listings = _map(lambda listing: duplicates.get(listing, listing), listings)
    listing_of_photo = dict(zip(_map(cell_text, images["id"]), listings, strict=True))
    clean_ids = set(products["id"])
    photos = (listing_of_photo.keys() | photo_files(folder.images).keys()) - {None}
    return {
        "photos": len(images),
        "photos without clean listing": sorted(id for id in photos if listing_of_photo.get(id) not in clean_ids),
        "clean listings without photo": sorted(clean_ids - set(listing_of_photo.values())),
    }


def read_raw_products(folder: DataFolder) -> pd.DataFrame:
    """The downloaded products table. Raises UserError when it is missing, has no rows, or is clean already."""
    path = folder.products_table
    raw = read_table(path, "download_products_table.py", NEEDED_COLUMNS)
    if "main_category_code" in raw.columns:
        raise UserError(f"{path} is clean already: run download_products_table.py --force to get the raw table.")
    if raw.empty:
        raise UserError(f"{path} has no rows: fill the database's table and run download_products_table.py --force.")
    return raw


def write_outputs(folder: DataFolder, products: pd.DataFrame, duplicates: dict[str, str]) -> None:
    """Write the three files together: all are on the disk before the first is renamed, also when the disk is full."""
    with (
        write_whole(folder.main_categories) as categories_file,
        write_whole(folder.duplicates) as duplicates_file,
        write_whole(folder.products_table_clean) as table_file,
    ):
        write_json(categories_file, sorted(products["main_category"].unique()))
        write_json(duplicates_file, duplicates)
        write_table(table_file, products)


def parse_arguments() -> argparse.Namespace:
    parser = argument_parser(__doc__.splitlines()[0])
    parser.add_argument("--min-price", type=float, default=0.1, metavar="POUNDS", help="lowest price that is kept")
    parser.add_argument("--max-price", type=float, default=10_000, metavar="POUNDS", help="highest price that is kept")
    arguments = parser.parse_args()
    if not 0 <= arguments.min_price <= arguments.max_price < math.inf:
        parser.error("--min-price and --max-price are pounds from 0, the second not below the first")
    return arguments


def main() -> None:
    arguments = parse_arguments()
    started = time.monotonic()
    folder = DataFolder(arguments.data_dir)
    raw = read_raw_products(folder)
    products, duplicates, report = clean_products(raw, arguments.min_price, arguments.max_price)
    if products.empty:
        reasons = ", ".join(f"{len(ids)} {reason}" for reason, ids in report["set aside"].items())
        raise UserError(
            f"no row of {folder.products_table} is usable ({reasons}): check the table, --min-price and --max-price."
        )
    report["photos"] = count_photos(folder, products, duplicates)
    write_outputs(folder, products, duplicates)
    bounds = {"min price": arguments.min_price, "max price": arguments.max_price}
    seconds = round(time.monotonic() - started, 1)
    report = {"source": folder.products_table.name, **bounds, **report, "seconds": seconds}
    write_json(folder.report("clean_tabular"), report)
    print_report(report)


if __name__ == "__main__":
    run(main)
