"""The search among the unit vectors of the listings, the file that holds them, and the answers to queries."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import faiss
import numpy as np

from marketplace.data_folder import DataFolder, QueryError, read_json, write_whole
from marketplace.gazetteer import distance_km, locate

COLUMNS = ("id", "product_name", "category", "main_category", "price", "location", "latitude", "longitude")
SHOWN = COLUMNS[:-2]
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
    lengths = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return np.divide(vectors, lengths, out=np.zeros_like(vectors), where=lengths > 1e-12)


def build_inverted_file(vectors: np.ndarray) -> faiss.IndexIVF:
    """A FAISS inverted file of unit vectors (N, D) float32.

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
        recall = np.mean([np.isin(wanted, rows).mean() for wanted, rows in zip(exact, candidates, strict=True)])
        if recall >= TARGET_RECALL or inverted_file.nprobe == lists:
            return inverted_file
        inverted_file.nprobe = min(lists, 2 * inverted_file.nprobe)


@dataclass
class SearchResult:
    """Rows of the index with their scores, best first, and the number of near-duplicates that are not shown."""

    rows: list[int]
    scores: list[float]
    hidden_duplicates: int


@dataclass
class ProductIndex:
    """Unit vectors of N listings, and what is needed to show and filter them.

    Near-duplicates share a key; `space` holds the arrays of `ranking.vectors.VectorSpace`.
    """

    vectors: np.ndarray  # (N, D) float32
    listings: dict[str, list[Any]]  # N values of each of COLUMNS
    keys: np.ndarray  # (K,) int64
    key_rows: np.ndarray  # (K,) int64, ascending: the listing of each key
    image_ids: np.ndarray  # (P,) text
    image_rows: np.ndarray  # (P,) int64, ascending: the listing of each photo
    image_size: int  # pixels of a photo's side
    space: dict[str, np.ndarray]
    inverted_file: faiss.IndexIVF | None = None

    def __len__(self) -> int:
        return len(self.vectors)

    def keys_of(self, row: int) -> list[int]:
        return self.keys[slice(*np.searchsorted(self.key_rows, (row, row + 1)))].tolist()

    def photos_of(self, row: int) -> list[str]:
        return self.image_ids[slice(*np.searchsorted(self.image_rows, (row, row + 1)))].tolist()

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
        """The `top` best of `rows` (ascending) without near-duplicates."""
        scores = np.round(scores, SCORE_DECIMALS)
        order = np.argsort(-scores, kind="stable")
        seen = set() if exclude is None else set(self.keys_of(exclude))
        result = SearchResult([], [], 0)
        for place in order:
            if len(result.rows) == top:
                break
            row, score = int(rows[place]), float(scores[place])
            keys = self.keys_of(row)
            if seen.isdisjoint(keys):
                seen.update(keys)
                result.rows.append(row)
                result.scores.append(score)
            else:
                result.hidden_duplicates += 1
        return result

    def save(self, path: Path) -> None:
        """Write the arrays into one .npz file, whole or not at all; the listings stay in the clean table."""
        arrays: dict[str, Any] = {name: value for name, value in vars(self).items() if isinstance(value, np.ndarray)}
        arrays |= {f"space {name}": array for name, array in self.space.items()}
        arrays |= {"ids": np.array(self.listings["id"]), "image_size": np.array(self.image_size)}
        if self.inverted_file is not None:
            arrays["inverted_file"] = faiss.serialize_index(self.inverted_file)
        with write_whole(path) as partial, open(partial, "wb") as file:
            np.savez(file, **arrays)


def index_path(folder: DataFolder) -> Path:
    return folder.index / "product_index.npz"


def load_index(folder: DataFolder) -> ProductIndex | None:
    """The index of a data folder; None when it must be made: it is missing, cannot be read, holds other listings than
    the clean table, or is older than a file that it is made from."""
    path = index_path(folder)
    try:
        with open(path, "rb") as raw, np.load(raw, allow_pickle=False) as file:  # np.load leaves a broken file open
            arrays = dict(file)
        image_size, ids = int(arrays.pop("image_size")), arrays.pop("ids")
        space = {name.removeprefix("space "): arrays.pop(name) for name in [*arrays] if name.startswith("space ")}
        if "inverted_file" in arrays:
            arrays["inverted_file"] = faiss.deserialize_index(arrays["inverted_file"])
        index = ProductIndex(listings={}, image_size=image_size, space=space, **arrays)
    except Exception:  # a damaged file, or one of another version, fails in many ways
        return None
    sources = [folder.products_table_clean, folder.images_table, folder.clean_images_manifest(image_size)]
    sources += [folder.checkpoint("text"), folder.checkpoint("image")]
    made = path.stat().st_mtime_ns
    if any(source.exists() and source.stat().st_mtime_ns > made for source in sources):
        return None
    listings = read_json(folder.products_table_clean, "clean_tabular_data.py")
    listings.sort(key=lambda listing: listing["id"])
    index.listings = {name: [listing[name] for listing in listings] for name in COLUMNS}
    return index if ids.tolist() == index.listings["id"] else None


@dataclass(frozen=True)
class RankedListing:
    """A listing of the answer."""

    rank: int  # from 1
    id: str
    score: float  # inner product of the unit vectors
    product_name: str
    main_category: str
    category: str
    price: float  # pounds
    location: str
    distance_km: float | None  # from the place `near`; None without it


@dataclass(frozen=True)
class Ranking:
    """The answer to a query."""

    results: list[RankedListing]  # best first
    photos: dict[str, list[str]]  # ids of the photos of each of them, by its id
    product: str | None  # id of the listing that was asked for, or of the one that was kept in the place of a duplicate
    product_name: str | None  # and its name
    searched: int  # number of listings that meet the filters
    hidden_duplicates: int  # number of listings that are not shown because they are near-duplicates of others
    message: str | None  # why there are no results


class Ranker:
    """Ranks the listings of an index."""

    def __init__(self, folder: DataFolder, index: ProductIndex):
        self.folder, self.index = folder, index
        self.row_of = {listing_id: row for row, listing_id in enumerate(index.listings["id"])}

    @cached_property
    def kept_id(self) -> dict[str, str]:
        """The id of the listing that was kept, by that of its dropped duplicate."""
        return read_json(self.folder.duplicates, "clean_tabular_data.py")

    def rank(
        self,
        *,
        vector: np.ndarray | None = None,
        product: str | None = None,
        category: str | None = None,
        max_price: float | None = None,
        near: str | None = None,
        within: float | None = None,
        top: int = 10,
    ) -> Ranking:
        """The `top` most relevant listings to a unit vector (D,) of a text and a photo, to the listing with the id
        `product`, or to the normalised sum of both.

        Only listings in `category` (a main category, or a path down to a leaf, regardless of case), up to `max_price`
        pounds and `within` kilometres from the place `near` ("Town, County") are shown.

        Raises QueryError when there is no query, and when the listing, the place or the category is unknown.
        """
        row = None if product is None else self.row(product)
        vectors = [self.index.vectors[row]] if row is not None else []
        vectors += [vector] if vector is not None else []
        if not vectors:
            raise QueryError("a text, a photo or a product is required.")
        distances = None
        if near is not None:
            place = locate(near)
            if place is None:
                raise QueryError(f"the place {near!r} is unknown: write it as in a listing, e.g. 'Reading, Berkshire'.")
            degrees = [np.array(self.index.listings[name]) for name in ("latitude", "longitude")]
            distances = distance_km(place.latitude, place.longitude, *degrees)  # (N,)
        allowed = self.allowed(category, max_price, distances, within)
        result = self.index.search(unit_rows(np.sum(vectors, axis=0)), top, allowed, exclude=row)
        listings = self.index.listings
        results = [
            RankedListing(
                rank=rank,
                score=round(score, 4),
                distance_km=None if distances is None else round(float(distances[row]), 1),
                **{name: listings[name][row] for name in SHOWN},
            )
            for rank, (row, score) in enumerate(zip(result.rows, result.scores, strict=True), start=1)
        ]
        return Ranking(
            results=results,
            photos={listings["id"][place]: self.index.photos_of(place) for place in result.rows},
            product=None if row is None else listings["id"][row],
            product_name=None if row is None else listings["product_name"][row],
            searched=int(allowed.sum()),
            hidden_duplicates=result.hidden_duplicates,
            message=None if result.rows else NOTHING,
        )

    def row(self, listing_id: str) -> int:
        """Row of a listing, or of the one that was kept when it was dropped as a duplicate; raises QueryError."""
        row = self.row_of.get(listing_id)
        if row is None:
            row = self.row_of.get(self.kept_id.get(listing_id, ""))
        if row is None:
            raise QueryError(f"no listing has the id {listing_id!r}: take one from products_table_clean.json.")
        return row

    def allowed(
        self, category: str | None, max_price: float | None, distances: np.ndarray | None, within: float | None
    ) -> np.ndarray:
        """Mask (N,) of the listings that meet the filters; raises QueryError when no listing is in the category, and
        when a distance has no place to measure from."""
        mask = np.ones(len(self.index), bool)
        if category is not None:
            wanted = " / ".join(part.strip() for part in category.split(" / ")).casefold()
            mask = np.array([f"{p} / ".casefold().startswith(f"{wanted} / ") for p in self.index.listings["category"]])
            if not mask.any():
                names = "; ".join(sorted(set(self.index.listings["main_category"])))
                raise QueryError(f"no listing is in {category!r}: choose one of {names}, or a path below one.")
        if max_price is not None:
            mask &= np.array(self.index.listings["price"]) <= max_price
        if within is not None:
            if distances is None:
                raise QueryError("a distance needs a place to measure from: give a place, too.")
            mask &= distances <= within
        return mask
