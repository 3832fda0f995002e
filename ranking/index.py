"""The search among the unit vectors of the listings, and the file that holds them.

Up to EXACT_LIMIT listings a matrix product compares the query with every vector. Beyond, a FAISS inverted file
proposes candidates, whose scores are then computed exactly; its recall is measured when it is built. Loads NumPy and
FAISS only, so that a query by listing is answered at once.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import faiss
import numpy as np

from marketplace.data_folder import DataFolder, write_whole
from ranking.quality import best_columns

VERSION = 4  # of the file format
EXACT_LIMIT = 100_000
TARGET_RECALL = 0.95
RECALL_QUERIES = 200
TRAINING_VECTORS_PER_LIST = 40  # FAISS warns below 39
MINIMUM_CANDIDATES = 100
SCORE_DECIMALS = 5  # the matrix product gives equal vectors scores that differ by rounding errors


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
