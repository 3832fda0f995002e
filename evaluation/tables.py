"""The results that notebooks and commands write, and the tables and the chart of the pages made of them."""

import hashlib
import json
import os
import platform
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from sklearn.metrics import accuracy_score

from evaluation.metrics import classification_metrics
from evaluation.plots import MODEL_COLOURS
from marketplace.command_line import argument_parser, run
from marketplace.data_folder import ROOT, DataFolder, UserError, read_json, write_json
from marketplace.listings import SPLITS, rows_of_split

ORDER = {"tabular_linear_regression": 0, "image_classification": 1, "neural_networks": 2, "product_ranking": 3}
HEADS = {"macro_f1": "macro-F1", "test_precision": "precision", "test_mrr": "MRR"}
COLUMNS = ("task", "model", "metric", "validation", "test", *HEADS, "baseline", "seconds")
NOTE = "In brackets: 95% bootstrap intervals. Macro-F1, precision and MRR are of test, too."
MISSING = "–"
REAL = "real: 4,254 clean listings of the AiCore Facebook Marketplace data"
MPNET = "sentence-transformers/all-mpnet-base-v2"
SOURCES = {  # name of a data set: in short, what it is, and the command that gives its results
    "sample": ("sample", "sample marketplace", "make run IMAGE_WEIGHTS=none"),
    "real": ("real", REAL, "make run DATA_DIR=data IMAGE_WEIGHTS=none"),
    "real_mpnet": (
        "real, all-mpnet-base-v2",
        f"{REAL}, with all-mpnet-base-v2",
        f"make run DATA_DIR=data IMAGE_WEIGHTS=none PARAMETERS='-p encoder {MPNET}'",
    ),
}
NETWORKS = r".*(TextModel|ImageModel|CombinedModel).*"
READ = {"text": r"^(TextModel|text only|.*from text)$", "photo": "^(ImageModel|photo only)"}  # by ours
WORDS = r".*(TF-IDF|embedding|TextModel|CombinedModel).*"
ABOUT = (
    "Scores on the test split, with 95% bootstrap intervals in brackets. Of several models the one with the best "
    "validation score is shown. Last column: paired bootstrap over the same listings."
)


@dataclass(frozen=True)
class Question:
    """A question, and which rows of which results answer it; `models`, `naive` and `ours` are regular expressions.

    The first of `tasks`, pairs of a results file and a task in it, has the models that are compared over the same
    listings; the others have further ones, for the chart.
    """

    name: str
    score: str
    metric: str
    tasks: tuple[tuple[str, str], ...]
    naive: str
    ours: str
    models: str = ".*"
    sources: tuple[str, ...] = ("sample", "real")

    def kind(self, model: str) -> str:
        """Whether a model is "naive", "shallow" or "ours"."""
        if re.fullmatch(self.naive, model):
            return "naive"
        return "ours" if re.fullmatch(self.ours, model) else "shallow"

    def colour(self, model: str) -> str:
        """The kind of a model in the chart, where ours are told apart by what they read: text, photo or both."""
        kind = self.kind(model)
        return next((name for name, read in READ.items() if re.search(read, model)), "both") if kind == "ours" else kind

    def rows(self, results: Mapping[str, Any], task: str) -> list[dict[str, Any]]:
        """The rows of a results file that answer the question."""
        return [
            row
            for row in results.get("rows", [])
            if (row["task"], row["metric"]) == (task, self.metric) and re.fullmatch(self.models, row["model"])
        ]


CATEGORY = ("neural_networks", "category")
QUESTIONS = (
    Question(
        name="What is it worth?",
        score="R2 of pounds",
        metric="R2, pounds",
        tasks=(("tabular_linear_regression", "price"),),
        naive="mean",
        ours="(kernel )?ridge of log price.*",
    ),
    Question(
        name="Which category, by photo?",
        score="accuracy",
        metric="accuracy",
        tasks=(CATEGORY, ("image_classification", "category per product")),
        naive="majority",
        ours=NETWORKS,
        models=rf"(?!{WORDS}$).*",
    ),
    Question(
        name="Which category, by words and photo?",
        score="accuracy",
        metric="accuracy",
        tasks=(CATEGORY,),
        naive="majority",
        ours=NETWORKS,
        models=rf"majority|{WORDS}",
        sources=("sample", "real", "real_mpnet"),
    ),
    Question(
        name="Which listings suit a query?",
        score="NDCG@10",
        metric="NDCG@10",
        tasks=(("product_ranking", "ranking"),),
        naive="random|popular category",
        ours="text and photo|text only|photo only",
    ),
)
PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
PUBLISHED = ROOT / "docs" / "results"
CHART = ROOT / "docs" / "models.png"
TABLE = re.compile(r"(<!-- table: (\S+) -->\n).*?(<!-- end -->)", re.DOTALL)
AGGREGATES = (  # the keys of results files that are published
    *("seed", "split_sizes", "parameters", "checks", "steps", "fold_gains", "interval", "curve", "leak", "photos"),
    *("seen_in_training", "accuracy_without_seen", "comparisons", "calibration", "accuracy_with_one_input"),
    *("learning_curves", "test_seen_in_train", "accuracy_by_train_listings"),
)
CLEANING_STEPS = ("rows in", "rows out", "banners removed", "set aside", "located by", "split")


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


def read_published(published: Path, source: str, name: str) -> dict[str, Any]:
    """A file of docs/results/, or nothing where it is missing."""
    path = published / source / f"{name}.json"
    return read_json(path, "python -m evaluation.pages --collect") if path.exists() else {}


def best(rows: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    """The row with the best validation score, or an empty one."""
    scored = [row for row in rows if row.get("validation") is not None]
    return max(scored, key=lambda row: row["validation"], default=rows[0] if rows else {})


def difference(results: Mapping[str, Any], first: str, second: str) -> str:
    """The paired difference of two models' scores with its interval, where the results have it."""
    found = results.get("comparisons", {}).get(f"{first} - {second}")
    if not found:
        return MISSING
    low, high = found["interval"]
    return f"{found['difference']:+.3f} ({low:+.3f} to {high:+.3f})"


def glance_table(published: Path) -> pd.DataFrame:
    """One row a question and data set, with the scores of its naive baseline, its best shallow model and ours."""
    lines = []
    for question in QUESTIONS:
        name, task = question.tasks[0]
        for source in question.sources:
            results = read_published(published, source, name)
            line = {
                "question": f"{question.name}<br>{question.score}" if source == question.sources[0] else "",
                "listings": SOURCES[source][0],
            }
            chosen = {}
            for kind, head in {"naive": "naive", "shallow": "best shallow", "ours": "ours"}.items():
                row = best([row for row in question.rows(results, task) if question.kind(row["model"]) == kind])
                chosen[kind] = row.get("model", "")
                line[head] = f"{cell(row, 'test')}<br>{row['model']}" if row else MISSING
            line["ours - best shallow"] = difference(results, chosen["ours"], chosen["shallow"])
            lines.append(line)
    return pd.DataFrame(lines)


def glance_block(published: Path) -> str:
    """What stands between the markers `<!-- table: glance -->` and `<!-- end -->` of a page."""
    sources = []
    for source in ("sample", "real"):
        results = read_published(published, source, "neural_networks")
        if results:
            about = results["dataset"].removeprefix("real: ")
            count = results["split_sizes"]["test"]
            sources.append(f"**{source.capitalize()}**: {about} ({count:,} test listings), `{results['command']}`.")
    return f"{' '.join([ABOUT, *sources])}\n\n{markdown(glance_table(published))}"


def chart_table(published: Path) -> pd.DataFrame:
    """The test scores of all models, with `kind`, interval (`low`, `high`) and `seconds` (missing: not measured)."""
    lines = []
    for question in QUESTIONS:
        for source in ("sample", "real"):
            models = set()
            for name, task in question.tasks:
                results = read_published(published, source, name)
                for row in question.rows(results, task):
                    if row["model"] not in models:
                        models.add(row["model"])
                        lines.append(
                            {
                                "question": f"{question.name} ({question.score})",
                                "model": row["model"],
                                "kind": question.colour(row["model"]),
                                "source": source,
                                "test": row["test"],
                                "low": row["test_interval"][0],
                                "high": row["test_interval"][1],
                                "seconds": row.get("seconds") or None,
                            }
                        )
    return pd.DataFrame(lines)


def chart_key(table: pd.DataFrame) -> str:
    """What stands in the chart's file as its description: it changes when one of the figures does."""
    return hashlib.sha256(table.to_json().encode()).hexdigest()


def plot_models(table: pd.DataFrame) -> plt.Figure:
    """Draw the test scores of models with their intervals, and beside them the seconds of training.

    `table`: of `chart_table`. One line a model, below the headings of the questions; for each data set a panel of
    scores and a narrow one of seconds, which has no dot where they were not measured.
    """
    lines: dict[tuple[str, str], int] = {}
    names: list[str] = []
    headings: list[int] = []
    for question, of_question in table.groupby("question", sort=False):
        headings.append(len(names))
        names.append(question)
        for kind in MODEL_COLOURS:
            for model in of_question.loc[of_question["kind"] == kind, "model"].unique():
                lines[question, model] = len(names)
                names.append(model)
    sources = list(table["source"].unique())
    figure, axes = plt.subplots(
        1,
        2 * len(sources),
        figsize=(9.6, 0.19 * len(names) + 1.2),
        sharey=True,
        squeeze=False,
        layout="constrained",
        width_ratios=[2.2, 1] * len(sources),
    )
    for source, (scores, seconds) in zip(sources, axes.reshape(-1, 2), strict=True):
        for kind, colour in MODEL_COLOURS.items():
            of_kind = table[(table["source"] == source) & (table["kind"] == kind)]
            places = [lines[key] for key in zip(of_kind["question"], of_kind["model"], strict=True)]
            reach = [of_kind["test"] - of_kind["low"], of_kind["high"] - of_kind["test"]]
            scores.errorbar(of_kind["test"], places, xerr=reach, fmt="o", markersize=4, color=colour, label=kind)
            seconds.plot(of_kind["seconds"].astype(float), places, "o", markersize=4, color=colour)
        scores.set(xlim=(-0.1, 1.04), xticks=[0, 0.25, 0.5, 0.75, 1], xlabel="score (line: 95% interval)")
        scores.set_xticklabels(["0", "", "0.5", "", "1"])
        scores.set_title(f"{source}: test score", fontsize=10)
        seconds.set(xscale="log", xlim=(1e-3, 1e4), xlabel="seconds")
        seconds.set_xticks([0.01, 1, 100], ["0.01", "1", "100"])
        seconds.set_title("training", fontsize=10)
        for ax in (scores, seconds):
            ax.tick_params(axis="y", length=0)
            ax.tick_params(axis="x", labelsize=9)
            ax.grid(axis="x", color="0.9")
            ax.set_axisbelow(True)
            for place in headings:
                ax.axhspan(place - 0.5, place + 0.5, color="0.93")
    axes[0, 0].set_yticks(range(len(names)), names, fontsize=8)
    axes[0, 0].set_ylim(len(names) - 0.4, -0.6)
    for place in headings:
        axes[0, 0].get_yticklabels()[place].set_fontweight("bold")
    names_of_kinds = [kind if kind in ("naive", "shallow") else f"ours: {kind}" for kind in MODEL_COLOURS]
    handles = axes[0, 0].get_legend_handles_labels()[0]
    figure.legend(handles, names_of_kinds, fontsize=9, loc="outside upper center", ncols=len(handles))
    return figure


def draw_chart(published: Path, path: Path) -> None:
    """Write the chart of all models as PNG; the same figures give the same bytes."""
    table = chart_table(published)
    figure = plot_models(table)
    figure.savefig(path, dpi=130, metadata={"Software": None, "Description": chart_key(table)})
    plt.close(figure)


def figures(value: Any) -> Any:
    """The numbers of a JSON value, with six digits; a list of texts becomes its length, other texts are dropped."""
    if isinstance(value, Mapping):
        return {key: figures(item) for key, item in value.items() if not isinstance(item, str)}
    if isinstance(value, list):
        return len(value) if any(isinstance(item, str) for item in value) else [figures(item) for item in value]
    return float(f"{value:.6g}") if isinstance(value, float) else value


def aggregates(results: Mapping[str, Any]) -> dict[str, Any]:
    """The published part of a results file: its figures and the names of its models and metrics."""
    rows = [{key: row.get(key) for key in ("task", "model", "metric")} | figures(row) for row in results["rows"]]
    kept = figures({key: results[key] for key in AGGREGATES if key in results})
    return {"name": results["name"], "hardware": results["hardware"], **kept, "rows": rows}


def collect(data_dir: Path, source: str, published: Path = PUBLISHED) -> None:
    """Write the aggregates of a data folder's results and cleaning report to `published/<source>/`.

    Raises UserError when one of them is missing or damaged.
    """
    _, dataset, command = SOURCES[source]
    found = [aggregates(results) for results in read_results(data_dir)]
    report = read_json(DataFolder(data_dir).report("clean_tabular"), "clean_tabular_data.py")
    cleaning = {step: report[step] for step in CLEANING_STEPS if step in report}
    for results in (*found, {"name": "clean_tabular", **figures(cleaning)}):
        about = {"name": results["name"], "dataset": dataset, "command": command}
        write_json(published / source / f"{results['name']}.json", about | results)


def comparison_lines(results: Mapping[str, Any]) -> list[str]:
    """The paired comparisons of a results file, its scores without the listings seen in training and by the number of
    train listings, its calibration, and the coverage of its intervals."""
    differences = [
        f"{name} {found['difference']:+.3f} ({found['interval'][0]:+.3f} to {found['interval'][1]:+.3f})"
        for name, found in results.get("comparisons", {}).items()
    ]
    lines = [f"Paired bootstrap over the test listings: {'; '.join(differences)}."] if differences else []
    if "accuracy_without_seen" in results:
        seen = results["seen_in_training"]
        scores = ", ".join(f"{name} {score:.3f}" for name, score in results["accuracy_without_seen"].items())
        lines.append(
            f"{seen['same_photo']} test listings share a photo with train, {seen['similar_text']} have a text similar "
            f"to one of train (Jaccard index of the words above 0.5); test accuracy without them: {scores}."
        )
    by_leaf = results.get("accuracy_by_train_listings", {})
    if by_leaf:
        rows = [
            {"model": model, **{f"{size} (n = {of['listings']})": of["test"] for size, of in sizes.items()}}
            for model, sizes in by_leaf.items()
        ]
        lines.append("Test accuracy by the number of train listings of the leaf category:")
        lines.append(markdown(rows_table(rows, list(rows[0]))))
    if "calibration" in results:
        errors = ", ".join(
            f"{model} {of['ece_before']:.3f} and {of['ece_after']:.3f}" for model, of in results["calibration"].items()
        )
        lines.append(
            f"Expected calibration error on test without and with a temperature fitted on validation: {errors}."
        )
    covered = [
        f"{known} known {of['coverage']:.3f} ({of['coverage_interval'][0]:.3f} to {of['coverage_interval'][1]:.3f}), "
        f"width {of['width']:.1f}"
        for known, of in results.get("interval", {}).items()
        if "width" in of
    ]
    if covered:
        lines.append(f"80% interval, coverage on test (width: upper / lower bound, median): {'; '.join(covered)}.")
        of_each = [of["coverage"] for of in results["interval"].get("by main category", {}).values()]
        if of_each:
            lines.append(
                f"Coverage in main categories with 50 test listings or more: {min(of_each):.3f} to {max(of_each):.3f}."
            )
    return lines


def page_block(results: Mapping[str, Any]) -> str:
    """What stands between the markers: of a results file, a cleaning report or a benchmark."""
    if "split_sizes" in results:
        return "\n\n".join([results_markdown(results), *comparison_lines(results)])
    rows = results.get("rows", [])
    if "set aside" in results:
        counts = pd.json_normalize({step: results[step] for step in CLEANING_STEPS}, sep=": ").iloc[0]
        rows = [{"step": step, "rows": int(count)} for step, count in counts.items()]
    columns = list(dict.fromkeys(key for row in rows for key in row))
    return f"{caption(results)}\n\n{markdown(rows_table(rows, columns))}"


def with_tables(text: str, published: Path = PUBLISHED) -> str:
    """The text of a page with the tables that its markers name.

    Raises UserError when a marker has no end, or no results file has its name.
    """
    if text.count("<!-- table: ") != text.count("<!-- end -->"):
        raise UserError(
            "a page has a <!-- table: NAME --> without <!-- end -->, or an <!-- end --> alone: add the other."
        )

    def filled(match: re.Match[str]) -> str:
        if match[2] == "glance":
            return f"{match[1]}\n{glance_block(published)}\n\n{match[3]}"
        results = read_json(published / f"{match[2]}.json", "python -m evaluation.pages --collect, or the benchmark,")
        return f"{match[1]}\n{page_block(results)}\n\n{match[3]}"

    return TABLE.sub(filled, text)


def publish() -> None:
    """Write the tables of README.md and docs/*.md, and the chart, from docs/results/."""
    for page in PAGES:
        old = page.read_text(encoding="utf-8")
        new = with_tables(old)
        if new != old:
            page.write_text(new, encoding="utf-8")
            print(f"wrote the tables of {page.relative_to(ROOT)}")
    old_chart = CHART.read_bytes() if CHART.exists() else b""
    draw_chart(PUBLISHED, CHART)
    if CHART.read_bytes() != old_chart:
        print(f"wrote {CHART.relative_to(ROOT)}")


def main() -> None:
    parser = argument_parser("Print the results of a data folder, or publish them.")
    parser.add_argument("--publish", action="store_true", help="write the tables of README.md and docs/*.md instead")
    parser.add_argument("--collect", choices=SOURCES, help="first copy the data folder's results to docs/results/ as")
    arguments = parser.parse_args()
    if arguments.collect:
        collect(arguments.data_dir, arguments.collect)
    if arguments.publish:
        publish()
        return
    found, folder = read_results(arguments.data_dir), DataFolder(arguments.data_dir).results
    print(f"Results on the {dataset_name(arguments.data_dir)}, from {folder}.\n{NOTE}")
    for results in found:
        table = rows_table(results["rows"])
        left_aligned = table.apply(lambda column: column.str.ljust(column.str.len().max()))
        print(f"\n{results['name']}\n{left_aligned.to_string(index=False, justify='left')}")


if __name__ == "__main__":
    run(main)
