"""Clean the products table.

Reads products_table.json (and images_table.json and images/, where they are, to count photos) in the data folder;
writes products_table_clean.json, main_categories.json, duplicates.json and clean_tabular_report.json beside them:

    python clean_tabular_data.py [--data-dir data] [--min-price 0.1] [--max-price 10000]

Each step is a function from one table to the next; `clean_products` lists them in order. A step that leaves rows out
keeps the others' index, so that the report can name the ids that went.
"""

import argparse
import math
import os
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import pandas as pd

from marketplace.command_line import argument_parser, print_report, run
from marketplace.data_folder import DataFolder, UserError, write_json, write_whole
from marketplace.gazetteer import RULES, Gazetteer, distance_km
from marketplace.listing_text import (
    clean_description,
    clean_line,
    clean_product_name,
    is_null,
    normalised_text,
    parse_price,
    split_of,
)
from marketplace.tables import CLEAN_COLUMNS, read_table, write_table

NEEDED_COLUMNS = ("id", "product_name", "category", "product_description", "price", "location")
SAME_LISTING = ["product_name", "product_description", "location"]
FAR_FROM_COUNTY_KM = 100


def drop_unneeded_columns(products: pd.DataFrame) -> pd.DataFrame:
    """Only the columns that cleaning uses; `create_time`, which decides between rows of one id, where it is there."""
    return products[[name for name in (*NEEDED_COLUMNS, "create_time") if name in products.columns]]


def cell_text(cell: Any) -> str | None:
    """A cell as text, stripped; None where it is empty or only says so: `N/A`, `null`, `None`, `nan`."""
    if not isinstance(cell, str):
        if isinstance(cell, float) and cell.is_integer():
            cell = int(cell)  # a column of whole numbers with a gap is read as floats
        cell = str(cell)
    text = cell.strip()
    return None if is_null(text) else text


def cells_to_text(products: pd.DataFrame) -> pd.DataFrame:
    """Every cell as text, or None; the ids without unreadable characters."""
    cells = {name: _map(cell_text, products[name]) for name in products.columns}
    return pd.DataFrame(cells | {"id": _map(_or_none(clean_line), cells["id"])}, index=products.index)


def latest_of_each_id(products: pd.DataFrame) -> pd.DataFrame:
    """One row for each id: the latest by create_time, then the greater row. Texts or None in every column."""
    repeated = products[products["id"].duplicated(keep=False)]
    if repeated.empty:
        return products
    created = repeated["create_time"] if "create_time" in repeated.columns else repeated["id"].map(lambda _: None)
    times = pd.to_datetime(_map(clean_line, created), errors="coerce", utc=True, format="ISO8601")
    others = [name for name in NEEDED_COLUMNS if name in repeated.columns]
    order = repeated[others].assign(time=times).sort_values(["time", *others], na_position="first", kind="stable")
    return products.drop(index=order.index[order["id"].duplicated(keep="last")])


def drop_nulls(products: pd.DataFrame, column: str) -> pd.DataFrame:
    """Only the rows that say something in `column`."""
    return products[products[column].notna()]


def clean_texts(products: pd.DataFrame) -> pd.DataFrame:
    """Names without the page's title, descriptions without the banner, category and location on one line.

    A text of which nothing is left becomes None.
    """
    return products.assign(
        product_name=_map(_or_none(clean_product_name), products["product_name"]),
        product_description=_map(_or_none(clean_description), products["product_description"]),
        category=_map_distinct(_or_none(clean_line), products["category"]),
        location=_map_distinct(_or_none(clean_line), products["location"]),
    )


def price_to_float(products: pd.DataFrame) -> pd.DataFrame:
    """Prices in pounds as float64; NaN where a text is no amount in pounds (`parse_price` has the rule)."""
    return products.assign(price=_map_distinct(parse_price, products["price"]).astype("float64"))


def drop_prices_outside(products: pd.DataFrame, min_price: float, max_price: float) -> pd.DataFrame:
    """Only the rows with a price from `min_price` to `max_price` pounds."""
    return products[products["price"].between(min_price, max_price)]


def add_main_category(products: pd.DataFrame) -> pd.DataFrame:
    """Adds `main_category`, the first part of the category's path `Home & Garden / Mirrors`; None where it is empty."""
    return products.assign(
        main_category=_map_distinct(_or_none(lambda path: f" {path} ".split(" / ")[0].strip()), products["category"])
    )


def find_duplicates(products: pd.DataFrame) -> dict[str, str]:
    """`{dropped id: kept id}` of listings with the same name, description and location; the first by id is kept."""
    copies = products[products.duplicated(SAME_LISTING, keep=False)].sort_values("id")
    kept = copies.groupby(SAME_LISTING, sort=False)["id"].transform("first")
    return {copy: first for copy, first in zip(copies["id"], kept, strict=True) if copy != first}


def add_place(products: pd.DataFrame) -> pd.DataFrame:
    """Adds latitude and longitude (float64, WGS84 degrees) and `place_rule` (see `gazetteer`); NaN and None if unknown.

    Each distinct location is looked up once. Adds `far_from_county` (bool) too: a town of this name is found, but
    more than 100 km from the county, so that it may be another one.
    """
    gazetteer = Gazetteer(products["location"])
    rows = []
    for location in products["location"].unique():
        if (place := gazetteer.locate(location)) is None:
            rows.append((location, math.nan, math.nan, None, False))
            continue
        centre = gazetteer.county_centre(place.county) or (place.latitude, place.longitude)
        far = bool(distance_km(place.latitude, place.longitude, *centre) > FAR_FROM_COUNTY_KM)
        rows.append((location, place.latitude, place.longitude, place.rule, far))
    columns = ["location", "latitude", "longitude", "place_rule", "far_from_county"]
    places = pd.DataFrame(rows, columns=columns).set_index("location").astype({"latitude": float, "longitude": float})
    return products.drop(columns=columns[1:], errors="ignore").join(places, on="location")


def add_main_category_code(products: pd.DataFrame, main_categories: list[str]) -> pd.DataFrame:
    """Adds `main_category_code`, the place of `main_category` in the sorted list, as int64."""
    codes = {name: code for code, name in enumerate(main_categories)}
    return products.assign(main_category_code=products["main_category"].map(codes).astype("int64"))


def add_split(products: pd.DataFrame) -> pd.DataFrame:
    """Adds `split` by the description alone, so that equal texts stand in one split."""
    return products.assign(split=_map(lambda text: split_of(normalised_text(text)), products["product_description"]))


def clean_products(
    raw: pd.DataFrame, min_price: float = 0.1, max_price: float = 10_000
) -> tuple[pd.DataFrame, list[str], dict[str, str], dict[str, Any]]:
    """The clean table, sorted by id, with CLEAN_COLUMNS; main categories; duplicates; what to report.

    The table may be empty. The order of the rows in `raw` changes nothing.
    """
    set_aside: dict[str, list[str]] = {}

    def leave_out(reason: str, before: pd.DataFrame, after: pd.DataFrame) -> pd.DataFrame:
        gone = before["id"][~before.index.isin(after.index)]
        if len(gone):
            set_aside[reason] = sorted(gone)
        return after

    products = cells_to_text(drop_unneeded_columns(raw.reset_index(drop=True)))
    with_id = drop_nulls(products, "id")
    rows_without_id = len(products) - len(with_id)
    products = leave_out("another row of the same id", with_id, latest_of_each_id(with_id))
    for column in NEEDED_COLUMNS[1:]:
        products = leave_out(f"no {column}", products, drop_nulls(products, column))
    said = products["product_description"].str.contains("Posted by", regex=False)
    products = clean_texts(products)
    says = products["product_description"].str.contains("Posted by", regex=False, na=False).astype(bool)
    banners = int((said & ~says).sum())
    for column in ("product_name", "product_description", "category", "location"):
        products = leave_out(f"no {column} after the clean-up", products, drop_nulls(products, column))
    products = price_to_float(products)
    products = leave_out("price is no amount in pounds", products, drop_nulls(products, "price"))
    in_range = drop_prices_outside(products, min_price, max_price)
    products = leave_out(f"price outside £{min_price:g} to £{max_price:g}", products, in_range)
    products = add_main_category(products)
    products = leave_out("no main category", products, drop_nulls(products, "main_category"))
    duplicates = find_duplicates(products)
    products = leave_out("duplicate", products, products[~products["id"].isin(duplicates)])
    products = add_place(products)
    products = leave_out("place unknown", products, drop_nulls(products, "place_rule"))
    main_categories = sorted(products["main_category"].unique())
    products = add_split(add_main_category_code(products, main_categories)).sort_values("id", ignore_index=True)
    kept = set(products["id"])
    located = {rule: int((products["place_rule"] == rule).sum()) for rule in RULES}
    rows_to_locate = len(products) + len(set_aside.get("place unknown", []))
    report = {
        "rows in": len(raw),
        "rows without id": rows_without_id,
        "set aside": set_aside,
        "rows out": len(products),
        "banners removed": banners,
        "descriptions that still say Posted by": list(
            products.loc[products["product_description"].str.contains("Posted by", regex=False), "id"]
        ),
        "located by": located,
        "share located by": {rule: round(count / max(1, rows_to_locate), 4) for rule, count in located.items()},
        "town far from its county": list(products.loc[products["far_from_county"], "id"]),
        "split": {name: int((products["split"] == name).sum()) for name in ("train", "validation", "test")},
        "main category": dict(sorted(Counter(products["main_category"]).items())),
    }
    duplicates = {copy: first for copy, first in duplicates.items() if first in kept}
    return products[list(CLEAN_COLUMNS)], main_categories, duplicates, report


def count_photos(
    products: pd.DataFrame,
    known_ids: set[str],
    duplicates: dict[str, str],
    images: pd.DataFrame,
    files: set[str] | None,
) -> dict[str, Any]:
    """What photos and listings lack each other: lists of ids. `files` are the ids that have a file, None if unknown."""
    image_ids, listings = _map(cell_text, images["id"]), _map(cell_text, images["product_id"])
    clean_ids = set(products["id"])

    def kept_id(listing: str | None) -> str | None:
        return duplicates.get(listing, listing)

    counts: dict[str, Any] = {
        "photos": len(images),
        "photos of no listing in the table": sorted(image_ids[~listings.isin(known_ids)].dropna()),
        "photos of listings set aside": int((listings.isin(known_ids) & ~listings.map(kept_id).isin(clean_ids)).sum()),
        "clean listings without photo": sorted(clean_ids - set(listings.map(kept_id))),
    }
    if files is not None:
        counts["photos without file"] = sorted(set(image_ids.dropna()) - files)
        counts["files without photo in the table"] = sorted(files - set(image_ids.dropna()))
    return counts


def photo_files(folder: DataFolder) -> set[str] | None:
    """The photo ids that have a `.jpg` or `.jpeg` file in images/; None where there is no such folder."""
    if not folder.images.is_dir():
        return None
    names = (os.path.splitext(entry.name) for entry in os.scandir(folder.images))
    return {stem for stem, ending in names if ending.lower() in (".jpg", ".jpeg")}


def _map(function: Callable, column: pd.Series) -> pd.Series:
    """`function` of each cell but None, as objects: no type is guessed."""
    cells = column.to_numpy(dtype=object)
    results = [None if cell is None or cell != cell else function(cell) for cell in cells]
    return pd.Series(results, index=column.index, dtype=object)


def _map_distinct(function: Callable, column: pd.Series) -> pd.Series:
    """The same, with `function` called once for each distinct text."""
    values = {cell: function(cell) for cell in column.unique() if cell is not None}
    return _map(values.__getitem__, column)


def _or_none(function: Callable[[str], str]) -> Callable[[str], str | None]:
    """`function`, giving None where what it leaves says nothing."""

    def text_or_none(text: str) -> str | None:
        text = function(text)
        return None if is_null(text) else text

    return text_or_none


def price_bound(text: str) -> float:
    """Argument type: pounds, 0 or more."""
    try:
        bound = float(text)
    except ValueError:
        bound = math.nan
    if not 0 <= bound < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is not an amount in pounds")
    return bound


def main() -> None:
    parser = argument_parser(__doc__.split("\n")[0])
    parser.add_argument(
        "--min-price", type=price_bound, default=0.1, metavar="POUNDS", help="set aside what is cheaper"
    )
    parser.add_argument("--max-price", type=price_bound, default=10_000, metavar="POUNDS", help="or dearer")
    arguments = parser.parse_args()
    if arguments.min_price > arguments.max_price:
        parser.error("--min-price is greater than --max-price")
    started = time.monotonic()
    folder = DataFolder(arguments.data_dir)
    source = folder.products_table

    raw = read_table(source, "download_products_table.py", NEEDED_COLUMNS)
    if "main_category_code" in raw.columns:
        raise UserError(
            f"{source} is a table that is clean already: run download_products_table.py --force to get the raw one."
        )
    if raw.empty:
        raise UserError(f"{source} has no rows: fill the database's table and run download_products_table.py --force.")
    products, main_categories, duplicates, report = clean_products(raw, arguments.min_price, arguments.max_price)
    if products.empty:
        reasons = ", ".join(f"{len(ids)} {reason}" for reason, ids in report["set aside"].items())
        reasons = reasons or f"{report['rows without id']} without id"
        raise UserError(
            f"no row of {source} is usable ({reasons}): look at the table, or widen --min-price and --max-price."
        )
    if folder.images_table.exists():
        images = read_table(folder.images_table, "download_products_table.py", ("id", "product_id"))
        known_ids = set(_map(cell_text, raw["id"]).dropna())
        report["photos"] = count_photos(products, known_ids, duplicates, images, photo_files(folder))
    else:
        report["photos"] = f"not counted, for {folder.images_table.name} is missing"

    # all are written before the first takes its place, so that they belong together also when the disk is full
    with (
        write_whole(folder.main_categories) as categories_file,
        write_whole(folder.duplicates) as duplicates_file,
        write_whole(folder.products_table_clean) as table_file,
    ):
        write_json(categories_file, main_categories)
        write_json(duplicates_file, duplicates)
        write_table(table_file, products)
    bounds = {"min price": arguments.min_price, "max price": arguments.max_price}
    report = {"source": source.name, **bounds, **report, "seconds": round(time.monotonic() - started, 1)}
    write_json(folder.report("clean_tabular"), report)
    print_report(report)


if __name__ == "__main__":
    run(main)
