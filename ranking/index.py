"""The search among the unit vectors of the listings, the file that holds them, and the answers to queries."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import faiss
import numpy as np

from marketplace.data_folder import DataFolder, QueryError, read_json, write_whole
from marketplace.gazetteer import Gazetteer, distance_km
from ranking.quality import best_columns

VERSION = 4  # of the file format
EXACT_LIMIT = 100_000
TARGET_RECALL = 0.95
RECALL_QUERIES = 200
TRAINING_VECTORS_PER_LIST = 40  # FAISS warns below 39
MINIMUM_CANDIDATES = 100
SCORE_DECIMALS = 5  # the matrix product gives equal vectors scores that differ by rounding errors
NOTHING = "no listing meets these filters: allow a higher price, a wider circle or another category."


def unit_rows(vectors: np.ndarray) -> np.ndarray:
    """The rows (N, D) scaled to length 1, float32; rows of zeros and of NaN become zeros."""
    vectors = np.nan_to_num(np.asarray(vectors, dtype=np.float32), nan=0.0)
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.divide(vectors, lengths, out=np.zeros_like(vectors), where=lengths > 1e-12)


def build_inverted_file(vectors: np.ndarray) -> tuple[faiss.IndexIVF, float]:
    """A FAISS inverted file of unit vectors (N, D) float32, and its recall of the ten nearest neighbours.

    The number of probed lists doubles until the candidates hold TARGET_RECALL of the ten exact nearest neighbours.
    """
    count, dimension = vectors.shape
    lists = max(1, min(int(4 * np.sqrt(count)), count // TRAINING_VECTORS_PER_LIST))
    inverted_file: Any = faiss.index_factory(dimension, f"IVF{lists},SQ8", faiss.METRIC_INNER_PRODUCT)
    inverted_file.cp.max_points_per_centroid = TRAINING_VECTORS_PER_LIST
    inverted_file.train(vectors)
    inverted_file.add(vectors)
    queries = vectors[np.random.default_rng(0).choice(count, min(count, RECALL_QUERIES), replace=False)]
    exact = faiss.knn(queries, vectors, min(10, count), metric=faiss.METRIC_INNER_PRODUCT)[1]
    inverted_file.nprobe = 1
    while True:
        candidates = inverted_file.search(queries, MINIMUM_CANDIDATES)[1]
        recall = np.mean([np.isin(wanted, found).mean() for wanted, found in zip(exact, candidates, strict=True)])
        if recall >= TARGET_RECALL or inverted_file.nprobe == lists:
            return inverted_file, float(recall)
        inverted_file.nprobe = min(lists, 2 * inverted_file.nprobe)


@dataclass
class SearchResult:
    """Rows of the index with their scores, best first, and the number of near-duplicates that are not shown."""

    rows: list[int]
    scores: list[float]
    collapsed: int


@dataclass
class ProductIndex:
    """Unit vectors of listings, and what is needed to show and filter them.

    `listings` holds columns of equal length, among them `id` and `duplicate_keys`, a list of whole numbers for each
    listing: two listings that share a number are near-duplicates. `space` holds the arrays of
    `ranking.vectors.VectorSpace`, `metadata` plain values.
    """

    vectors: np.ndarray  # (N, D) float32
    listings: dict[str, list[Any]]
    space: dict[str, np.ndarray]
    metadata: dict[str, Any]
    inverted_file: faiss.IndexIVF | None = None

    def __len__(self) -> int:
        return len(self.vectors)

    def search(
        self, query: np.ndarray, top: int = 10, allowed: np.ndarray | None = None, exclude: int | None = None
    ) -> SearchResult:
        """The `top` listings with the greatest inner product with the unit vector `query` (D,), best first.

        `allowed` (N,) bool is True for listings that may be shown. The listing in row `exclude`, its near-duplicates
        and near-duplicates of a better result are not shown. There are fewer than `top` results only if no more such
        listings exist. Equal scores keep the order of the rows.
        """
        mask = np.ones(len(self), bool) if allowed is None else allowed.copy()
        if exclude is not None:
            mask[exclude] = False
        if self.inverted_file is not None:
            rows = np.sort(self.inverted_file.search(query[None], max(MINIMUM_CANDIDATES, 10 * top))[1][0])
            rows = rows[rows >= 0]  # FAISS fills up with -1
            rows = rows[mask[rows]]
            result = self._best(rows, self.vectors[rows] @ query, top, exclude)
            if len(result.rows) == top:
                return result
        rows = np.flatnonzero(mask)
        return self._best(rows, (self.vectors @ query)[rows], top, exclude)

    def _best(self, rows: np.ndarray, scores: np.ndarray, top: int, exclude: int | None) -> SearchResult:
        """The `top` best of `rows` (ascending) without near-duplicates; sorts all of them only if it must."""
        scores = np.round(scores, SCORE_DECIMALS)
        for count in (2 * top + 10, len(rows)):
            order = best_columns(scores[None], count)[0]
            result = self._without_duplicates(rows[order].tolist(), scores[order].tolist(), top, exclude)
            if len(result.rows) == top:
                break
        return result

    def _without_duplicates(self, rows: list[int], scores: list[float], top: int, exclude: int | None) -> SearchResult:
        keys_of = self.listings["duplicate_keys"]
        seen = set() if exclude is None else set(keys_of[exclude])
        result = SearchResult([], [], 0)
        for row, score in zip(rows, scores, strict=True):
            if len(result.rows) == top:
                break
            if seen.isdisjoint(keys_of[row]):
                seen.update(keys_of[row])
                result.rows.append(row)
                result.scores.append(score)
            else:
                result.collapsed += 1
        return result

    def save(self, path: Path) -> None:
        """Write everything into one .npz file, whole or not at all, without pickle."""
        arrays: dict[str, Any] = {f"space {name}": array for name, array in self.space.items()}
        arrays |= {"version": VERSION, "vectors": self.vectors}
        for name, value in (("listings", self.listings), ("metadata", self.metadata)):
            arrays[name] = np.frombuffer(json.dumps(value).encode(), np.uint8)
        if self.inverted_file is not None:
            arrays["inverted_file"] = faiss.serialize_index(self.inverted_file)
        with write_whole(path) as partial, open(partial, "wb") as file:
            np.savez(file, **arrays)

    @classmethod
    def load(cls, path: Path) -> "ProductIndex":
        """Read what `save` wrote; raises ValueError with the reason when the file is damaged or of another version."""
        try:
            with open(path, "rb") as raw, np.load(raw, allow_pickle=False) as file:  # np.load leaves a broken file open
                content = dict(file)
        except Exception:  # a damaged file fails in many ways
            raise ValueError("the old one is damaged") from None
        if content.get("version") != VERSION:
            raise ValueError("the old one is of another version")
        inverted_file: Any = None
        if "inverted_file" in content:
            inverted_file = faiss.deserialize_index(content["inverted_file"])
        return cls(
            content["vectors"],
            json.loads(content["listings"].tobytes()),
            {name.removeprefix("space "): content[name] for name in content if name.startswith("space ")},
            json.loads(content["metadata"].tobytes()),
            inverted_file,
        )


def index_path(folder: DataFolder) -> Path:
    return folder.index / "product_index.npz"


def fingerprint(folder: DataFolder, image_size: int) -> dict[str, list[int] | None]:
    """Size and modification time (ns) of each file that an index is made from; None for a missing one."""
    sources = {
        "table": folder.products_table_clean,
        "table of photos": folder.images_table,
        "photos": folder.clean_images_manifest(image_size),
        "text model": folder.checkpoints / "text_model_best.pt",
        "image model": folder.checkpoints / "image_model_best.pt",
    }
    status = {name: path.stat() if path.exists() else None for name, path in sources.items()}
    return {name: found and [found.st_size, found.st_mtime_ns] for name, found in status.items()}


def load_index(folder: DataFolder) -> ProductIndex:
    """The index of a data folder; raises ValueError with the reason when it must be built first."""
    path = index_path(folder)
    if not path.exists():
        raise ValueError("there was none")
    index = ProductIndex.load(path)
    before, now = index.metadata["fingerprint"], fingerprint(folder, index.metadata["image_size"])
    changed = [name for name in now if now[name] != before[name]]
    if changed:
        raise ValueError(f"the {' and the '.join(changed)} changed since the old one was built")
    return index


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
