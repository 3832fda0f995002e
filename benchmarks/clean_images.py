"""How fast clean_images.py is, against the loop that one would write first.

Makes its own photos in a temporary folder, and measures both ways in turn, several times, in this one process:

    python -m benchmarks.clean_images [--repeats 3] [--workers N] [--save]

Prints photos per second at 64 pixels with the ratio of the medians, the same of two whole processes on a mixed
folder, the seconds to skip 100,000 clean photos, the memory at 1,000 and 10,000 photos, and how much the photos differ.
"""

import argparse
import io
import itertools
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from benchmarks.saving import add_save_option, comparison, save_rows
from benchmarks.straightforward_photos import SIZE, on_black, straightforward
from marketplace.data_folder import DataFolder
from marketplace.photos import clean_folder, default_workers

ROOT = Path(__file__).resolve().parent.parent


def ours(images: Path, data: Path, workers: int) -> dict:
    return clean_folder(images, DataFolder(data), SIZE, workers)


def photo(width: int, height: int, noise: float, seed: int) -> bytes:
    """A JPEG (quality 85) like that of a thing on a table: soft light, edges, a weave, and the noise of the sensor."""
    generator = np.random.default_rng(seed)

    def layer(columns: int, rows: int, resample: Image.Resampling) -> Image.Image:
        return Image.fromarray(generator.integers(0, 256, (rows, columns, 3), dtype=np.uint8)).resize(
            (width, height), resample
        )

    image = layer(4, 3, Image.Resampling.BICUBIC)
    thing = layer(6, 5, Image.Resampling.NEAREST)
    image.paste(thing, mask=thing.convert("L").point(lambda value: 255 * (value > 150)))
    image = Image.blend(image, layer(width // 24, height // 24, Image.Resampling.BICUBIC), 0.2)
    pixels = np.asarray(image) + generator.normal(0, noise, (height, width, 1)).astype(np.float32)
    buffer = io.BytesIO()
    Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(buffer, "JPEG", quality=85)
    return buffer.getvalue()


def fill(images: Path, prefix: str, photos: list[bytes], count: int) -> None:
    images.mkdir(parents=True, exist_ok=True)
    for number, content in zip(range(count), itertools.cycle(photos), strict=False):
        (images / f"{prefix}{number:05}.jpg").write_bytes(content)


class Cost(NamedTuple):
    """Seconds on the clock, and of the processor, which hardly change when the machine is busy with other things."""

    clock: float
    processor: float


def cost_of(work: Callable[[Path], object], folder: Path) -> Cost:
    """What `work` costs when it writes into a fresh folder."""
    shutil.rmtree(folder, ignore_errors=True)
    before, start = os.times(), time.perf_counter()
    work(folder)
    clock = time.perf_counter() - start
    return Cost(clock, sum(os.times()[:4]) - sum(before[:4]))  # user, system, and both of the children


def in_turn(first: Callable, second: Callable, folder: Path, repeats: int) -> list[tuple[Cost, Cost]]:
    """The costs of two ways, one after the other, `repeats` times, after one round that does not count."""
    return [(cost_of(first, folder), cost_of(second, folder)) for _ in range(repeats + 1)][1:]


HEADER = """\
| photos | straightforward, photos/s | ours, photos/s | ratio | lowest to highest | processor ms a photo, both |
|---|---|---|---|---|---|"""


def row(name: str, count: int, costs: list[tuple[Cost, Cost]]) -> dict:
    """Print a row of photos a second, and return it for the results file."""
    ratios = [theirs.clock / our.clock for theirs, our in costs]
    slow, fast = (statistics.median(pair[way].clock for pair in costs) for way in (0, 1))
    heavy, light = (statistics.median(pair[way].processor for pair in costs) for way in (0, 1))
    print(
        f"| {name} | {count / slow:,.0f} | {count / fast:,.0f} | {slow / fast:.1f} "
        f"| {min(ratios):.1f} to {max(ratios):.1f} | {1000 * heavy / count:.2f}, {1000 * light / count:.2f} |",
        flush=True,
    )
    return comparison(f"{name}, photos a second", count / fast, count / slow, slow / fast)


def largest_difference(images: Path, outputs: Path) -> float:
    """The largest mean absolute difference, of 255, of a photo of ours to the full decode with Lanczos."""
    return max(
        float(np.abs(np.asarray(on_black(path), float) - np.asarray(Image.open(outputs / path.name), float)).mean())
        for path in images.glob("*.jpg")
    )


def bench_rates(folder: Path, repeats: int, workers: int) -> list[dict]:
    """A row for each kind of photo, and one of how much the photos of the two ways differ."""
    rows, differences = [], []
    print(HEADER)
    for name, width, height, noise, distinct, count in (
        ("512 x 384", 512, 384, 3, 20, 600),
        ("4000 x 3000", 4000, 3000, 1, 4, 96),
        ("4000 x 3000, noisy", 4000, 3000, 6, 4, 96),
    ):
        images = folder / f"{width} {noise}"
        photos = [photo(width, height, noise, seed) for seed in range(distinct)]
        fill(images, "", photos, count)
        kilobytes = statistics.mean(map(len, photos)) / 1000
        costs = in_turn(
            lambda out, images=images: straightforward(images, out / "theirs"),
            lambda out, images=images: ours(images, out, workers),
            folder / "out",
            repeats,
        )
        rows.append(row(f"{name}, {kilobytes:,.0f} kB each", count, costs))
        ours(images, folder, workers)
        differences.append(largest_difference(images, DataFolder(folder).clean_images(SIZE)))
    print(f"largest mean absolute difference of a photo: {max(differences):.2f} of 255")
    return [*rows, comparison("largest mean absolute difference of a photo, of 255", max(differences))]


def bench_processes(folder: Path, repeats: int, workers: int) -> list[dict]:
    images = folder / "mixed"
    fill(images, "small", [photo(512, 384, 3, seed) for seed in range(20)], 1200)
    fill(images, "large", [photo(4000, 3000, 1, seed) for seed in range(4)], 40)

    def process(*command: object) -> None:
        subprocess.run([sys.executable, *map(str, command)], check=True, stdout=subprocess.DEVNULL)

    costs = in_turn(
        lambda out: process(ROOT / "benchmarks" / "straightforward_photos.py", images, out),
        lambda out: process(ROOT / "clean_images.py", "--data-dir", out, "--images", images, "--workers", workers),
        folder / "out",
        repeats,
    )
    return [row("1,200 of 512 x 384 and 40 of 4000 x 3000, whole process", 1240, costs)]


def bench_skipping(folder: Path, count: int = 100_000) -> list[dict]:
    images, data = folder / "many", folder / "skip"
    fill(images, "", [photo(64, 48, 3, 0)], 1)
    ours(images, data, 1)
    outputs = data / f"clean_images_{SIZE}"
    manifest = json.loads((outputs / "manifest.json").read_text())
    (entry,) = manifest["photos"].values()
    for number in range(1, count):
        name = f"{number:06}.jpg"
        if number % 30_000 == 1:  # a file takes 65,000 links at most
            first = name
        for place in (images, outputs):
            if name == first:
                shutil.copy2(place / "00000.jpg", place / name)
            else:
                os.link(place / first, place / name)
        manifest["photos"][name[:-4]] = entry
    (outputs / "manifest.json").write_text(json.dumps(manifest))
    start = time.perf_counter()
    command = [sys.executable, "clean_images.py", "--data-dir", str(data), "--images", str(images)]
    output = subprocess.run(command, check=True, capture_output=True, text=True, cwd=ROOT).stdout
    assert f"skipped: {count}" in output, output
    seconds = time.perf_counter() - start
    print(f"skipping {count:,} clean photos, whole process: {seconds:.1f} s")
    return [comparison(f"skipping {count:,} clean photos, whole process, seconds", seconds)]


def bench_memory(folder: Path, workers: int) -> list[dict]:
    images = folder / "memory"
    rows = []
    fill(images, "", [photo(512, 384, 3, 0)], 1)
    # the peak of this process from Linux, for `getrusage` starts at what the process was before it became Python
    code = (
        "import resource, clean_images; clean_images.main()\n"
        "peak = open('/proc/self/status').read().split('VmHWM:')[1].split()[0]\n"
        "print(peak, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"
    )
    for count in (1_000, 10_000):
        for number in range(len(list(images.iterdir())), count):
            os.link(images / "00000.jpg", images / f"{number:05}.jpg")
        options = ["--data-dir", str(folder / f"memory {count}"), "--images", str(images), "--workers", str(workers)]
        command = [sys.executable, "-c", code, *options]
        output = subprocess.run(command, check=True, capture_output=True, text=True, cwd=ROOT).stdout
        main, worker = (int(kilobytes) / 1024 for kilobytes in output.splitlines()[-1].split())
        print(f"memory with {count:,} photos: {main:.0f} MB, and {worker:.0f} MB in the largest worker")
        rows.append(comparison(f"memory of the main process with {count:,} photos, MB", main))
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--workers", type=int, default=default_workers())
    add_save_option(parser)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        rows = bench_rates(folder, arguments.repeats, arguments.workers)
        rows += bench_processes(folder, arguments.repeats, arguments.workers)
        rows += bench_skipping(folder)
        rows += bench_memory(folder, arguments.workers)
    print(f"{arguments.workers} workers, Pillow {Image.__version__}, peak of this process: ", end="")
    print(f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MB")
    if arguments.save:
        save_rows("clean_images", rows)


if __name__ == "__main__":
    main()
