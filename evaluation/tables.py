"""The results that notebooks and commands write, and the tables and the chart of the pages made of them.

python -m evaluation.tables --data-dir DIR                      # print the results of a data folder
python -m evaluation.tables --data-dir DIR --collect sample     # copy them to docs/results/sample/
python -m evaluation.tables --publish                           # write the tables and the chart of the pages
"""

import contextlib
import hashlib
import json
import os
import platform
import re
import sqlite3
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from evaluation.plots import MODEL_COLOURS, plot_scores
from marketplace.command_line import argument_parser, run
from marketplace.data_folder import ROOT, DataFolder, UserError, read_json, write_json

NOTEBOOKS = ("tabular_linear_regression", "image_classification", "neural_networks", "product_ranking")
QUESTIONS = {  # `question` of result rows: as the headline table asks it, the score, and the notebook that answers it
    "price": ("What is it worth?", "R2 of pounds", "tabular_linear_regression"),
    "category by photo": ("Which category, by photo?", "accuracy", "neural_networks"),
    "category by words and photo": ("Which category, by words and photo?", "accuracy", "neural_networks"),
    "ranking": ("Which listings are relevant?", "NDCG@10", "product_ranking"),
}
COLUMNS = (  # of tables of result rows
    *("task", "model", "metric", "validation", "test"),
    *("macro_f1", "test_precision", "test_mrr", "baseline", "seconds"),
)
INTERVALS = {"test": "test_interval", "difference": "interval", "coverage": "coverage_interval"}  # shown in brackets
HEADS = {"macro_f1": "macro-F1", "test_precision": "precision", "test_mrr": "MRR", "name": "", "width": "upper / lower"}
HEADS |= {"ece_before": "without temperature", "ece_after": "with temperature"}
SECTIONS = {  # further tables of a results file: by key the sentence above, and the columns (none: all)
    "comparisons": ("Paired bootstrap over the test listings:", ("difference",)),
    "accuracy_without_seen": ("Test accuracy; new: no photo of train and no text with Jaccard index above 0.5:", ()),
    "accuracy_by_train_listings": ("Test accuracy by the number of train listings of the leaf category:", ()),
    "calibration": ("Expected calibration error on test:", ("ece_before", "ece_after")),
    "interval": ("80% interval on test, and the median of upper / lower bound:", ("coverage", "width")),
    "interval_by_main_category": ("Coverage in main categories with many test listings:", ("listings", "coverage")),
}
NOTE = "All metrics but validation are on the test split. In brackets: 95% bootstrap intervals."
MISSING = "–"
REAL = "real: {listings:,} clean listings of the AiCore Facebook Marketplace data"
RUN_REAL = "make run DATA_DIR=data IMAGE_WEIGHTS=none"
WITH_MPNET = f"{RUN_REAL} PARAMETERS='-p encoder sentence-transformers/all-mpnet-base-v2'"
SOURCES = {  # name of a data set: in short, what it is, and the command that gives its results
    "sample": ("sample", "sample marketplace", "make run IMAGE_WEIGHTS=none"),
    "real": ("real", REAL, RUN_REAL),
    "real_mpnet": ("real, all-mpnet-base-v2", f"{REAL}, with all-mpnet-base-v2", WITH_MPNET),
}
ABOUT = (
    "Scores on the test split, with 95% bootstrap intervals in brackets. Of several models the one with the best "
    "validation score is shown. Last column: paired bootstrap over the same listings."
)
PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
PUBLISHED = ROOT / "docs" / "results"
CHART = ROOT / "docs" / "models.png"
TABLE = re.compile(r"(<!-- table: (\S+) -->\n).*?(<!-- end -->)", re.DOTALL)
NAMES = ("task", "question", "kind", "model", "metric")  # the texts of result rows, which are published
CLEANING_STEPS = ("rows in", "rejected", "rows out", "banners removed", "located by", "split")


def processor_name() -> str:
    """Name of the processor's model."""
    cpuinfo = Path("/proc/cpuinfo")
    match = re.search(r"^model name\s*: (.+)", cpuinfo.read_text("utf-8") if cpuinfo.exists() else "", re.MULTILINE)
    return match[1] if match else platform.processor() or platform.machine()


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
    """What results are about: the sample marketplace, by the table of settings in its database, or the user's data."""
    database = DataFolder(data_dir).database.absolute()
    query = "SELECT count(*) FROM sqlite_master WHERE name = 'sample_settings'"
    try:
        with contextlib.closing(sqlite3.connect(f"{database.as_uri()}?mode=ro", uri=True)) as connection:
            made_here = connection.execute(query).fetchone()[0]
    except sqlite3.DatabaseError:  # no such file, or of another kind
        made_here = False
    return "sample marketplace" if made_here else "user data"


def as_json(value: Mapping[str, Any]) -> dict[str, Any]:
    """The value in JSON's types: NumPy's numbers and arrays become Python's own, non-finite numbers None."""
    return json.loads(pd.Series(value, dtype=object).to_json(double_precision=15))


def write_results(
    data_dir: str | Path, name: str, results: Mapping[str, Any], gpu: str | None = None
) -> dict[str, Any]:
    """Write `results/<name>.json` and return what was written; name, data set and hardware are filled in.

    `results` holds `seed`, `split_sizes`, `parameters` and `rows`, and whatever else is to be kept. Each row has
    `model`, `question` (a key of QUESTIONS, the beginning of several, or None), `kind` (a key of MODEL_COLOURS) and, as
    far as they apply, the other keys of COLUMNS. Further numbers that are NaN or infinite are written as None.

    Raises UserError, and leaves an earlier file as it is, when a score of a row is NaN or infinite.
    """
    for row in results["rows"]:
        wrong = [key for key, value in row.items() if isinstance(value, float | np.floating) and not np.isfinite(value)]
        if wrong:
            raise UserError(
                f"the results of {name} are not written, since {', '.join(wrong)} of {row['model']} is no number: "
                "give more listings, or check the data."
            )
    written = as_json({"name": name, "dataset": dataset_name(data_dir), "hardware": environment(gpu), **results})
    write_json(DataFolder(data_dir).results / f"{name}.json", written)
    return written


def formatted(value: Any, sign: str = "") -> str:
    """A value as text: three decimals below 1, two below 10, one below 100; nothing where there is no value."""
    if value is None or isinstance(value, str):
        return value or ""
    decimals = sum(abs(value) < bound for bound in (1, 10, 100)) if isinstance(value, float) else 0
    return f"{value:{sign}z,.{decimals}f}"


def cell(row: Mapping[str, Any], key: str) -> str:
    """A value of a row as text: scores with their interval, differences with their sign, seconds as whole seconds."""
    value, interval = row.get(key), row.get(INTERVALS.get(key, ""))
    sign = "+" if key == "difference" else ""
    if key == "seconds":
        return formatted(round(value or 0) or None)
    if interval:
        return f"{formatted(value, sign)} ({formatted(interval[0], sign)} to {formatted(interval[1], sign)})"
    return formatted(value, sign)


def rows_table(rows: Sequence[Mapping[str, Any]], columns: Sequence[str] = COLUMNS) -> pd.DataFrame:
    """The keys `columns` of rows as a table of texts.

    A column without any value is left out, and so are task and metric where all rows have the same.
    """
    table = pd.DataFrame({key: [cell(row, key) for row in rows] for key in columns})
    same = [key for key in ("task", "metric") if key in table and table[key].nunique() == 1]
    metric = f" {table['metric'].iloc[0]}" if "metric" in same else ""
    heads = HEADS | {key: f"{key}{metric}" for key in ("validation", "test")}
    return table.loc[:, (table != "").any()].drop(columns=same, errors="ignore").rename(columns=heads)


def markdown(table: pd.DataFrame) -> str:
    """A table of texts as Markdown."""
    lines = [table.columns, ["---"] * table.shape[1], *table.itertuples(index=False)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def caption(results: Mapping[str, Any]) -> str:
    """What the numbers of a results file depend on, in one line."""
    words = [f"**{results['dataset']}**"] if "dataset" in results else []
    words += [", ".join(f"{name} {size:,}" for name, size in results.get("split_sizes", {}).items())]
    words += [f"seed {results['seed']}"] if "seed" in results else []
    words += [results["hardware"]["words"]] if "hardware" in results else []
    words += [f"`{results['command']}`"] if "command" in results else []
    return "; ".join(filter(None, words)) + "."


def results_markdown(results: Mapping[str, Any]) -> str:
    """The rows of one results file as a Markdown table below its caption."""
    return f"{caption(results)} {NOTE}\n\n{markdown(rows_table(results['rows']))}"


def read_results(data_dir: str | Path) -> list[dict[str, Any]]:
    """All `results/*.json` of a data folder, in the order of the notebooks; raises UserError when there is none."""
    folder = DataFolder(data_dir).results
    names = sorted(path.stem for path in folder.glob("*.json"))
    if not names:
        raise UserError(f"{folder} holds no results: run the notebooks on this data folder first.")
    names.sort(key=lambda name: NOTEBOOKS.index(name) if name in NOTEBOOKS else len(NOTEBOOKS))
    all_results = [read_json(folder / f"{name}.json", f"{name}.ipynb") for name in names]
    return [
        results for results in all_results if isinstance(results, dict) and "rows" in results
    ]  # others are not ours


def read_published(published: Path, source: str, name: str) -> dict[str, Any]:
    """A file of docs/results/, or nothing where it is missing."""
    path = published / source / f"{name}.json"
    return read_json(path, "python -m evaluation.tables --collect") if path.exists() else {}


def rows_about(results: Mapping[str, Any], question: str) -> list[dict[str, Any]]:
    """The rows of a results file about a key of QUESTIONS; those about "category" are about both ways to find it."""
    return [row for row in results.get("rows", []) if question.startswith(row.get("question") or MISSING)]


def headline_table(published: Path) -> pd.DataFrame:
    """One row a question and data set, with the scores of its naive baseline, its best shallow model and ours."""
    lines = []
    for key, (question, score, name) in QUESTIONS.items():
        for source, (listings, *_) in SOURCES.items():
            results = read_published(published, source, name)
            if source == "real_mpnet" and key != "category by words and photo":
                continue  # ImageModel reads no words
            line = {"question": f"{question}<br>{score}" if source == "sample" else "", "listings": listings}
            best = {}
            for row in sorted(rows_about(results, key), key=lambda row: row["validation"]):
                kind = row["kind"] if row["kind"] in ("naive", "shallow") else "ours"
                best[kind] = row["model"]
                line[kind] = f"{cell(row, 'test')}<br>{row['model']}"
            pair = f"{best.get('ours')} - {best.get('shallow')}"
            line["difference"] = cell(results.get("comparisons", {}).get(pair, {}), "difference")
            lines.append(line)
    heads = {"shallow": "best shallow", "difference": "ours - best shallow"}
    table = pd.DataFrame(lines, columns=["question", "listings", "naive", "shallow", "ours", "difference"])
    return table.replace({"difference": ""}, MISSING).fillna(MISSING).rename(columns=heads)


def headline_block(published: Path) -> str:
    """What stands between the markers `<!-- table: headline -->` and `<!-- end -->` of a page."""
    sources = []
    for source in ("sample", "real"):
        results = read_published(published, source, "neural_networks")
        if results:
            about = results["dataset"].removeprefix("real: ")
            count = results["split_sizes"]["test"]
            sources.append(f"**{source.capitalize()}**: {about} ({count:,} test listings), `{results['command']}`.")
    return f"{' '.join([ABOUT, *sources])}\n\n{markdown(headline_table(published))}"


def chart_table(published: Path) -> pd.DataFrame:
    """The rows of all notebooks about each question, one a model and source; those of later notebooks come first."""
    rows = [
        {**row, "question": "{} ({})".format(*QUESTIONS[key]), "source": source}
        for key in QUESTIONS
        for source in ("sample", "real")
        for name in reversed(NOTEBOOKS)
        for row in rows_about(read_published(published, source, name), key)
    ]
    columns = ["question", "source", "kind", "model", "test", "test_interval", "seconds"]
    return pd.DataFrame(rows, columns=columns).drop_duplicates(["question", "source", "model"])


def chart_key(table: pd.DataFrame) -> str:
    """What stands in the chart's file as its description: it changes when one of its numbers does."""
    return hashlib.sha256(table.to_json().encode()).hexdigest()


def plot_models(table: pd.DataFrame) -> plt.Figure:
    """Draw the test scores of models with their intervals, and beside them the seconds of training where measured.

    `table`: of `chart_table`. A line of panels for each question, two panels for each data set.
    """
    kinds, questions = list(MODEL_COLOURS), table["question"].unique()
    heights = [table.loc[table["question"] == question, "model"].nunique() for question in questions]
    look: dict[str, Any] = {
        "height_ratios": heights,
        "width_ratios": [2.2, 1, 2.2, 1],
        "sharex": "col",
        "sharey": "row",
    }
    figure, axes = plt.subplots(
        len(questions), 4, squeeze=False, layout="constrained", figsize=(9.6, 0.19 * sum(heights) + 2), **look
    )
    for line, question in zip(axes, questions, strict=True):
        of_question = table[table["question"] == question]
        models = of_question.sort_values("kind", key=lambda kind: kind.map(kinds.index), kind="stable")[
            "model"
        ].unique()
        line[0].set_title(question, loc="left", fontsize=9, fontweight="bold")
        for scores, seconds, source in ((*line[:2], "sample"), (*line[2:], "real")):
            rows = of_question[of_question["source"] == source].set_index("model").reindex(models)
            intervals = [ends if isinstance(ends, list) else (np.nan, np.nan) for ends in rows["test_interval"]]
            colours = rows["kind"].map(MODEL_COLOURS).fillna("none")
            plot_scores(scores, models, rows["test"], intervals, colours)
            seconds.scatter(rows["seconds"].astype(float).replace(0, np.nan), range(len(models)), s=25, c=colours)
            scores.set(xlim=(-0.1, 1.04))
            seconds.set(xscale="log", xlim=(1e-3, 1e4))
            for ax in (scores, seconds):
                ax.tick_params(labelsize=8)
                ax.grid(axis="x", color="0.9")
                ax.set_axisbelow(True)
    labels = [f"{source}: test score (line: 95% interval)" for source in ("sample", "real")]
    for ax, label in zip(axes[-1], (labels[0], "seconds", labels[1], "seconds"), strict=True):
        ax.set_xlabel(label)
    handles = [plt.Line2D([], [], color=colour, marker="o", linestyle="") for colour in MODEL_COLOURS.values()]
    names = [kind if kind in ("naive", "shallow") else f"ours: {kind}" for kind in kinds]
    figure.legend(handles, names, fontsize=9, loc="outside upper center", ncols=len(names))
    return figure


def draw_chart(published: Path, path: Path) -> None:
    """Write the chart of all models as PNG; the same numbers give the same bytes."""
    table = chart_table(published)
    figure = plot_models(table)
    figure.savefig(path, dpi=130, metadata={"Software": None, "Description": chart_key(table)})
    plt.close(figure)


def numbers(value: Any) -> Any:
    """What is published of a JSON value: numbers, with six digits, and the NAMES of rows. A list of texts becomes its
    length and all other texts are dropped, since they may be ids, texts of listings or paths."""
    if isinstance(value, Mapping):
        kept = {key: item for key, item in value.items() if key in NAMES or not isinstance(item, str)}
        return {key: item if key in NAMES else numbers(item) for key, item in kept.items()}
    if isinstance(value, list):
        return len(value) if any(isinstance(item, str) for item in value) else [numbers(item) for item in value]
    return float(f"{value:.6g}") if isinstance(value, float) else value


def collect(data_dir: Path, source: str, published: Path = PUBLISHED) -> None:
    """Write the numbers of a data folder's results and cleaning report to `published/<source>/`.

    Raises UserError when one of them is missing or damaged.
    """
    _, dataset, command = SOURCES[source]
    report = read_json(DataFolder(data_dir).report("clean_tabular"), "clean_tabular_data.py")
    dataset = dataset.format(listings=report["rows out"])
    for results in (*read_results(data_dir), {"name": "clean_tabular", **report}):
        about = {"name": results["name"], "dataset": dataset, "command": command}
        about |= {"hardware": results["hardware"]} if "hardware" in results else {}
        rest = {key: value for key, value in results.items() if key not in about}
        write_json(published / source / f"{results['name']}.json", about | numbers(rest))


def page_block(results: Mapping[str, Any]) -> str:
    """What stands between the markers: of a results file, a cleaning report or a benchmark."""
    if "rows" not in results:
        counts = pd.json_normalize({step: results[step] for step in CLEANING_STEPS}, sep=": ").iloc[0]
        table = rows_table([{"step": step, "rows": int(count)} for step, count in counts.items()], ("step", "rows"))
        return f"{caption(results)}\n\n{markdown(table)}"
    if "split_sizes" not in results:
        keys = list(dict.fromkeys(key for row in results["rows"] for key in row))
        return f"{caption(results)}\n\n{markdown(rows_table(results['rows'], keys))}"
    blocks = [results_markdown(results)]
    for section, (sentence, columns) in SECTIONS.items():
        rows = [{"name": name, **values} for name, values in results.get(section, {}).items()]
        if rows:
            blocks += [sentence, markdown(rows_table(rows, ("name", *columns) if columns else tuple(rows[0])))]
    return "\n\n".join(blocks)


def with_tables(text: str, published: Path = PUBLISHED) -> str:
    """The text of a page with the tables that its markers name.

    Raises UserError when a marker has no end, or no results file has its name.
    """
    if text.count("<!-- table: ") != text.count("<!-- end -->"):
        raise UserError("a page has a <!-- table: NAME --> without <!-- end -->, or the other way round: add it.")

    def filled(match: re.Match[str]) -> str:
        if match[2] == "headline":
            return f"{match[1]}\n{headline_block(published)}\n\n{match[3]}"
        results = read_json(published / f"{match[2]}.json", "python -m evaluation.tables --collect, or the benchmark,")
        return f"{match[1]}\n{page_block(results)}\n\n{match[3]}"

    return TABLE.sub(filled, text)


def publish() -> None:
    """Write the tables of README.md and docs/*.md, and the chart, from docs/results/."""
    for page in PAGES:
        page.write_text(with_tables(page.read_text(encoding="utf-8")), encoding="utf-8")
    draw_chart(PUBLISHED, CHART)
    print(f"wrote the tables of README.md and docs/, and {CHART.relative_to(ROOT)}")


def main() -> None:
    parser = argument_parser("Print the results of a data folder, or publish them.")
    parser.add_argument("--collect", choices=SOURCES, help="copy the data folder's results to docs/results/ as these")
    parser.add_argument("--publish", action="store_true", help="write the tables of README.md and docs/*.md")
    arguments = parser.parse_args()
    if arguments.collect:
        collect(arguments.data_dir, arguments.collect)
    if arguments.publish:
        publish()
    if arguments.collect or arguments.publish:
        return
    all_results, folder = read_results(arguments.data_dir), DataFolder(arguments.data_dir).results
    print(f"Results on the {dataset_name(arguments.data_dir)}, from {folder}.\n{NOTE}")
    for results in all_results:
        table = rows_table(results["rows"])
        left_aligned = table.apply(lambda column: column.str.ljust(column.str.len().max()))
        print(f"\n{results['name']}\n{left_aligned.to_string(index=False, justify='left')}")


if __name__ == "__main__":
    run(main)
