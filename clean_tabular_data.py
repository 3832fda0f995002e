"""Cleans the products table: products_table.json -> products_table_clean.json, main_categories.json, duplicates.json.

python clean_tabular_data.py [--data-dir data] [--min-price 0.1] [--max-price 10000]
"""

import argparse
import math
import time
from collections import Counter

import pandas as pd

from data_folder import (
    DataFolder,
    UserError,
    argument_parser,
    print_report,
    read_table,
    run,
    write_json,
    write_table,
    write_whole,
)
from gazetteer import RULES, Gazetteer
from listing_text import (
    clean_description,
    clean_product_name,
    clean_text,
    is_null,
    normalised_text,
    parse_price,
    split_of,
)

NEEDED = ("id", "product_name", "category", "product_description", "price", "location")
CLEAN = (
    "id",
    "product_name",
    "product_description",
    "category",
    "main_category",
    "main_category_code",
    "price",
    "location",
    "latitude",
    "longitude",
    "split",
)


def map_distinct(column: pd.Series, function) -> pd.Series:
    """The column with `function` applied, called once for each distinct value."""
    return column.map({value: function(value) for value in column.unique()})


def as_text(value: object) -> str | None:
    """A cell as text, None where it holds nothing or only says so."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    text = clean_text(str(value))
    return None if is_null(text) else text


def texts(products: pd.DataFrame) -> pd.DataFrame:
    """Every column as clean text; nothing where a cell is blank or reads `N/A`, `null`, `None` or `nan`."""
    return pd.DataFrame({name: products[name].map(as_text).astype(object) for name in products.columns})


def latest_of_each_id(products: pd.DataFrame) -> pd.DataFrame:
    """One row for each id: the latest by create_time, then the greater row; sorted by id."""
    columns = [name for name in products.columns if name not in ("id", "create_time")]
    created = products.get("create_time", pd.Series(None, index=products.index, dtype=object))
    order = products.assign(
        create_time=created, _when=pd.to_datetime(created, errors="coerce", utc=True, format="ISO8601")
    )
    order = order.sort_values(["id", "_when", "create_time", *sorted(columns)], na_position="first")
    return products.loc[order.index[~order["id"].duplicated(keep="last")]]


def add_main_category(products: pd.DataFrame) -> pd.DataFrame:
    return products.assign(main_category=map_distinct(products["category"], lambda path: path.split("/")[0].strip()))


def main_categories(products: pd.DataFrame) -> list[str]:
    return sorted(products["main_category"].unique())


def add_place(products: pd.DataFrame) -> tuple[pd.DataFrame, pd.Series]:
    gazetteer = Gazetteer(products["location"])
    places = {location: gazetteer.locate(location) for location in products["location"].unique()}
    found = products["location"].map(places)
    return products.assign(
        latitude=[place.latitude if place else math.nan for place in found],
        longitude=[place.longitude if place else math.nan for place in found],
    ), pd.Series([place.rule if place else None for place in found], index=products.index, dtype=object)


def find_duplicates(products: pd.DataFrame) -> dict[str, str]:
    ordered = products.sort_values("id")
    first = ordered.groupby(["product_name", "product_description", "location"], sort=False)["id"].transform("first")
    return {dropped: kept for dropped, kept in zip(ordered["id"], first, strict=True) if dropped != kept}


def main() -> None:
    parser = argument_parser(__doc__)
    parser.add_argument("--min-price", type=float, default=0.1)
    parser.add_argument("--max-price", type=float, default=10000)
    arguments = parser.parse_args()
    folder = DataFolder(arguments.data_dir)
    started = time.monotonic()
    raw = read_table(folder.products_table, "download_products_table.py", NEEDED)
    if "main_category" in raw:
        raise UserError(f"{folder.products_table} is a table already clean.")
    report = {"rows in": len(raw)}
    products = texts(raw)
    products = latest_of_each_id(products[products["id"].notna()])
    report["ids twice"] = len(raw) - len(products)
    for name in NEEDED:
        report[f"missing {name}"] = int(products[name].isna().sum())
    products = products.dropna(subset=list(NEEDED))
    products["product_name"] = products["product_name"].map(clean_product_name)
    products["product_description"] = products["product_description"].map(clean_description)
    empty = products["product_name"].map(is_null) | products["product_description"].map(is_null)
    report["empty after clean-up"] = int(empty.sum())
    products = products[~empty]
    products["price"] = products["price"].map(parse_price).astype(float)
    good = products["price"].between(arguments.min_price, arguments.max_price)
    report["price set aside"] = int((~good).sum())
    products = products[good]
    duplicates = find_duplicates(products)
    report["duplicates"] = len(duplicates)
    products = products[~products["id"].isin(duplicates)]
    products, rule = add_place(products)
    report["located"] = {name: int((rule == name).sum()) for name in RULES}
    report["not located"] = int(rule.isna().sum())
    products = add_main_category(products[rule.notna()])
    labels = main_categories(products)
    products["main_category_code"] = products["main_category"].map({name: code for code, name in enumerate(labels)})
    products["split"] = [split_of(normalised_text(text)) for text in products["product_description"]]
    kept = set(products["id"])
    duplicates = {a: b for a, b in duplicates.items() if b in kept}
    report["rows out"] = len(products)
    report["splits"] = dict(Counter(products["split"]))
    report["seconds"] = round(time.monotonic() - started, 2)
    with (
        write_whole(folder.main_categories) as categories_file,
        write_whole(folder.duplicates) as duplicates_file,
        write_whole(folder.products_table_clean) as table_file,
    ):
        write_json(categories_file, labels)
        write_json(duplicates_file, duplicates)
        write_table(table_file, products[list(CLEAN)].sort_values("id"))
    write_json(folder.report("clean_tabular"), report)
    print_report(report)


if __name__ == "__main__":
    run(main)
