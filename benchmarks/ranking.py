"""Queries a second, recall and memory of the product index, against the straightforward NumPy search.

    python -m benchmarks.ranking [--data-dir data/sample] [--sizes 10000 100000 1000000] [--save]

Reads index/product_index.npz of the data folder (`rank_products.py` makes it). Vectors are drawn from
the distribution of those in the index. The straightforward way compares the query with every vector and sorts the
best; both answer the same queries in turn, one at a time, in one process.
"""

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import faiss
import numpy as np

from benchmarks.saving import add_save_option, save_rows
from evaluation.tables import dataset_name, markdown, rows_table
from marketplace.command_line import argument_parser, positive_int, run
from marketplace.data_folder import DataFolder, UserError
from ranking.index import EXACT_LIMIT, ProductIndex, build_inverted_file, load_index, unit_rows

CHUNK = 50_000
TOP = 10
ROUNDS = 3
NUMPY_QUERIES = 50


def parse_arguments() -> argparse.Namespace:
    parser = argument_parser("Measure the search among product vectors.")
    parser.set_defaults(data_dir=Path("data/sample"))
    parser.add_argument("--sizes", nargs="+", type=positive_int, default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--queries", type=positive_int, default=200, help="of each size")
    parser.add_argument("--seed", type=int, default=7)
    add_save_option(parser)
    return parser.parse_args()


def draw_vectors(sample: np.ndarray, count: int, generator: np.random.Generator) -> np.ndarray:
    """`count` unit vectors (count, D) float32 like those of `sample` (N, D).

    Each lies between a listing of the sample and one of its ten nearest, a random part of the way, plus noise of half
    the spread of the differences between such neighbours: new listings of the same kinds.
    """
    neighbours = faiss.knn(sample, sample, 11, metric=faiss.METRIC_INNER_PRODUCT)[1][:, 1:]
    spread = (sample - sample[neighbours[:, -1]]).std(axis=0)
    drawn = np.empty((count, sample.shape[1]), np.float32)
    for start in range(0, count, CHUNK):
        size = min(CHUNK, count - start)
        first = generator.integers(len(sample), size=size)
        second = neighbours[first, generator.integers(10, size=size)]
        part = generator.random((size, 1), dtype=np.float32)
        noise = generator.standard_normal((size, sample.shape[1]), dtype=np.float32) * spread / 2
        drawn[start : start + size] = unit_rows((1 - part) * sample[first] + part * sample[second] + noise)
    return drawn


def numpy_search(vectors: np.ndarray, query: np.ndarray) -> np.ndarray:
    """The straightforward way: compare with every vector, take the best, sort them."""
    scores = vectors @ query
    best = np.argpartition(-scores, TOP)[:TOP]
    return best[np.argsort(-scores[best])]


def seconds_a_query(search: Callable[[np.ndarray], object], queries: np.ndarray) -> float:
    start = time.perf_counter()
    for query in queries:
        search(query)
    return (time.perf_counter() - start) / len(queries)


def measured_row(vectors: np.ndarray, queries: np.ndarray) -> dict[str, str | float]:
    """One row of the table: ours and NumPy in turn, the best of ROUNDS rounds."""
    start = time.perf_counter()
    rows, none = np.arange(len(vectors)), np.empty(0, np.int64)
    index = ProductIndex(vectors, {}, keys=rows, key_rows=rows, image_ids=none, image_rows=none, image_size=0, space={})
    search, index_bytes = "exact", 0
    if len(vectors) > EXACT_LIMIT:
        index.inverted_file = build_inverted_file(vectors)
        search = f"IVF, {index.inverted_file.nprobe} of {index.inverted_file.nlist} lists"
        index_bytes = len(faiss.serialize_index(index.inverted_file))
    build_seconds = time.perf_counter() - start
    ours, theirs = np.inf, np.inf
    for _ in range(ROUNDS):
        ours = min(ours, seconds_a_query(lambda query: index.search(query, TOP), queries))
        theirs = min(theirs, seconds_a_query(lambda query: numpy_search(vectors, query), queries[:NUMPY_QUERIES]))
    exact = faiss.knn(queries, vectors, TOP, metric=faiss.METRIC_INNER_PRODUCT)[1]
    found = [index.search(query, TOP).rows for query in queries]
    recall = np.mean([np.isin(wanted, rows).mean() for wanted, rows in zip(exact, found, strict=True)])
    return {
        "products": len(vectors),
        "search": search,
        "queries/s": 1 / ours,
        "NumPy queries/s": 1 / theirs,
        "ratio": theirs / ours,
        "recall@10": float(recall),
        "bytes a product": vectors[0].nbytes + index_bytes / len(vectors),
        "build s": build_seconds,
    }


def main() -> None:
    arguments = parse_arguments()
    generator = np.random.default_rng(arguments.seed)
    index = load_index(DataFolder(arguments.data_dir))
    if index is None:
        raise UserError(f"{arguments.data_dir} has no present index: run rank_products.py with it first.")
    sample = index.vectors
    print(f"{len(sample):,} sample vectors of {sample.shape[1]} numbers; seed {arguments.seed}\n")
    rows = []
    for size in arguments.sizes:
        drawn = draw_vectors(sample, size + arguments.queries, generator)
        rows.append(measured_row(drawn[:size], drawn[size:]))
    print(markdown(rows_table(rows, list(rows[0]))))
    if arguments.save:
        save_rows("ranking", rows, dataset=dataset_name(arguments.data_dir))


if __name__ == "__main__":
    run(main)
