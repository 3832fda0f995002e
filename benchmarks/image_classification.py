"""Memory and time of logistic regression on the pixels of a full data set: the straightforward way and ours in turn.

    python -m benchmarks.image_classification [--data-dir data/sample] [--photos 12604] [--size 64] [--save]

Reads the clean photos of a data folder, repeats them up to `--photos`, and fits the same model twice, each time in a
process of its own, so that each has its own peak memory.

Straightforward: pixels / 255 in float64, a scaler that copies, the solver's default tolerance.
Ours: float32 filled once, scaled in place, a tolerance that does not change validation accuracy.
"""

import multiprocessing
import resource
import sys
import time
import warnings
from multiprocessing.queues import SimpleQueue
from pathlib import Path

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from benchmarks.saving import add_save_option, comparison, save_rows
from evaluation.tables import dataset_name, environment
from marketplace.command_line import argument_parser, positive_int, run
from marketplace.listings import examples_of_split, load_products
from marketplace.photos import load_photos

C = 1e-3  # what validation chooses among real photos


def straightforward(pixels: np.ndarray) -> tuple[Pipeline, np.ndarray]:
    """Pipeline and inputs (N, S*S*3) float64 of `pixels` (N, S, S, 3) uint8."""
    return make_pipeline(StandardScaler(), LogisticRegression(C=C)), pixels.reshape(len(pixels), -1) / 255


def ours(pixels: np.ndarray) -> tuple[Pipeline, np.ndarray]:
    """Pipeline and inputs (N, S*S*3) float32; the pipeline scales its inputs in place."""
    inputs = pixels.reshape(len(pixels), -1).astype(np.float32)
    inputs /= 255
    return make_pipeline(StandardScaler(copy=False), LogisticRegression(C=C, tol=1e-2, max_iter=1000)), inputs


WAYS = {"straightforward": straightforward, "ours": ours}


def measure(way: str, data_dir: Path, photos: int, size: int, results: SimpleQueue) -> None:
    """Load, repeat and fit; puts seconds, peak memory in GiB, iterations and validation accuracy into `results`."""
    products = load_products(data_dir)
    found = load_photos(data_dir, products, size)
    labels = products["main_category_code"].to_numpy()[found.product_rows]
    train, validation = (examples_of_split(found, products, split) for split in ("train", "validation"))
    rows = np.resize(train, photos)
    pixels, held_out = found.pixels[rows], found.pixels[validation]
    del found
    start = time.perf_counter()
    pipeline, inputs = WAYS[way](pixels)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # the default stops at 100 iterations, which are printed
        pipeline.fit(inputs, labels[rows])
    seconds = time.perf_counter() - start
    unit = 2**30 if sys.platform == "darwin" else 2**20  # ru_maxrss is in bytes on macOS, in KiB on Linux
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit
    accuracy = pipeline.score(ours(held_out)[1], labels[validation])
    results.put((seconds, peak, int(pipeline[-1].n_iter_.max()), accuracy))


def measure_in_process(way: str, data_dir: Path, photos: int, size: int) -> tuple[float, float]:
    """Seconds and peak memory in GiB of one way; ends the benchmark when its process fails."""
    context = multiprocessing.get_context("spawn")
    results = context.SimpleQueue()
    process = context.Process(target=measure, args=(way, data_dir, photos, size, results))
    process.start()
    process.join()
    if process.exitcode:
        sys.exit(f"error: the {way} way ended with exit code {process.exitcode} (out of memory, if it was killed).")
    seconds, peak, iterations, accuracy = results.get()
    print(f"{way:16} {seconds:7.1f} s  {peak:5.2f} GiB  {iterations:4} iterations  validation accuracy {accuracy:.3f}")
    return seconds, peak


def main() -> None:
    parser = argument_parser(__doc__.splitlines()[0])
    parser.set_defaults(data_dir=Path("data/sample"))
    parser.add_argument("--photos", type=positive_int, default=12604, help="how many, by repeating")
    parser.add_argument("--size", type=positive_int, default=64, help="side of the clean photos")
    add_save_option(parser)
    arguments = parser.parse_args()
    load_photos(arguments.data_dir, load_products(arguments.data_dir), arguments.size)  # fails here if one is missing
    print(f"{arguments.photos:,} photos of {arguments.size} px, {3 * arguments.size**2:,} numbers each, C {C}")
    print(environment()["words"])
    (slow, high), (fast, low) = (
        measure_in_process(way, arguments.data_dir, arguments.photos, arguments.size) for way in WAYS
    )
    print(f"ours: {slow / fast:.1f} times as fast, in {low / high:.0%} of the memory")
    if arguments.save:
        what = f"logistic regression on {arguments.photos:,} photos of {arguments.size} px"
        rows = [
            comparison(f"{what}, seconds", fast, slow, slow / fast),
            comparison(f"{what}, peak memory in GiB", low, high, high / low),
        ]
        save_rows("image_classification", rows, dataset=dataset_name(arguments.data_dir))


if __name__ == "__main__":
    run(main)
