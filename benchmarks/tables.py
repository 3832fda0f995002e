"""Rows per second of downloading and cleaning the products table, against a straightforward way.

For each size the sample marketplace is made (`make_sample_marketplace.py --no-photos`). Our way and the
straightforward one (the download by pandas, the cleaning row by row) run in turn in this process, on the same rows;
then the cleaning script runs as a process of its own, for its seconds and peak memory. Prints one table.

    python -m benchmarks.tables [--sizes 10000 100000 1000000] [--rounds 3] [--straightforward-up-to 100000] [--save]
"""

import argparse
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pandas as pd

from benchmarks.saving import add_save_option, comparison, save_rows
from clean_tabular_data import COLUMNS, clean_products
from download_products_table import download_table
from marketplace.command_line import positive_int
from marketplace.data_folder import ROOT, DataFolder
from marketplace.database_source import find_source
from marketplace.gazetteer import place_key, towns_by_name
from marketplace.listing_text import clean_description, clean_product_name, is_null, normalised_text, parse_price
from marketplace.listings import read_table, split_of, write_table


def download(folder: DataFolder) -> int:
    """Our download of the sample's products; the number of rows."""
    return download_table(find_source(folder), "products", folder.products_table)


def straightforward_download(folder: DataFolder) -> int:
    """The table through pandas, whole in memory."""
    table = pd.read_sql_table("products", f"sqlite:///{folder.database}")
    table.to_json(folder.path / "straightforward_table.json", orient="records", date_format="iso")
    return len(table)


def clean(folder: DataFolder) -> int:
    """Our cleaning, from file to file; the number of clean rows."""
    products = clean_products(read_table(folder.products_table, "", COLUMNS))[0]
    write_table(folder.products_table_clean, products)
    return len(products)


def straightforward_clean(folder: DataFolder) -> int:
    """The same steps row by row, with a search for each row's town through the list of towns."""
    table = pd.read_json(folder.products_table, orient="records", dtype=False)
    towns = [(key, points[0][:2]) for key, points in towns_by_name().items()]

    def find(key: str) -> tuple[float, float] | None:
        return next((point for other, point in towns if other == key), None)

    rows, seen = [], set()
    for _, row in table.sort_values("id").iterrows():
        if any(row[name] is None or is_null(str(row[name])) for name in COLUMNS):
            continue
        price = parse_price(row["price"])
        name, description = clean_product_name(row["product_name"]), clean_description(row["product_description"])
        if price is None or not 0.1 <= price <= 10_000 or (name, description, row["location"]) in seen:
            continue
        seen.add((name, description, row["location"]))
        names = [place_key(part) for part in row["location"].split(",")]
        latitude, longitude = find(names[0]) or find(names[-1]) or (math.nan, math.nan)
        rows.append(
            {
                "id": row["id"],
                "product_name": name,
                "product_description": description,
                "category": row["category"],
                "main_category": row["category"].split(" / ")[0],
                "price": price,
                "location": row["location"],
                "county": names[-1],
                "latitude": latitude,
                "longitude": longitude,
                "split": split_of(normalised_text(description)),
            }
        )
    cleaned = pd.DataFrame(rows)
    for column in ("latitude", "longitude"):
        cleaned[column] = cleaned[column].fillna(cleaned.groupby("county")[column].transform("mean"))
    cleaned = cleaned.dropna(subset="latitude").drop(columns="county")
    cleaned["main_category_code"] = cleaned["main_category"].astype("category").cat.codes
    cleaned.to_json(folder.path / "straightforward_clean.json", orient="records")
    return len(cleaned)


def in_turn(rounds: int, ways: Sequence[Callable[[DataFolder], int]], folder: DataFolder) -> list[tuple[float, int]]:
    """Median seconds of processor time of each way, run in turn, and the number of rows it returned.

    Each way uses one core, so that processor time is what it would take on a quiet machine.
    """
    seconds: list[list[float]] = [[] for _ in ways]
    rows = [0] * len(ways)
    for _ in range(rounds):
        for number, way in enumerate(ways):
            started = time.process_time()
            rows[number] = way(folder)
            seconds[number].append(time.process_time() - started)
    return [(statistics.median(times), count) for times, count in zip(seconds, rows, strict=True)]


def whole_process(folder: DataFolder) -> dict[str, float]:
    """Seconds, seconds of processor time and peak memory in GB of clean_tabular_data.py as a process."""
    started = time.perf_counter()
    command = [sys.executable, str(ROOT / "clean_tabular_data.py"), "--data-dir", str(folder.path)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit("error: clean_tabular_data.py failed")
    per_gigabyte = 1e9 if sys.platform == "darwin" else 1e6
    return {
        "process: seconds": time.perf_counter() - started,
        "CPU seconds": usage.ru_utime + usage.ru_stime,
        "peak GB": usage.ru_maxrss / per_gigabyte,
    }


def measure(folder: DataFolder, size: int, rounds: int, with_straightforward: bool) -> list[dict]:
    """The table's rows for one size."""
    lines = []
    for step, ways in (("download", [download, straightforward_download]), ("clean", [clean, straightforward_clean])):
        (seconds, rows), *other = in_turn(rounds, ways if with_straightforward else ways[:1], folder)
        line = {"step": step, "rows": size, "rows out": rows, "seconds": seconds, "rows/s": size / seconds}
        for other_seconds, other_rows in other:
            line |= {
                "straightforward: rows/s": size / other_seconds,
                "its rows out": other_rows,
                "ratio": other_seconds / seconds,
            }
        lines.append(line)
    lines[-1] |= whole_process(folder)
    return lines


def comparison_rows(lines: list[dict]) -> list[dict]:
    """The rows of the results file."""
    rows = []
    for line in lines:
        what = f"{line['step']} of {line['rows']:,} rows"
        slow, ratio = line.get("straightforward: rows/s"), line.get("ratio")
        rows.append(comparison(f"{what}, rows a second", line["rows/s"], slow, ratio))
        if "peak GB" in line:
            rows.append(comparison(f"{what}, whole process, seconds", line["process: seconds"]))
            rows.append(comparison(f"{what}, peak memory, GB", line["peak GB"]))
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--sizes", type=positive_int, nargs="+", default=[10_000, 100_000, 1_000_000], metavar="ROWS")
    parser.add_argument("--rounds", type=positive_int, default=3, help="for up to 20,000 rows; one for more")
    parser.add_argument("--straightforward-up-to", type=int, default=100_000, metavar="ROWS")
    add_save_option(parser)
    arguments = parser.parse_args()
    towns_by_name()  # is cached: before the clock starts

    lines = []
    with tempfile.TemporaryDirectory() as scratch:
        for size in arguments.sizes:
            folder = DataFolder(Path(scratch) / f"tables_{size}")
            options = ["--listings", str(size), "--no-photos", "--data-dir", str(folder.path)]
            command = [sys.executable, str(ROOT / "make_sample_marketplace.py"), *options]
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
            rounds = arguments.rounds if size <= 20_000 else 1
            download(folder)  # the first connection loads the driver: before the clock starts
            lines += measure(folder, size, rounds, size <= arguments.straightforward_up_to)
            print(json.dumps(lines[-2:], default=str), file=sys.stderr)
    if arguments.save:
        save_rows("tables", comparison_rows(lines))
    table = pd.DataFrame(lines)
    print(f"sample marketplace, {os.cpu_count()} cores, medians of {arguments.rounds} rounds")
    print(table.to_string(index=False, na_rep="", float_format="{:,.2f}".format))


if __name__ == "__main__":
    main()
