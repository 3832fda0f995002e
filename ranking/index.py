"""The search among the products' unit vectors: near-duplicates shown once, filters, and a file without pickle.

FAISS holds the vectors: compared one by one (exact inner product) up to EXACT_UP_TO products; beyond, in an inverted
file, of which as many lists are probed as it takes to find RECALL_WANTED of what the exact search finds.
"""

import contextlib
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import faiss
import numpy as np

from marketplace.data_folder import UserError, write_whole

EXACT_UP_TO = 100_000
RECALL_WANTED = 0.95
RECALL_QUERIES = 200
TRAINING_VECTORS_PER_LIST = 40  # FAISS warns below 39


def unit_rows(vectors: np.ndarray) -> np.ndarray:
    """The rows (N, D) scaled to length 1, float32; rows of zeros and of NaN become zeros."""
    vectors = np.nan_to_num(np.asarray(vectors, dtype=np.float32), nan=0.0)
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.divide(vectors, lengths, out=np.zeros_like(vectors), where=lengths > 1e-12)


def join_blocks(blocks: Mapping[str, np.ndarray], weights: Mapping[str, float]) -> np.ndarray:
    """One unit vector a row out of feature blocks {name: (N, D_name)}, float32 (N, sum of D).

    Each block has length 1 and is multiplied by the root of its weight, so that the inner product of two rows is the
    weighted mean of the blocks' cosines. Where a block is all zeros (no photo, say), the rest is made unit again.
    """
    scaled = [np.float32(np.sqrt(weights[name])) * unit_rows(block) for name, block in blocks.items()]
    return unit_rows(np.concatenate(scaled, axis=1))


def exact_neighbours(queries: np.ndarray, vectors: np.ndarray, top: int) -> np.ndarray:
    """Rows (Q, top) of the greatest inner products, found by comparing with every vector."""
    return faiss.knn(queries, vectors, top, metric=faiss.METRIC_INNER_PRODUCT)[1]


def recall(found: np.ndarray, exact: np.ndarray) -> float:
    """Mean share of the rows in `exact` (Q, k) that are in `found` (Q, k) too."""
    return float(np.mean([len(np.intersect1d(*pair)) / len(pair[1]) for pair in zip(found, exact, strict=True)]))


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """FAISS works on one thread: a single query has no use for more, which on a busy machine wait for each other."""
    threads = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)
    try:
        yield
    finally:
        faiss.omp_set_num_threads(threads)


def build_search(
    vectors: np.ndarray, exact_up_to: int = EXACT_UP_TO, recall_wanted: float = RECALL_WANTED, seed: int = 7
) -> tuple[faiss.Index, dict[str, Any]]:
    """A FAISS index of unit vectors (N, D) float32, and what it is: {"kind", "recall_at_10", "lists", "probes"}."""
    vectors = np.ascontiguousarray(vectors, dtype=np.float32)
    count, dimension = vectors.shape
    if count <= exact_up_to:
        index = faiss.IndexFlatIP(dimension)
        index.add(vectors)
        return index, {"kind": "exact", "recall_at_10": 1.0}
    generator = np.random.default_rng(seed)
    lists = max(1, min(int(4 * np.sqrt(count)), count // TRAINING_VECTORS_PER_LIST))
    index = faiss.IndexIVFFlat(faiss.IndexFlatIP(dimension), dimension, lists, faiss.METRIC_INNER_PRODUCT)
    index.cp.seed = seed
    index.train(vectors[generator.permutation(count)[: lists * TRAINING_VECTORS_PER_LIST]])
    index.set_direct_map_type(faiss.DirectMap.Array)  # the vector of a product can be asked for
    index.add(vectors)
    queries = vectors[generator.permutation(count)[:RECALL_QUERIES]]
    exact = exact_neighbours(queries, vectors, min(10, count))
    index.nprobe = 1
    while True:
        share = recall(index.search(queries, exact.shape[1])[1], exact)
        if share >= recall_wanted or index.nprobe >= lists:
            return index, {"kind": "IVF", "recall_at_10": share, "lists": lists, "probes": int(index.nprobe)}
        index.nprobe = min(lists, 2 * index.nprobe)


@dataclass
class SearchResult:
    """What a search gives: rows of the index with scores, best first, and how many near-duplicates are not shown."""

    rows: list[int]
    scores: list[float]
    collapsed: int


class ProductIndex:
    """Unit vectors of products, what to show of each, and what makes two of them near-duplicates.

    `listings` holds columns of equal length, at least `id`. `text_keys` (N,) int64 are equal where texts are,
    `photo_keys` (K, 2) int64 pairs a row with the key of one of its photos. `arrays` and `about` are kept with the
    index for whoever makes query vectors: the features' projection, the fingerprint of what it was made from.
    """

    def __init__(
        self,
        search_index: faiss.Index,
        listings: Mapping[str, Sequence[Any]],
        text_keys: np.ndarray,
        photo_keys: np.ndarray,
        arrays: Mapping[str, np.ndarray] | None = None,
        about: Mapping[str, Any] | None = None,
    ):
        self.search_index = search_index
        self.listings = {name: list(column) for name, column in listings.items()}
        self.text_keys = np.asarray(text_keys, np.int64)
        self.photo_keys = np.asarray(photo_keys, np.int64).reshape(-1, 2)
        self.photo_keys = self.photo_keys[np.argsort(self.photo_keys[:, 0], kind="stable")]
        self.photo_starts = np.searchsorted(self.photo_keys[:, 0], np.arange(len(self) + 1))
        self.arrays = dict(arrays or {})
        self.about = dict(about or {})
        self.row_of = {identifier: row for row, identifier in enumerate(self.listings["id"])}

    def __len__(self) -> int:
        return self.search_index.ntotal

    @property
    def dimension(self) -> int:
        return self.search_index.d

    def row(self, identifier: str) -> int:
        """Row of a product; raises UserError for an unknown id."""
        if identifier not in self.row_of:
            raise UserError(f"no product has the id {identifier!r}: take one from products_table_clean.json.")
        return self.row_of[identifier]

    def vector(self, row: int) -> np.ndarray:
        """Unit vector (D,) of a product."""
        return self.search_index.reconstruct(int(row))

    def column(self, name: str) -> np.ndarray:
        """A column of the listings, numbers as float64 with NaN where there is none."""
        values = self.listings[name]
        numeric = all(value is None or isinstance(value, (int, float)) for value in values)
        return np.array([np.nan if value is None else value for value in values], float if numeric else object)

    def keys_of(self, row: int) -> set[tuple[str, int]]:
        """What a product is recognised by when it is posted twice: its text and each of its photos."""
        photos = self.photo_keys[self.photo_starts[row] : self.photo_starts[row + 1], 1]
        return {("text", int(self.text_keys[row]))} | {("photo", int(key)) for key in photos}

    def search(
        self,
        query: np.ndarray,
        top: int = 10,
        allowed: np.ndarray | None = None,
        left_out: Sequence[int] = (),
        collapse: bool = True,
    ) -> SearchResult:
        """The `top` products most like the unit vector `query` (D,), best first.

        `allowed` (N,) bool says which products may be shown; those of `left_out` and, with `collapse`, whatever has
        the text or a photo of them or of a product further up are passed over. As many as asked for are found
        wherever so many exist: the search widens until it has them or has seen every allowed product.
        """
        query = np.ascontiguousarray(query, dtype=np.float32).reshape(1, -1)
        if query.shape[1] != self.dimension:
            raise ValueError(f"the query has {query.shape[1]} numbers, the index {self.dimension}")
        may_be_shown = np.ones(len(self), bool) if allowed is None else np.asarray(allowed, bool).copy()
        may_be_shown[list(left_out)] = False
        existing = int(may_be_shown.sum())
        wanted, probes = 2 * top + 10, 1
        while True:
            ranked = self._ranked(query, min(wanted, existing), may_be_shown, probes)
            found = self._without_copies(ranked, top, left_out, collapse)
            every_one_seen = wanted >= existing and self._probes(probes) >= self._lists
            if len(found.rows) == top or every_one_seen:
                return found
            wanted, probes = 4 * wanted, 4 * probes

    @property
    def _lists(self) -> int:
        return getattr(self.search_index, "nlist", 1)

    def _probes(self, factor: int) -> int:
        return min(self._lists, getattr(self.search_index, "nprobe", 1) * factor)

    def _ranked(self, query: np.ndarray, count: int, may_be_shown: np.ndarray, factor: int) -> list[tuple[int, float]]:
        """Rows and scores of the `count` best that may be shown; equal scores in the order of the rows."""
        if count == 0:
            return []
        selector = None
        if not may_be_shown.all():
            bits = np.packbits(may_be_shown, bitorder="little")
            selector = faiss.IDSelectorBitmap(len(self), faiss.swig_ptr(bits))
        if isinstance(self.search_index, faiss.IndexIVF):
            parameters = faiss.SearchParametersIVF(sel=selector, nprobe=self._probes(factor))
        else:
            parameters = faiss.SearchParameters(sel=selector)
        with one_thread():
            scores, rows = self.search_index.search(query, count, params=parameters)
        pairs = [(int(row), float(score)) for row, score in zip(rows[0], scores[0], strict=True) if row >= 0]
        return sorted(pairs, key=lambda pair: (-pair[1], pair[0]))

    def _without_copies(
        self, ranked: Sequence[tuple[int, float]], top: int, left_out: Sequence[int], collapse: bool
    ) -> SearchResult:
        shown = set().union(*(self.keys_of(row) for row in left_out)) if collapse else set()
        found = SearchResult([], [], 0)
        for row, score in ranked:
            if len(found.rows) == top:
                break
            keys = self.keys_of(row) if collapse else set()
            if keys & shown:
                found.collapsed += 1
                continue
            shown |= keys
            found.rows.append(row)
            found.scores.append(score)
        return found

    def save(self, path: Path) -> None:
        """Write everything into one .npz file, whole or not at all, without pickle."""
        with write_whole(path) as partial, open(partial, "wb") as file:
            np.savez(
                file,
                faiss=faiss.serialize_index(self.search_index),
                listings=_as_bytes(self.listings),
                about=_as_bytes(self.about),
                text_keys=self.text_keys,
                photo_keys=self.photo_keys,
                **{f"array_{name}": array for name, array in self.arrays.items()},
            )

    @classmethod
    def load(cls, path: Path) -> "ProductIndex":
        """Read what `save` wrote; raises ValueError when the file is damaged or not one of ours."""
        try:
            with open(path, "rb") as raw, np.load(raw, allow_pickle=False) as file:
                content = {name: file[name] for name in file.files}
            return cls(
                faiss.deserialize_index(content["faiss"]),
                _from_bytes(content["listings"]),
                content["text_keys"],
                content["photo_keys"],
                {name.removeprefix("array_"): content[name] for name in content if name.startswith("array_")},
                _from_bytes(content["about"]),
            )
        except FileNotFoundError:
            raise
        except Exception as error:  # a damaged file fails in many ways: zip, JSON, FAISS
            raise ValueError(f"{path} is no product index ({type(error).__name__})") from None


def _as_bytes(value: Any) -> np.ndarray:
    return np.frombuffer(json.dumps(value, ensure_ascii=False).encode(), np.uint8)


def _from_bytes(array: np.ndarray) -> Any:
    return json.load(io.BytesIO(array.tobytes()))


def read_about(path: Path) -> dict[str, Any] | None:
    """What a saved index says of itself, without reading its vectors; None when there is none that can be read."""
    try:
        with open(path, "rb") as raw, np.load(raw, allow_pickle=False) as file:
            return _from_bytes(file["about"])
    except Exception:  # missing or damaged: the same to whoever asks whether it can be used
        return None
