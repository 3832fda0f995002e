"""The results that notebooks and commands write, and the tables made of them.

    python -m evaluation.results [--data-dir data]

reads every `results/*.json` of the data folder and prints the one table of results.
"""

import os
import platform
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from evaluation.metrics import accuracy, classification_metrics, macro_f1
from marketplace.command_line import argument_parser, run
from marketplace.data_folder import DataFolder, UserError, read_json, write_json
from marketplace.dataset import SPLITS, rows_of_split

RESULTS_ORDER = ("tabular_linear_regression", "image_classification", "neural_networks", "product_ranking")
TABLE_COLUMNS = ("task", "model", "metric", "validation", "test", "test_interval", "baseline", "seconds")


def majority_predictions(products: pd.DataFrame) -> np.ndarray:
    """The most frequent category of the train split, for every product (N,)."""
    labels = products["main_category_code"].to_numpy(np.int64)
    return np.full(len(labels), np.bincount(labels[rows_of_split(products, "train")]).argmax())


def result_rows(
    model: str,
    products: pd.DataFrame,
    predictions: np.ndarray,
    seconds: float,
    *,
    product_rows: np.ndarray | None = None,
    seed: int = 0,
) -> list[dict]:
    """Rows of accuracy and macro-F1 for `predictions`, one each product (N,), or one each photo with its product in
    `product_rows` (P,); the test figures with intervals over products, and the majority's beside them.

    Empty when a split has no prediction.
    """
    product_rows = np.arange(len(products)) if product_rows is None else product_rows
    split_of_row = products["split"].to_numpy()[product_rows]
    if set(SPLITS) - set(split_of_row):
        return []
    labels = products["main_category_code"].to_numpy(np.int64)[product_rows]
    held, tested = split_of_row == "validation", split_of_row == "test"
    majority = majority_predictions(products)[product_rows]
    scores = classification_metrics(labels[tested], predictions[tested], product_rows[tested], seed)
    return [
        {
            "task": "category",
            "model": model,
            "metric": metric,
            "validation": function(labels[held], predictions[held]),
            "test": scores[key],
            "test_interval": scores[f"{key}_interval"],
            "baseline": function(labels[tested], majority[tested]),
            "seconds": seconds,
        }
        for metric, key, function in (("accuracy", "accuracy", accuracy), ("macro-F1", "macro_f1", macro_f1))
    ]


# Results --------------------------------------------------------------------------------------------------------------


def processor_name() -> str:
    """The processor's model in words."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text(encoding="utf-8").splitlines() if cpuinfo.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def environment(gpu: str | None = None) -> dict[str, Any]:
    """The hardware and the versions that a result depends on; no host name, no user, no path. `gpu` is the name of the
    GPU that was used (`models.device.gpu_name`)."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30 if hasattr(os, "sysconf") else None
    words = f"{cores} cores of {processor_name()}" + (f", {memory:.0f} GiB memory" if memory else "")
    return {
        "words": f"{words}, {gpu or 'no GPU'}",
        "processor": processor_name(),
        "cores": cores,
        "memory_gib": None if memory is None else round(memory, 1),
        "gpu": gpu,
        "python": platform.python_version(),
        **{name: version(name) for name in ("torch", "scikit-learn", "numpy")},
    }


def dataset_name(data_dir: str | Path) -> str:
    """What results are about: the sample marketplace (its folder holds the embedded database) or the user's data."""
    return "sample marketplace" if DataFolder(data_dir).database.exists() else "user data"


def plain(value: Any) -> Any:
    """The same value for JSON: NumPy scalars and arrays as Python's own, numbers that are not finite as None."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return None if isinstance(value, float) and not np.isfinite(value) else value


def write_results(
    data_dir: str | Path, name: str, results: Mapping[str, Any], gpu: str | None = None
) -> dict[str, Any]:
    """Write `results/<name>.json` and return what was written; name, data set and hardware are filled in.

    `results` holds `seed`, `split_sizes`, `parameters` and `rows`; each row has at least `task` and `model`, and as far
    as they apply the other keys of `TABLE_COLUMNS`; `baseline` is the dumb baseline's test score. More keys are kept.
    """
    missing = [key for key in ("seed", "split_sizes", "parameters", "rows") if key not in results]
    if missing:
        raise ValueError(f"results of {name} lack {', '.join(missing)}")
    written = plain({"name": name, "dataset": dataset_name(data_dir), "hardware": environment(gpu), **results})
    write_json(DataFolder(data_dir).results / f"{name}.json", written)
    return written


def formatted(value: Any) -> str:
    """A number for a table: three decimals, one from ten up, none from a hundred up; nothing for what is not there."""
    if value is None or (isinstance(value, float) and np.isnan(value)):
        return ""
    if isinstance(value, str):
        return value
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.1f}" if abs(value) >= 10 else f"{value:.3f}"


def rows_table(rows: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """Result rows as a table of `TABLE_COLUMNS`; the interval as text."""
    table = pd.DataFrame([{name: row.get(name) for name in TABLE_COLUMNS} for row in rows], columns=list(TABLE_COLUMNS))
    table["test_interval"] = [
        f"{formatted(pair[0])} to {formatted(pair[1])}" if isinstance(pair, Sequence) else ""
        for pair in table["test_interval"]
    ]
    return table


def readme_rows(results: Mapping[str, Any]) -> str:
    """The rows of one results file as a Markdown table, as they stand in the README."""
    table = rows_table(results["rows"]).map(formatted)
    lines = [
        "| " + " | ".join(name.replace("_", " ") for name in TABLE_COLUMNS) + " |",
        "|---" * len(TABLE_COLUMNS) + "|",
    ]
    lines += ["| " + " | ".join(row) + " |" for row in table.itertuples(index=False)]
    sizes = ", ".join(f"{name} {size:,}" for name, size in results["split_sizes"].items())
    lines += ["", f"{results['dataset']}; {sizes}; seed {results['seed']}; {results['hardware']['words']}."]
    return "\n".join(lines)


def results_table(data_dir: str | Path) -> pd.DataFrame:
    """The rows of all `results/*.json` of a data folder, in the order of the notebooks.

    Raises UserError when there is none, or one is damaged.
    """
    folder = DataFolder(data_dir).results
    paths = {path.stem: path for path in sorted(folder.glob("*.json"))}
    if not paths:
        raise UserError(f"{folder} holds no results: run the notebooks on this data folder first.")
    names = [name for name in RESULTS_ORDER if name in paths] + [name for name in paths if name not in RESULTS_ORDER]
    rows = []
    for name in names:
        results = read_json(paths[name], f"{name}.ipynb")
        if not isinstance(results, dict) or not isinstance(results.get("rows"), list):
            raise UserError(f"{paths[name]} holds no result rows: delete it and run {name} again.")
        rows += results["rows"]
    return rows_table(rows)


def main() -> None:
    arguments = argument_parser("Print the one table of results of a data folder.").parse_args()
    table = results_table(arguments.data_dir).map(formatted)
    print(f"Results on the {dataset_name(arguments.data_dir)}, from {DataFolder(arguments.data_dir).results}:")
    print(table.to_string(index=False))


if __name__ == "__main__":
    run(main)
