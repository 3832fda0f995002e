"""The results that notebooks and commands write, and the tables made of them.

    python -m evaluation.results [--data-dir data]

reads every `results/*.json` of the data folder and prints its rows, one table a file.
"""

if __name__ == "__main__":  # before the imports, which take a while: run() answers Ctrl-C meanwhile
    from marketplace.command_line import run

    run("evaluation.results")

import json
import os
import platform
import re
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from sklearn.metrics import accuracy_score

from evaluation.metrics import classification_metrics
from marketplace.command_line import argument_parser
from marketplace.data_folder import DataFolder, UserError, read_json, write_json
from marketplace.dataset import SPLITS, rows_of_split

ORDER = {"tabular_linear_regression": 0, "image_classification": 1, "neural_networks": 2, "product_ranking": 3}
HEADS = {"macro_f1": "macro-F1", "test_precision": "precision", "test_mrr": "MRR"}
COLUMNS = ("task", "model", "metric", "validation", "test", *HEADS, "baseline", "seconds")
NOTE = "In brackets: 95% bootstrap intervals. Macro-F1, precision and MRR are of test, too."


def check_splits(
    rows: pd.DataFrame, what: str = "listings", splits: Sequence[str] = SPLITS, least: int = 1, categories: int = 2
) -> None:
    """Raises UserError when one of `splits` has fewer than `least` of the `rows` (of the products table, one for each
    of the "listings" or "photos"), train twice as many, and when those of train are of fewer main `categories`."""
    for split in splits:
        count, needed = int((rows["split"] == split).sum()), 2 * least if split == "train" else least
        if count < needed:  # with 30 listings, a split is empty in 1% of the cases: 0.85**30
            raise UserError(
                f"the {split} split has too few {what} ({count} of at least {needed}): it takes about 30 listings "
                f"{'with photos ' if what == 'photos' else ''}for every split to have enough."
            )
    if rows.loc[rows["split"] == "train", "main_category_code"].nunique() < categories:
        raise UserError(f"all {what} of the train split are of one category: give some of another one, too.")


def majority_predictions(products: pd.DataFrame) -> np.ndarray:
    """The most frequent category of the train split, for every product (N,)."""
    labels = products["main_category_code"].to_numpy(np.int64)
    return np.full(len(labels), np.bincount(labels[rows_of_split(products, "train")]).argmax())


def by_train_listings(correct: Mapping[str, np.ndarray], products: pd.DataFrame) -> pd.DataFrame:
    """Test accuracy of each model by the number of train listings of a listing's own leaf category.

    `correct` has, by model, whether each test listing is predicted correctly, bool (T,). Columns: `model`,
    `train_listings` (a range in words), `listings` (how many of test), `test` (accuracy; NaN without a listing) and
    its standard `error`.
    """
    test = rows_of_split(products, "test")
    counts = products["category"].iloc[rows_of_split(products, "train")].value_counts()
    known = products["category"].iloc[test].map(counts).fillna(0).to_numpy()
    ranges = pd.cut(known, [-1, 5, 11, np.inf], labels=["fewer than 6", "6 to 11", "12 or more"])
    rows = []
    for model, right in correct.items():
        table = pd.Series(right.astype(float)).groupby(ranges, observed=False).agg(["size", "mean", "sem"])
        table = table.set_axis(["listings", "test", "error"], axis=1).rename_axis("train_listings").reset_index()
        rows.append(table.assign(model=model))
    return pd.concat(rows, ignore_index=True)


def result_rows(
    model: str,
    products: pd.DataFrame,
    predictions: np.ndarray,
    seconds: float,
    *,
    product_rows: np.ndarray | None = None,
    seed: int = 0,
) -> list[dict]:
    """One row with accuracy and macro-F1 of `predictions`: one per product (N,), or one per photo whose product is in
    `product_rows` (P,). Test intervals resample products; `baseline` is the accuracy of the majority baseline.

    Empty when a split has no prediction.
    """
    product_rows = np.arange(len(products)) if product_rows is None else product_rows
    split_of_row = products["split"].to_numpy()[product_rows]
    if set(SPLITS) - set(split_of_row):
        return []
    labels = products["main_category_code"].to_numpy(np.int64)[product_rows]
    validation, test = split_of_row == "validation", split_of_row == "test"
    scores = classification_metrics(labels[test], predictions[test], product_rows[test], seed)
    return [
        {
            "task": "category",
            "model": model,
            "metric": "accuracy",
            "validation": accuracy_score(labels[validation], predictions[validation]),
            "test": scores["accuracy"],
            "test_interval": scores["accuracy_interval"],
            "macro_f1": scores["macro_f1"],
            "macro_f1_interval": scores["macro_f1_interval"],
            "baseline": accuracy_score(labels[test], majority_predictions(products)[product_rows][test]),
            "seconds": seconds,
        }
    ]


def processor_name() -> str:
    """Name of the processor's model."""
    cpuinfo = Path("/proc/cpuinfo")
    found = re.search(r"^model name\s*: (.+)", cpuinfo.read_text("utf-8") if cpuinfo.exists() else "", re.MULTILINE)
    return found[1] if found else platform.processor() or platform.machine()


def environment(gpu: str | None = None) -> dict[str, Any]:
    """The hardware, in words, and the versions that a result depends on; no host name, no user, no path.

    `gpu` is the name of the GPU that was used (`models.device.gpu_name`).
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30 if hasattr(os, "sysconf") else None
    words = f"{cores} cores of {processor_name()}" + (f", {memory:.0f} GiB memory" if memory else "")
    versions = {name: version(name) for name in ("torch", "scikit-learn", "numpy")}
    return {"words": f"{words}, {gpu or 'no GPU'}", "python": platform.python_version(), **versions}


def dataset_name(data_dir: str | Path) -> str:
    """What results are about: the sample marketplace (its folder holds the embedded database) or the user's data."""
    return "sample marketplace" if DataFolder(data_dir).database.exists() else "user data"


def as_json(value: Mapping[str, Any]) -> dict[str, Any]:
    """The value in JSON's types: NumPy's numbers and arrays become Python's own, non-finite numbers None."""
    return json.loads(pd.Series(value, dtype=object).to_json(double_precision=15))


def write_results(
    data_dir: str | Path, name: str, results: Mapping[str, Any], gpu: str | None = None
) -> dict[str, Any]:
    """Write `results/<name>.json` and return what was written; name, data set and hardware are filled in.

    `results` holds `seed`, `split_sizes`, `parameters` and `rows`; each row has `task`, `model` and, as far as they
    apply, the other keys of `COLUMNS`; `baseline` is the test score of the baseline. Other keys are kept, too. A
    number that is NaN or infinite is written as None, which reads "not known": the bound of an interval, say.

    Raises UserError, and leaves an earlier file as it is, when a score of a row is NaN or infinite.
    """
    missing = [key for key in ("seed", "split_sizes", "parameters", "rows") if key not in results]
    if missing:
        raise ValueError(f"results of {name} lack {', '.join(missing)}")
    for row in results["rows"]:
        wrong = [key for key, value in row.items() if isinstance(value, float | np.floating) and not np.isfinite(value)]
        if wrong:
            raise UserError(
                f"the results of {name} are not written, since {', '.join(wrong)} of {row['model']} is no number: "
                "give more listings, or look at the data."
            )
    written = as_json({"name": name, "dataset": dataset_name(data_dir), "hardware": environment(gpu), **results})
    write_json(DataFolder(data_dir).results / f"{name}.json", written)
    return written


def formatted(value: Any) -> str:
    """A value as text: three decimals below 1, two below 10, one below 100; nothing where there is no value."""
    if value is None or isinstance(value, str):
        return value or ""
    decimals = sum(abs(value) < bound for bound in (1, 10, 100)) if isinstance(value, float) else 0
    return f"{value:z,.{decimals}f}"


def cell(row: Mapping[str, Any], key: str) -> str:
    """A value of a row as text: `test` with its interval, `seconds` rounded to whole seconds."""
    value, interval = row.get(key), row.get(f"{key}_interval")
    if key == "seconds":
        return formatted(round(value or 0) or None)
    if key == "test" and interval:
        return f"{formatted(value)} ({formatted(interval[0])} to {formatted(interval[1])})"
    return formatted(value)


def rows_table(rows: Sequence[Mapping[str, Any]], columns: Sequence[str] = COLUMNS) -> pd.DataFrame:
    """The keys `columns` of rows as a table of texts.

    A column without any value is left out. So is a task, a metric or a baseline that is the same in all rows: the
    metric is then put into the headings; the baseline is left out only if it is one of the rows.
    """
    table = pd.DataFrame({key: [cell(row, key) for row in rows] for key in columns})
    table = table.loc[:, (table != "").any()]
    with_baseline = any(row.get("test") == row.get("baseline") for row in rows)
    repeated = ("task", "metric", "baseline") if with_baseline else ("task", "metric")
    same = [key for key in repeated if key in table and table[key].nunique() == 1]
    metric = f" {table['metric'].iloc[0]}" if "metric" in same else ""
    heads = HEADS | {key: f"{key}{metric}" for key in ("validation", "test")}
    return table.drop(columns=same).rename(columns=heads)


def markdown(table: pd.DataFrame) -> str:
    """A table of texts as Markdown."""
    lines = [table.columns, ["---"] * table.shape[1], *table.itertuples(index=False)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def caption(results: Mapping[str, Any]) -> str:
    """What the figures of a results file depend on, in one line."""
    words = [f"**{results['dataset']}**"] if "dataset" in results else []
    sizes = [f"{name} {size:,}" for name, size in results.get("split_sizes", {}).items()]
    words += [", ".join(sizes)] if sizes else []
    words += [f"seed {results['seed']}"] if "seed" in results else []
    words += [results["hardware"]["words"]] if "hardware" in results else []
    words += [f"`{results['command']}`"] if "command" in results else []
    return "; ".join(words) + "."


def results_markdown(results: Mapping[str, Any]) -> str:
    """The rows of one results file as a Markdown table below its caption."""
    return f"{caption(results)} {NOTE}\n\n{markdown(rows_table(results['rows']))}"


def read_results(data_dir: str | Path) -> list[dict[str, Any]]:
    """All `results/*.json` of a data folder, in the order of the notebooks.

    Raises UserError when there is none, or one is damaged.
    """
    folder = DataFolder(data_dir).results
    paths = sorted(folder.glob("*.json"), key=lambda path: (ORDER.get(path.stem, len(ORDER)), path))
    if not paths:
        raise UserError(f"{folder} holds no results: run the notebooks on this data folder first.")
    found = []
    for path in paths:
        results = read_json(path, f"{path.stem}.ipynb")
        if not isinstance(results, dict) or not isinstance(results.get("rows"), list):
            raise UserError(f"{path} holds no result rows: delete it and run {path.stem} again.")
        found.append({**results, "name": path.stem})
    return found


def main() -> None:
    arguments = argument_parser("Print the results of a data folder.").parse_args()
    found, folder = read_results(arguments.data_dir), DataFolder(arguments.data_dir).results
    print(f"Results on the {dataset_name(arguments.data_dir)}, from {folder}.\n{NOTE}")
    for results in found:
        table = rows_table(results["rows"])
        left_aligned = table.apply(lambda column: column.str.ljust(column.str.len().max()))
        print(f"\n{results['name']}\n{left_aligned.to_string(index=False, justify='left')}")
