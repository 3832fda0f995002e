"""How fast the product index is, how much of the exact answer it finds, how much memory it takes and how long to build.

    python -m benchmarks.ranking [--data-dir data/sample] [--sizes 10000 100000 1000000] [--hnsw] [--save]

Reads index/product_index.npz of the data folder (`rank_products.py` makes it). As many vectors as
wanted are drawn from the distribution of the sample's. The straightforward way is NumPy comparing the query with every
vector and sorting the best; the two take turns on the same queries, in one process, one query at a time as
`rank_products.py` asks.
"""

import argparse
import time
from pathlib import Path

import faiss
import numpy as np

from benchmarks.saving import add_save_option, save_rows
from evaluation.results import dataset_name, markdown, rows_table
from marketplace.command_line import argument_parser, positive_int, run
from marketplace.data_folder import DataFolder, UserError
from ranking.index import ProductIndex, build_search, exact_neighbours, one_thread, recall, unit_rows
from ranking.index_builder import index_path

CHUNK = 50_000
TOP = 10
ROUNDS = 3
NUMPY_QUERIES = 50


def parse_arguments() -> argparse.Namespace:
    parser = argument_parser("Measure the search among product vectors.")
    parser.set_defaults(data_dir=Path("data/sample"))
    parser.add_argument("--sizes", nargs="+", type=positive_int, default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--queries", type=positive_int, default=200, help="of each size")
    parser.add_argument("--hnsw", action="store_true", help="build an HNSW index too (slow), to compare IVF with")
    parser.add_argument("--seed", type=int, default=7)
    add_save_option(parser)
    return parser.parse_args()


def sample_vectors(data_dir: Path) -> np.ndarray:
    """The unit vectors (N, D) of a data folder's index."""
    path = index_path(DataFolder(data_dir))
    if not path.exists():
        raise UserError(f"{path} is missing: run rank_products.py --data-dir {data_dir} first.")
    index = ProductIndex.load(path)
    return np.stack([index.vector(row) for row in range(len(index))])


def draw_vectors(sample: np.ndarray, count: int, generator: np.random.Generator) -> np.ndarray:
    """`count` unit vectors (count, D) float32 like those of `sample` (N, D).

    Each lies between a listing of the sample and one of its ten nearest, a random part of the way, plus noise of half
    the spread of the differences between such neighbours: new listings of the same kinds.
    """
    neighbours = exact_neighbours(sample, sample, 11)[:, 1:]
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


def one_search(index: faiss.Index, query: np.ndarray) -> np.ndarray:
    """Our way: as `ProductIndex.search` asks FAISS."""
    with one_thread():
        return index.search(query[None], TOP)[1][0]


def seconds_a_query(search, queries: np.ndarray) -> float:
    """One query after the other."""
    start = time.perf_counter()
    for query in queries:
        search(query)
    return (time.perf_counter() - start) / len(queries)


def measured_row(build, vectors: np.ndarray, queries: np.ndarray) -> dict:
    """One row of the table: `build(vectors)` gives an index and its name; ours and NumPy in turn, best rounds."""
    start = time.perf_counter()
    index, name = build(vectors)
    build_seconds = time.perf_counter() - start
    size = len(faiss.serialize_index(index)) / len(vectors)
    rounds = [
        (
            seconds_a_query(lambda query: one_search(index, query), queries),
            seconds_a_query(lambda query: numpy_search(vectors, query), queries[:NUMPY_QUERIES]),
        )
        for _ in range(ROUNDS)
    ]
    ours, theirs = np.min(rounds, axis=0)
    found = recall(index.search(queries, TOP)[1], exact_neighbours(queries, vectors, TOP))
    return {
        "products": len(vectors),
        "search": name,
        "queries/s": 1 / ours,
        "NumPy queries/s": 1 / theirs,
        "ratio": theirs / ours,
        "recall@10": found,
        "bytes a product": size,
        "build s": build_seconds,
    }


def ours(vectors: np.ndarray) -> tuple[faiss.Index, str]:
    index, about = build_search(vectors)
    lists = f", {about['probes']} of {about['lists']} lists" if about["kind"] == "IVF" else ""
    return index, about["kind"] + lists


def hnsw(vectors: np.ndarray) -> tuple[faiss.Index, str]:
    index = faiss.IndexHNSWFlat(vectors.shape[1], 32, faiss.METRIC_INNER_PRODUCT)
    index.hnsw.efConstruction, index.hnsw.efSearch = 80, 64
    index.add(vectors)
    return index, "HNSW, 32 links, 64 looked at"


def main() -> None:
    arguments = parse_arguments()
    generator = np.random.default_rng(arguments.seed)
    sample = sample_vectors(arguments.data_dir)
    threads = faiss.omp_get_max_threads()
    print(f"{len(sample):,} sample vectors of {sample.shape[1]} numbers; {threads} threads; seed {arguments.seed}\n")
    rows = []
    for size in arguments.sizes:
        drawn = draw_vectors(sample, size + arguments.queries, generator)
        vectors, queries = drawn[:size], drawn[size:]
        for build in (ours, hnsw) if arguments.hnsw else (ours,):
            rows.append(measured_row(build, vectors, queries))
            print(rows[-1], flush=True)
    print(markdown(rows_table(rows, list(rows[0]))))
    if arguments.save:
        save_rows("ranking", rows, dataset=dataset_name(arguments.data_dir))


if __name__ == "__main__":
    run(main)
