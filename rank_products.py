"""The listings that suit a query: a text, a photo, a listing, or several of them together.

Reads products_table_clean.json, images_table.json, clean_images_<size>/ and checkpoints/ of a data folder; writes
index/product_index.npz there when it is missing or one of those has changed. Prints a table or JSON, and writes a page
with photos with --gallery.

    python rank_products.py --data-dir data/sample --text "oak bookcase" --near "Reading, Berkshire" --within 50
    python rank_products.py --data-dir data/sample --product ID --gallery ranking.html
"""

if __name__ == "__main__":  # before the imports, which take a while: run() answers Ctrl-C meanwhile
    from marketplace.command_line import run

    run("rank_products")

import argparse
import json
import shutil
import sys
import time
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from marketplace.command_line import argument_parser, positive_int
from marketplace.data_folder import DataFolder, UserError, check_data_folder, read_json, write_whole
from marketplace.gazetteer import Gazetteer, distance_km
from ranking.gallery import gallery_page, photo_paths
from ranking.index import ProductIndex, SearchResult, index_path, load_index, unit_rows


def parse_arguments() -> argparse.Namespace:
    parser = argument_parser("Rank the listings by how well they suit a text, a photo, a listing, or all of them.")
    query = parser.add_argument_group("query (at least one)")
    query.add_argument("--text", help="a description of the product")
    query.add_argument("--image", type=Path, metavar="FILE", help="a photo of it")
    query.add_argument("--product", metavar="ID", help="a similar listing")
    parser.add_argument("--top", type=positive_int, default=10, metavar="N", help="number of listings")
    parser.add_argument("--category", help="only this main category, or this path down to a leaf")
    parser.add_argument("--max-price", type=float, metavar="POUNDS", help="only up to this price")
    parser.add_argument("--near", metavar='"Town, County"', help="print the distance from this place")
    parser.add_argument("--within", type=float, metavar="KM", help="only within this distance of --near")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.add_argument("--gallery", type=Path, metavar="FILE.html", help="also write a page with photos")
    chosen = parser.parse_args()
    if chosen.text is None and chosen.image is None and chosen.product is None:
        parser.error("give --text, --image or --product")
    if chosen.within is not None and chosen.near is None:
        parser.error("--within needs --near")
    if chosen.gallery is not None and chosen.gallery.suffix.lower() not in (".html", ".htm"):
        parser.error("--gallery writes a web page: give a name that ends in .html")
    return chosen


def note(text: str) -> None:
    print(text, file=sys.stderr)


def open_index(folder: DataFolder) -> ProductIndex:
    """The index of a data folder; it is built first where it is missing, damaged or stale."""
    start = time.perf_counter()
    try:
        index = load_index(folder)
        note(f"index of {len(index):,} listings loaded in {time.perf_counter() - start:.2f} s.")
    except ValueError as reason:
        from ranking.features import build_index  # loads torch, which takes seconds

        index = build_index(folder)
        try:
            index.save(index_path(folder))
        except OSError as error:  # no right to write there, or a full disk
            note(f"warning: the index is not kept, for {folder.index} cannot be written ({error.strerror}).")
        note(f"index of {len(index):,} listings built in {time.perf_counter() - start:.1f} s because {reason}.")
    return index


def listing_row(folder: DataFolder, index: ProductIndex, listing_id: str) -> int:
    """Row of a listing, or of the one that was kept when it was dropped as a duplicate; raises UserError."""
    ids = index.listings["id"]
    if listing_id in ids:
        return ids.index(listing_id)
    kept_id = read_json(folder.duplicates, "clean_tabular_data.py").get(listing_id)
    if kept_id not in ids:
        raise UserError(f"no listing has the id {listing_id!r}: take one from products_table_clean.json.")
    note(f"the listing {listing_id} is a duplicate of {kept_id}, which is used instead.")
    return ids.index(kept_id)


def distances_from(index: ProductIndex, near: str) -> np.ndarray:
    """Kilometres (N,) of every listing from a place; raises UserError when the place is unknown."""
    place = Gazetteer(index.listings["location"]).locate(near)
    if place is None:
        raise UserError(f"--near: no place is known as {near!r}: write it as in a listing, e.g. 'Reading, Berkshire'.")
    latitudes, longitudes = np.array(index.listings["latitude"]), np.array(index.listings["longitude"])
    return distance_km(place.latitude, place.longitude, latitudes, longitudes)


def in_category(index: ProductIndex, category: str) -> np.ndarray:
    """Mask (N,) of the listings in a main category or below a path, regardless of case.

    Raises UserError, which lists the main categories, when there is none.
    """
    wanted = " / ".join(part.strip() for part in category.split(" / ")).casefold()
    mask = np.array([f"{path} / ".casefold().startswith(f"{wanted} / ") for path in index.listings["category"]])
    if not mask.any():
        names = "; ".join(sorted(set(index.listings["main_category"])))
        raise UserError(f"--category: no listing is in {category!r}: choose one of {names}, or a path below one.")
    return mask


def allowed_listings(index: ProductIndex, chosen: argparse.Namespace, distances: np.ndarray | None) -> np.ndarray:
    """Mask (N,) of the listings that meet the filters of the command line."""
    mask = np.ones(len(index), bool)
    if chosen.category is not None:
        mask &= in_category(index, chosen.category)
    if chosen.max_price is not None:
        mask &= np.array(index.listings["price"]) <= chosen.max_price
    if chosen.within is not None and distances is not None:
        mask &= distances <= chosen.within
    return mask


def query_vector(chosen: argparse.Namespace, folder: DataFolder, index: ProductIndex, row: int | None) -> np.ndarray:
    """Unit vector (D,) of the query: the normalised sum of the vector of text and photo and that of the listing."""
    vectors = [] if row is None else [index.vectors[row]]
    if chosen.text is not None or chosen.image is not None:
        from marketplace.dataset import load_query_photo
        from ranking.features import text_and_photo_vector  # loads torch, which takes seconds

        pixels = None if chosen.image is None else load_query_photo(chosen.image, index.metadata["image_size"])
        vectors.append(text_and_photo_vector(folder, index, chosen.text, pixels))
    return unit_rows(np.sum(vectors, axis=0, keepdims=True))[0]


def result_records(index: ProductIndex, found: SearchResult, distances: np.ndarray | None) -> list[dict[str, Any]]:
    """What is printed of each listing found, best first; `distance_km` only with --near."""
    records = []
    for rank, (row, score) in enumerate(zip(found.rows, found.scores, strict=True), start=1):
        record = {"rank": rank, "id": index.listings["id"][row], "score": round(score, 4)}
        for name in ("product_name", "main_category", "category", "price", "location"):
            record[name] = index.listings[name][row]
        if distances is not None:
            record["distance_km"] = round(float(distances[row]), 1)
        records.append(record)
    return records


def table(results: Sequence[dict[str, Any]], width: int) -> str:
    """The results as lines of at most `width` columns of a terminal."""
    with_distance = "distance_km" in results[0]
    category_width, place_width = (24, 20) if width >= 100 else (18, 14)
    heads = f"{'category':<{category_width}} {'place':<{place_width}} {'distance ' if with_distance else ''}name"
    lines = [f"  #  score      price {heads}"]
    for result in results:
        price = f"£{result['price']:,.2f}"
        distance = f"{result['distance_km']:>5.0f} km " if with_distance else ""
        lines.append(
            f"{result['rank']:>3} {result['score']:>6.3f} {price:>10} "
            f"{result['main_category']:<{category_width}.{category_width}} "
            f"{result['location']:<{place_width}.{place_width}} {distance}{result['product_name']}"
        )
    return "\n".join(fitted(line, width) for line in lines)


def fitted(line: str, width: int) -> str:
    """A line without control characters, cut to `width` columns of a terminal; wide characters take two of them."""
    line = "".join(character if character.isprintable() else " " for character in line)
    ends = np.cumsum([2 if unicodedata.east_asian_width(character) in "WF" else 1 for character in line])
    return line[: np.searchsorted(ends, width, side="right")]


def write_gallery(
    chosen: argparse.Namespace, folder: DataFolder, index: ProductIndex, row: int | None, found: SearchResult, results
) -> None:
    """Write the page with the photos of the query and of the results, whole or not at all."""
    size = index.metadata["image_size"]
    photos = [photo_paths(folder, index.listings["photos"][found_row], size) for found_row in found.rows]
    query_photos = [] if row is None else photo_paths(folder, index.listings["photos"][row], size)
    if chosen.image is not None:
        query_photos = [chosen.image]
    page = gallery_page(query_description(chosen, index, row), query_photos, results, photos)
    with write_whole(chosen.gallery) as partial:
        partial.write_text(page, encoding="utf-8", errors="replace")
    note(f"page written to {chosen.gallery}.")


def query_description(chosen: argparse.Namespace, index: ProductIndex, row: int | None) -> str:
    """The query and its filters in one line."""
    parts = {
        "{}": chosen.text,
        "like “{}”": None if row is None else index.listings["product_name"][row],
        "like {}": chosen.image and chosen.image.name,
        "in {}": chosen.category,
        "up to £{:,.2f}": chosen.max_price,
        "within {}": chosen.within and f"{chosen.within:g} km of {chosen.near}",
    }
    return ", ".join(form.format(value) for form, value in parts.items() if value is not None)


def main() -> None:
    chosen = parse_arguments()
    if chosen.text is not None and not chosen.text.strip():
        raise UserError("--text is empty: describe the product in words.")
    folder = DataFolder(chosen.data_dir)
    check_data_folder(folder.path)
    index = open_index(folder)
    row = None if chosen.product is None else listing_row(folder, index, chosen.product)
    distances = None if chosen.near is None else distances_from(index, chosen.near)
    allowed = allowed_listings(index, chosen, distances)
    query = query_vector(chosen, folder, index, row)

    start = time.perf_counter()
    found = index.search(query, chosen.top, allowed, exclude=row)
    milliseconds = 1000 * (time.perf_counter() - start)
    results = result_records(index, found, distances)
    if not results:
        raise UserError("no listing meets these filters: allow a higher price, a wider circle or another category.")
    if chosen.gallery is not None:
        write_gallery(chosen, folder, index, row, found, results)
    if chosen.json:
        print(json.dumps({"results": results}, indent=2, allow_nan=False))  # in ASCII, for any stream
    else:
        print(table(results, shutil.get_terminal_size((100, 24)).columns))
    if len(results) < chosen.top:
        note(f"only {len(results)} of {chosen.top} listings: no more meet the filters.")
    copies = f"; {found.collapsed} near-duplicates not shown" if found.collapsed else ""
    note(f"searched {int(allowed.sum()):,} of {len(index):,} listings in {milliseconds:.0f} ms{copies}.")
