"""Clean the products table.

Reads products_table.json (and images_table.json and images/, where they are, to count photos) in the data folder;
writes products_table_clean.json, main_categories.json, duplicates.json and clean_tabular_report.json beside them:

    python clean_tabular_data.py [--data-dir data] [--min-price 0.1] [--max-price 10000]
"""

import argparse
import math
import re
import time
import warnings
from collections.abc import Callable
from typing import Any

import pandas as pd

from marketplace.command_line import argument_parser, print_report, run
from marketplace.data_folder import NEEDED_COLUMNS, DataFolder, UserError, write_json, write_whole
from marketplace.gazetteer import Place, locate
from marketplace.listing_text import (
    CATEGORY,
    clean_description,
    clean_line,
    clean_product_name,
    is_null,
    key_text,
    normalised_text,
    parse_price,
)
from marketplace.listings import CLEAN_COLUMNS, SPLITS, main_of, read_table, split_of, write_table
from marketplace.photos import image_rows, photo_files, photo_stem

COLUMNS = NEEDED_COLUMNS["products"]
SAME_LISTING = ["product_name", "product_description", "location"]
BANNER = "Posted by"
EPOCH = re.compile(r"([0-9]{10})\.?([0-9]*)")  # seconds, then their fraction
UNKNOWN = Place(math.nan, math.nan, None)


def map_cells(function: Callable, column: pd.Series) -> pd.Series:
    """`function` of each cell that is not missing, None for the others; dtype object, so that no type is guessed."""
    cells = zip(column.to_numpy(dtype=object), column.isna().tolist(), strict=True)
    results = [None if missing else function(cell) for cell, missing in cells]
    return pd.Series(results, index=column.index, dtype=object)


def clean_cells(raw: pd.DataFrame) -> pd.DataFrame:
    """The columns that are needed, sorted by id: texts are clean, and None where nothing is left or `is_null`."""
    clean: dict[str, Callable] = dict.fromkeys([*COLUMNS, "create_time"], clean_line)
    clean |= {"product_name": clean_product_name, "product_description": clean_description}
    clean |= {"id": key_text, "price": str}
    products = raw.reindex(columns=[*clean, "latitude", "longitude"])
    for name, function in clean.items():
        texts = map_cells(function, map_cells(str, products[name]))
        products[name] = map_cells(lambda text: None if is_null(text) else text, texts)
    return products.sort_values("id", kind="stable")


def timestamp(text: str) -> pd.Timestamp:
    """A time in UTC, also of seconds since 1970 or parts of them; NaT where it cannot be read. The day comes first."""
    if match := EPOCH.fullmatch(text):
        return pd.to_datetime(float(f"{match[1]}.{match[2]}"), unit="s", utc=True)
    with warnings.catch_warnings(action="ignore"):  # pandas warns of `01/26/2023`, which it reads
        text = text.replace("BST", "+0100")
        return pd.to_datetime(text, dayfirst=not text[:4].isdigit(), utc=True, errors="coerce")


def older_rows(products: pd.DataFrame) -> tuple[pd.Series, list[str]]:
    """Which rows (bool) have the id of a later one, by `create_time`, then by the cells; and the ids that have times
    which cannot be read and come first."""
    repeated = products[products["id"].duplicated(keep=False)].fillna({"create_time": ""})
    repeated["time"] = pd.to_datetime(map_cells(timestamp, repeated["create_time"]), utc=True)
    ordered = repeated.fillna(dict.fromkeys(COLUMNS, "")).sort_values(["time", *COLUMNS], na_position="first")
    unreadable = repeated.loc[repeated["time"].isna() & (repeated["create_time"] != ""), "id"].tolist()
    return products.index.isin(ordered.index[ordered["id"].duplicated(keep="last")]), unreadable


def add_place(products: pd.DataFrame) -> pd.DataFrame:
    """Latitude and longitude (float64, WGS84 degrees) and `place_rule`, None where the place is unknown.

    Coordinates in the raw table come first, then the location (see `gazetteer`). Both 0 are no coordinates.
    """
    given = products[["latitude", "longitude"]].astype(str).replace(",", ".", regex=True)
    given = given.apply(pd.to_numeric, errors="coerce")
    valid = given["latitude"].between(-90, 90) & given["longitude"].between(-180, 180) & given.ne(0).any(axis=1)
    rows = zip(valid, given["latitude"], given["longitude"], products["location"], strict=True)
    places = [
        Place(latitude, longitude, "coordinates") if known else locate(location) or UNKNOWN
        for known, latitude, longitude, location in rows
    ]
    columns = pd.DataFrame(places, index=products.index, columns=["latitude", "longitude", "place_rule"])
    return products.assign(**columns)


def clean_products(
    raw: pd.DataFrame, min_price: float = 0.1, max_price: float = 10_000
) -> tuple[pd.DataFrame, dict[str, str], dict[str, Any]]:
    """The clean table, sorted by id, with CLEAN_COLUMNS; the kept ids of the dropped duplicates; the report.

    The clean table may be empty. The order of the rows in `raw` makes no difference.
    """
    rejected: dict[str, list[str]] = {}

    def reject(products: pd.DataFrame, rows: pd.Series, reason: str) -> pd.DataFrame:
        if rows.any():
            rejected[reason] = products.loc[rows, "id"].fillna("").tolist()
        return products[~rows]

    raw = raw.reset_index(drop=True)
    products = clean_cells(raw)
    products = reject(products, products["id"].isna(), "no id")
    older, unreadable = older_rows(products)
    products = reject(products, older, "another row of the same id")
    for column in COLUMNS[1:]:
        products = reject(products, products[column].isna(), f"no {column}")
    products = reject(products, ~products["category"].str.fullmatch(CATEGORY).astype(bool), "category is no text")
    products["price"] = map_cells(parse_price, products["price"]).astype("float64")
    products = reject(products, products["price"].isna(), "price is no amount in pounds")
    outside = ~products["price"].between(min_price, max_price)
    products = reject(products, outside, f"price outside £{min_price:g} to £{max_price:g}")
    products = add_place(products)
    products = reject(products, products["place_rule"].isna(), "place unknown")
    first_id = products.groupby(SAME_LISTING)["id"].transform("first")
    copies = products["id"] != first_id
    duplicates = dict(zip(products.loc[copies, "id"], first_id[copies], strict=True))
    products = reject(products, copies, "duplicate")
    products["main_category"] = map_cells(main_of, products["category"])
    products["main_category_code"] = products["main_category"].astype("category").cat.codes.astype("int64")
    products["split"] = map_cells(lambda text: split_of(normalised_text(text)), products["product_description"])

    with_banner, still = (
        table.loc[products.index, "product_description"].astype(str).str.contains(BANNER, regex=False)
        for table in (raw, products)
    )
    report = {
        "rows in": len(raw),
        "rejected": rejected,
        "rows out": len(products),
        "create_time that cannot be read, of a repeated id": unreadable,
        "banners removed": int((with_banner & ~still).sum()),
        "descriptions that still say Posted by": products.loc[still, "id"].tolist(),
        "located by": products["place_rule"].value_counts().to_dict(),
        "split": {name: int((products["split"] == name).sum()) for name in SPLITS},
        "main category": products["main_category"].value_counts().sort_index().to_dict(),
    }
    return products[list(CLEAN_COLUMNS)].reset_index(drop=True), duplicates, report


def count_photos(folder: DataFolder, products: pd.DataFrame, duplicates: dict[str, str]) -> dict[str, Any] | str:
    """The ids of photos without a clean listing, and of listings without photo; a sentence without images table.

    Photos are the rows of the images table and the files in images/.
    """
    if not folder.images_table.exists():
        return f"not counted, because {folder.images_table.name} is missing"
    images = read_table(folder.images_table, "download_products_table.py", ("id", "product_id"))
    rows = image_rows(images.to_dict("records")).items()
    listing_of_photo = {name: duplicates.get(row["product_id"], row["product_id"]) for name, row in rows}
    stems = {stem for name in listing_of_photo for stem in (name, photo_stem(name))}
    clean_ids = set(products["id"])
    photos = sorted(listing_of_photo.keys() | photo_files(folder.images).keys() - stems)
    return {
        "photos": len(images),
        "photos without clean listing": [photo for photo in photos if listing_of_photo.get(photo) not in clean_ids],
        "clean listings without photo": sorted(clean_ids - set(listing_of_photo.values())),
    }


def read_raw_products(folder: DataFolder) -> pd.DataFrame:
    """The downloaded products table. Raises UserError when it is missing, has no rows, or is clean already."""
    path = folder.products_table
    raw = read_table(path, "download_products_table.py", COLUMNS)
    if "main_category_code" in raw.columns:
        raise UserError(f"{path} is clean already: run download_products_table.py --force to get the raw table.")
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
    if not 0 < arguments.min_price <= arguments.max_price < math.inf:
        parser.error("--min-price and --max-price are pounds above 0, the second not below the first")
    return arguments


def main() -> None:
    arguments = parse_arguments()
    started = time.monotonic()
    folder = DataFolder(arguments.data_dir)
    raw = read_raw_products(folder)
    products, duplicates, report = clean_products(raw, arguments.min_price, arguments.max_price)
    if products.empty:
        reasons = ", ".join(f"{len(ids)} {reason}" for reason, ids in report["rejected"].items()) or "no rows"
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
