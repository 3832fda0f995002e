"""Answers to queries: the filters, the search in the index, and what is said of each listing found.

Loads NumPy and FAISS only: the vector of a text or a photo is made in `ranking.features`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from marketplace.data_folder import DataFolder, QueryError, read_json
from marketplace.gazetteer import Gazetteer, distance_km
from ranking.index import ProductIndex, unit_rows

NOTHING = "no listing meets these filters: allow a higher price, a wider circle or another category."


@dataclass(frozen=True)
class Filters:
    """Which listings may be shown; None for all."""

    category: str | None = None  # a main category, or a path down to a leaf, regardless of case
    max_price: float | None = None  # pounds
    near: str | None = None  # "Town, County", from which distances are measured
    within: float | None = None  # kilometres from `near`


@dataclass(frozen=True)
class RankedListing:
    """A listing found."""

    rank: int  # from 1
    id: str
    score: float  # inner product of the unit vectors
    product_name: str
    main_category: str
    category: str
    price: float  # pounds
    location: str
    distance_km: float | None  # from `Filters.near`; None without it


@dataclass(frozen=True)
class Ranking:
    """The answer to a query."""

    results: list[RankedListing]  # best first
    photos: dict[str, list[str]]  # ids of the photos of each of them, by its id
    product: str | None  # id of the listing that was asked for, or of the one that was kept in the place of a duplicate
    product_name: str | None  # and its name
    searched: int  # number of listings that meet the filters
    near_duplicates: int  # number of listings that are not shown because they are near-duplicates of others
    message: str | None  # why there are no results


class Ranker:
    """Ranks the listings of an index. Nothing changes after the start, so several threads may use one."""

    def __init__(self, folder: DataFolder, index: ProductIndex):
        self.folder, self.index = folder, index
        self.row_of = {listing_id: row for row, listing_id in enumerate(index.listings["id"])}

    @cached_property
    def gazetteer(self) -> Gazetteer:
        return Gazetteer(self.index.listings["location"])

    @cached_property
    def kept_id(self) -> dict[str, str]:
        """The id of the listing that was kept, by that of its dropped duplicate."""
        return read_json(self.folder.duplicates, "clean_tabular_data.py")

    def rank(
        self,
        product: str | None,
        make_vector: Callable[[], np.ndarray] | None,
        filters: Filters = Filters(),
        top: int = 10,
    ) -> Ranking:
        """The `top` listings that suit best.

        `product` is the id of a listing, `make_vector` gives the unit vector (D,) of a text and a photo; of both the
        normalised sum counts. It is called when all else is right, for it takes the longest.

        Raises QueryError when the listing, the place or the category is unknown.
        """
        row = None if product is None else self.row(product)
        distances = None if filters.near is None else self.distances_from(filters.near)
        allowed = self.allowed(filters, distances)
        vectors = [] if row is None else [self.index.vectors[row]]
        if make_vector is not None:
            vectors.append(make_vector())
        query = unit_rows(np.sum(vectors, axis=0, keepdims=True))[0]
        found = self.index.search(query, top, allowed, exclude=row)
        listings = self.index.listings
        return Ranking(
            [
                self.listing(found_row, rank, score, distances)
                for rank, (found_row, score) in enumerate(zip(found.rows, found.scores, strict=True), start=1)
            ],
            {listings["id"][found_row]: listings["photos"][found_row] for found_row in found.rows},
            None if row is None else listings["id"][row],
            None if row is None else listings["product_name"][row],
            int(allowed.sum()),
            found.collapsed,
            None if found.rows else NOTHING,
        )

    def row(self, listing_id: str) -> int:
        """Row of a listing, or of the one that was kept when it was dropped as a duplicate; raises QueryError."""
        row = self.row_of.get(listing_id)
        if row is None:
            row = self.row_of.get(self.kept_id.get(listing_id, ""))
        if row is None:
            raise QueryError(f"no listing has the id {listing_id!r}: take one from products_table_clean.json.")
        return row

    def distances_from(self, near: str) -> np.ndarray:
        """Kilometres (N,) of every listing from a place; raises QueryError when the place is unknown."""
        place = self.gazetteer.locate(near)
        if place is None:
            raise QueryError(f"no place is known as {near!r}: write it as in a listing, e.g. 'Reading, Berkshire'.")
        latitudes, longitudes = np.array(self.index.listings["latitude"]), np.array(self.index.listings["longitude"])
        return distance_km(place.latitude, place.longitude, latitudes, longitudes)

    def in_category(self, category: str) -> np.ndarray:
        """Mask (N,) of the listings in a main category or below a path, regardless of case.

        Raises QueryError, which lists the main categories, when there is none.
        """
        wanted = " / ".join(part.strip() for part in category.split(" / ")).casefold()
        paths = self.index.listings["category"]
        mask = np.array([f"{path} / ".casefold().startswith(f"{wanted} / ") for path in paths])
        if not mask.any():
            names = "; ".join(sorted(set(self.index.listings["main_category"])))
            raise QueryError(f"no listing is in {category!r}: choose one of {names}, or a path below one.")
        return mask

    def allowed(self, filters: Filters, distances: np.ndarray | None) -> np.ndarray:
        """Mask (N,) of the listings that meet the filters."""
        mask = np.ones(len(self.index), bool)
        if filters.category is not None:
            mask &= self.in_category(filters.category)
        if filters.max_price is not None:
            mask &= np.array(self.index.listings["price"]) <= filters.max_price
        if filters.within is not None and distances is not None:
            mask &= distances <= filters.within
        return mask

    def listing(self, row: int, rank: int, score: float, distances: np.ndarray | None) -> RankedListing:
        """What is said of the listing in `row`."""
        names = ("product_name", "main_category", "category", "price", "location")
        distance = None if distances is None else round(float(distances[row]), 1)
        return RankedListing(
            rank=rank,
            id=self.index.listings["id"][row],
            score=round(score, 4),
            distance_km=distance,
            **{name: self.index.listings[name][row] for name in names},
        )
