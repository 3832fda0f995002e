"""The listings that suit a query: a text, a photo, a listing, or several of them together.

Reads products_table_clean.json, images_table.json, clean_images_<size>/ and checkpoints/ of a data folder; writes
index/product_index.npz there, once, and again whenever one of those has changed. Prints a table, or JSON, and writes
a gallery page where one is asked for.

    python rank_products.py --data-dir data/sample --text "oak bookcase" --near "Reading, Berkshire" --within 50
    python rank_products.py --data-dir data/sample --product ID --gallery ranking.html
"""

# ruff: noqa: E402 (the time of the whole command includes that of the imports)
import time

START = time.perf_counter()

import argparse
import json
import math
import shutil
import sys
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from marketplace.command_line import argument_parser, positive_int, run
from marketplace.data_folder import DataFolder, UserError, check_data_folder, read_json
from marketplace.dataset import load_query_photo
from marketplace.gazetteer import Gazetteer, distance_km
from ranking.gallery import gallery_page, photo_data_url, photo_paths, write_gallery
from ranking.index import ProductIndex, SearchResult
from ranking.index_builder import open_index, query_vector


def positive_number(text: str) -> float:
    """Argument type: a finite number above 0."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not (math.isfinite(value) and value > 0):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number above 0")
    return value


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argument_parser("Rank the listings by how well they suit a text, a photo, a listing, or all of them.")
    query = parser.add_argument_group("query (at least one)")
    query.add_argument("--text", help="what is looked for, in words")
    query.add_argument("--image", type=Path, metavar="FILE", help="a photo of it")
    query.add_argument("--product", metavar="ID", help="a listing that it is like")
    parser.add_argument("--top", type=positive_int, default=10, metavar="N", help="how many listings")
    parser.add_argument("--category", help="only this main category, or this path down to a leaf")
    parser.add_argument("--max-price", type=positive_number, metavar="POUNDS", help="only up to this price")
    parser.add_argument("--near", metavar='"Town, County"', help="the place that distances are counted from")
    parser.add_argument("--within", type=positive_number, metavar="KM", help="only so far from --near")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.add_argument("--gallery", type=Path, metavar="FILE.html", help="write a page with photos, too")
    chosen = parser.parse_args(arguments)
    if chosen.text is None and chosen.image is None and chosen.product is None:
        parser.error("give --text, --image or --product")
    if chosen.within is not None and chosen.near is None:
        parser.error("--within needs --near")
    if chosen.gallery is not None and chosen.gallery.suffix.lower() not in (".html", ".htm"):
        parser.error("--gallery writes a web page: give a name that ends in .html")
    return chosen


def distances_from(index: ProductIndex, near: str) -> np.ndarray:
    """Kilometres (N,) of every listing from a place; raises UserError when the place is unknown."""
    place = Gazetteer(index.listings["location"]).locate(near)
    if place is None:
        raise UserError(f"--near: no place is known as {near!r}: write it as in a listing, e.g. 'Reading, Berkshire'.")
    return distance_km(place.latitude, place.longitude, index.column("latitude"), index.column("longitude"))


def in_category(index: ProductIndex, category: str) -> np.ndarray:
    """Which listings (N,) are in a main category or below a path; capitals do not matter.

    Raises UserError, which lists the main categories, when there is none.
    """
    wanted = " / ".join(part.strip() for part in category.split(" / ")).casefold()
    paths = [path.casefold() for path in index.listings["category"]]
    mask = np.array([path == wanted or path.startswith(wanted + " / ") for path in paths], bool)
    if not mask.any():
        names = "; ".join(sorted(set(index.listings["main_category"])))
        raise UserError(f"--category: no listing is in {category!r}: choose one of {names}, or a path below one.")
    return mask


def allowed_listings(index: ProductIndex, chosen: argparse.Namespace, distances: np.ndarray | None) -> np.ndarray:
    """Which listings (N,) meet the filters of the command line."""
    mask = np.ones(len(index), bool)
    if chosen.category is not None:
        mask &= in_category(index, chosen.category)
    if chosen.max_price is not None:
        mask &= index.column("price") <= chosen.max_price
    if chosen.within is not None:
        mask &= distances <= chosen.within
    return mask


def result_records(index: ProductIndex, found: SearchResult, distances: np.ndarray | None) -> list[dict[str, Any]]:
    """What is printed of each listing found, best first; `distance_km` only where a place was given."""
    records = []
    for rank, (row, score) in enumerate(zip(found.rows, found.scores, strict=True), start=1):
        record = {"rank": rank, "id": index.listings["id"][row], "score": round(score, 4)}
        for name in ("product_name", "main_category", "category", "price", "location"):
            record[name] = index.listings[name][row]
        if distances is not None:
            record["distance_km"] = round(float(distances[row]), 1)
        records.append(record)
    return records


def cell(text: str, width: int) -> str:
    """A text on exactly `width` columns of a terminal: wide characters take two, what does not print takes none."""
    text = " ".join("".join(character if character.isprintable() else " " for character in text).split())
    columns = [
        0 if unicodedata.combining(character) else 2 if unicodedata.east_asian_width(character) in "WF" else 1
        for character in text
    ]
    if sum(columns) > width:
        kept = 0
        while kept < len(text) and sum(columns[: kept + 1]) <= width - 1:
            kept += 1
        text, columns = text[:kept] + "…", [*columns[:kept], 1]
    return text + " " * (width - sum(columns))


def table_lines(results: Sequence[dict[str, Any]], width: int) -> list[str]:
    """The results as lines of at most `width` columns (at least 80); the name gets what the others leave."""
    with_distance = any("distance_km" in result for result in results)
    width = max(80, width)
    category_width, place_width = (18, 14) if width < 100 else (26, 22)
    name_width = width - 1 - (4 + 7 + category_width + 11 + place_width + 2) - (9 if with_distance else 0)
    heads = [cell("#", 3), " score", cell("name", name_width), cell("category", category_width), f"{'price':>10}"]
    lines = [" ".join([*heads, cell("place", place_width)]) + (f"{'distance':>9}" if with_distance else "")]
    for result in results:
        cells = [
            f"{result['rank']:>3}",
            f"{result['score']:>6.3f}",
            cell(result["product_name"], name_width),
            cell(result["main_category"], category_width),
            f"{'£' + format(result['price'], ',.2f'):>10}",
            cell(result["location"], place_width),
        ]
        distance = f"{result['distance_km']:>6.0f} km" if with_distance else ""
        lines.append((" ".join(cells) + distance).rstrip())
    return lines


def kept_listing(folder: DataFolder, index: ProductIndex, product: str) -> str:
    """The id of a listing, or that of the listing which was kept when it was left out as its duplicate."""
    if product in index.row_of:
        return product
    kept = read_json(folder.duplicates, "clean_tabular_data.py").get(product, product)
    if kept != product:
        print(f"the listing {product} is a duplicate of {kept}, which stands for both.", file=sys.stderr)
    return kept


def gallery_of(
    chosen: argparse.Namespace,
    folder: DataFolder,
    index: ProductIndex,
    found: SearchResult,
    results: list[dict[str, Any]],
) -> str:
    """The gallery page of a ranking."""
    size = index.about["image_size"]

    def first_photo(row: int) -> str | None:
        return photo_data_url(photo_paths(folder, index.listings["photos"][row], size))

    photo = photo_data_url([chosen.image]) if chosen.image else None
    asked = [chosen.text.strip()] if chosen.text else []
    if chosen.product:
        row = index.row(chosen.product)
        asked.append(f"like “{index.listings['product_name'][row]}”")
        photo = photo or first_photo(row)
    if chosen.category:
        asked.append(f"in {chosen.category}")
    if chosen.max_price:
        asked.append(f"up to £{chosen.max_price:,.2f}")
    if chosen.within:
        asked.append(f"within {chosen.within:g} km of {chosen.near}")
    text = "; ".join(asked) or "like the photo"
    photos = [first_photo(row) for row in found.rows]
    heading = "1 listing that suits" if len(results) == 1 else f"{len(results)} listings that suit"
    return gallery_page(heading, text, photo, results, photos)


def main() -> None:
    chosen = parse_arguments()
    if chosen.text is not None and not chosen.text.strip():
        raise UserError("--text is empty: say in words what is looked for.")
    if any("\ud800" <= character <= "\udfff" for character in chosen.text or ""):
        raise UserError("--text holds bytes that are no characters: check the encoding of the terminal.")
    check_data_folder(chosen.data_dir)
    folder = DataFolder(chosen.data_dir)
    index, notes = open_index(folder)
    for note in notes:
        print(note, file=sys.stderr)
    if chosen.product is not None:
        chosen.product = kept_listing(folder, index, chosen.product)
    row = None if chosen.product is None else index.row(chosen.product)
    pixels = None if chosen.image is None else load_query_photo(chosen.image, index.about["image_size"])
    distances = None if chosen.near is None else distances_from(index, chosen.near)
    allowed = allowed_listings(index, chosen, distances)
    query = query_vector(folder, index, chosen.text, pixels, row)

    started = time.perf_counter()
    found = index.search(query, chosen.top, allowed, left_out=[] if row is None else [row])
    seconds = time.perf_counter() - started
    results = result_records(index, found, distances)
    if not results:
        raise UserError("no listing meets these filters: allow a higher price, a wider circle or another category.")
    if chosen.gallery is not None:
        write_gallery(chosen.gallery, gallery_of(chosen, folder, index, found, results))
        print(f"page written to {chosen.gallery}.", file=sys.stderr)
    if chosen.json:
        print(json.dumps({"results": results}, indent=2, ensure_ascii=False))
    else:
        print("\n".join(table_lines(results, shutil.get_terminal_size((100, 24)).columns)))
    if len(results) < chosen.top:
        print(f"only {len(results)} listings can be shown, {chosen.top} were asked for.", file=sys.stderr)
    copies = f"; {found.collapsed} further copies of listings not shown" if found.collapsed else ""
    whole = time.perf_counter() - START
    print(
        f"searched {int(allowed.sum()):,} of {len(index):,} listings in {seconds * 1000:.0f} ms, "
        f"whole command {whole:.1f} s{copies}.",
        file=sys.stderr,
    )


if __name__ == "__main__":
    run(main)
