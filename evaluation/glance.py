"""The results at a glance: each question with its naive baseline, best shallow model and ours, from docs/results/."""

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import pandas as pd

from evaluation.plots import MODEL_COLOURS
from evaluation.results import cell, markdown
from marketplace.data_folder import read_json

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
