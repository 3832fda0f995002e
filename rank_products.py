"""The relevant listings to a query: a text, a photo, a listing, or several of them together.

Reads products_table_clean.json, images_table.json, clean_images_<size>/ and checkpoints/ of a data folder; writes
index/product_index.npz there when it is missing or one of those is newer. Prints a table or JSON, and writes a page
with photos with --gallery.

    python rank_products.py --data-dir data/sample --text "oak bookcase" --near "Reading, Berkshire" --within 50
    python rank_products.py --data-dir data/sample --product ID --gallery ranking.html
"""

import argparse
import json
import shutil
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from marketplace.command_line import argument_parser, positive_int, run
from marketplace.data_folder import DataFolder, UserError, check_data_folder, write_whole
from marketplace.listing_text import query_parts
from ranking.gallery import gallery_page, photo_paths
from ranking.index import ProductIndex, Ranker, Ranking, index_path, load_index


def parse_arguments() -> argparse.Namespace:
    parser = argument_parser("Rank the listings by their relevance to a text, a photo, a listing, or all of them.")
    query = parser.add_argument_group("query (at least one)")
    query.add_argument("--text", help="a description of the product")
    query.add_argument("--image", type=Path, metavar="FILE", help="a photo of it")
    query.add_argument("--product", metavar="ID", help="a similar listing")
    parser.add_argument("--name", help="the name that belongs to --text; else its first line")
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
    if chosen.name is not None and chosen.text is None:
        parser.error("--name is the name that belongs to --text: give both")
    if chosen.gallery is not None and chosen.gallery.suffix.lower() not in (".html", ".htm"):
        parser.error("--gallery writes a web page: give a name that ends in .html")
    return chosen


def note(text: str) -> None:
    print(text, file=sys.stderr)


def open_index(folder: DataFolder) -> ProductIndex:
    """The index of a data folder; it is built first where it is missing or stale."""
    start = time.perf_counter()
    index, verb = load_index(folder), "loaded"
    if index is None:
        from ranking.build import build_index

        index, verb = build_index(folder), "built"
        index.save(index_path(folder))
    note(f"index of {len(index):,} listings {verb} in {time.perf_counter() - start:.1f} s.")
    return index


def encoded_query(chosen: argparse.Namespace, folder: DataFolder, index: ProductIndex) -> np.ndarray | None:
    """Unit vector (D,) of the text and the photo of the command line; None without them."""
    if chosen.text is None and chosen.image is None:
        return None
    from marketplace.photos import load_query_photo
    from ranking.build import load_networks, query_vector

    text = None if chosen.text is None else query_parts(chosen.text, chosen.name)
    pixels = None if chosen.image is None else load_query_photo(chosen.image, index.image_size)
    networks = load_networks(folder, text=text is not None, image=pixels is not None)
    return query_vector(networks, index, text, pixels)


def as_record(ranking: Ranking) -> dict[str, Any]:
    """The ranking as plain values; what is None is left out."""
    return asdict(ranking, dict_factory=lambda pairs: {name: value for name, value in pairs if value is not None})


def table(results: Sequence[dict[str, Any]], width: int) -> str:
    """The results as lines of at most `width` characters."""
    with_distance = "distance_km" in results[0]
    category_width, place_width = (24, 20) if width >= 100 else (18, 14)
    heads = f"{'category':<{category_width}} {'place':<{place_width}} {'distance ' if with_distance else ''}name"
    lines = [f"  #  score      price {heads}"]
    for result in results:
        price = f"£{result['price']:,.2f}"
        distance = f"{result['distance_km']:>5.0f} km " if with_distance else ""
        line = (
            f"{result['rank']:>3} {result['score']:>6.3f} {price:>10} "
            f"{result['main_category']:<{category_width}.{category_width}} "
            f"{result['location']:<{place_width}.{place_width}} {distance}{result['product_name']}"
        )
        lines.append("".join(character if character.isprintable() else " " for character in line))
    return "\n".join(line[:width] for line in lines)


def write_gallery(chosen: argparse.Namespace, ranker: Ranker, ranking: Ranking, results: list[dict[str, Any]]) -> None:
    """Write the page with the photos of the query and of the results, whole or not at all."""
    folder, size = ranker.folder, ranker.index.image_size
    photos = [photo_paths(folder, image_ids, size) for image_ids in ranking.photos.values()]
    query_photos = []
    if chosen.image is not None:
        query_photos = [chosen.image]
    elif ranking.product is not None:
        query_photos = photo_paths(folder, ranker.index.photos_of(ranker.row(ranking.product)), size)
    words = (chosen.name, chosen.text, ranking.product_name, chosen.image and chosen.image.name)
    page = gallery_page(", ".join(filter(None, words)), query_photos, results, photos)
    with write_whole(chosen.gallery) as partial:
        partial.write_text(page, encoding="utf-8", errors="replace")
    note(f"page written to {chosen.gallery}.")


def main() -> None:
    chosen = parse_arguments()
    folder = DataFolder(chosen.data_dir)
    check_data_folder(folder.path)
    index = open_index(folder)
    ranker = Ranker(folder, index)

    start = time.perf_counter()
    ranking = ranker.rank(
        vector=encoded_query(chosen, folder, index),
        product=chosen.product,
        category=chosen.category,
        max_price=chosen.max_price,
        near=chosen.near,
        within=chosen.within,
        top=chosen.top,
    )
    milliseconds = 1000 * (time.perf_counter() - start)
    if chosen.product != ranking.product:
        note(f"the listing {chosen.product} is a duplicate of {ranking.product}, which is used instead.")
    record = as_record(ranking)
    if chosen.json:
        print(json.dumps(record, indent=2, allow_nan=False))  # in ASCII, for any stream
    elif ranking.results:
        print(table(record["results"], shutil.get_terminal_size((100, 24)).columns))
    if ranking.message is not None:
        raise UserError(ranking.message)
    if chosen.gallery is not None:
        write_gallery(chosen, ranker, ranking, record["results"])
    if len(ranking.results) < chosen.top:
        note(f"only {len(ranking.results)} of {chosen.top} listings: no more meet the filters.")
    copies = f"; {ranking.hidden_duplicates} near-duplicates not shown" if ranking.hidden_duplicates else ""
    note(f"searched {ranking.searched:,} of {len(index):,} listings in {milliseconds:.0f} ms{copies}.")


if __name__ == "__main__":
    run(main)
