"""Writes the tables of README.md and docs/*.md, and the chart of all models, from the results in docs/results/.

    python -m evaluation.pages
    python -m evaluation.pages --collect DATA_DIR --as sample|real|real_mpnet

A page holds each table between `<!-- table: NAME -->` and `<!-- end -->`, where docs/results/NAME.json has its figures;
NAME is `glance` for the table of the four questions.
`--collect` first copies the aggregates of a data folder's results and of its cleaning report into docs/results/: the
figures, but no texts except the names of tasks, models and metrics.
"""

if __name__ == "__main__":  # before the imports, which take a while: run() answers Ctrl-C meanwhile
    from marketplace.command_line import run

    run("evaluation.pages")

import re
from argparse import ArgumentParser
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from evaluation.glance import SOURCES, draw_chart, glance_block
from evaluation.results import caption, markdown, read_results, results_markdown, rows_table
from marketplace.data_folder import ROOT, DataFolder, UserError, read_json, write_json

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


def main() -> None:
    parser = ArgumentParser(description="Write the tables of README.md and docs/*.md, and docs/models.png.")
    parser.add_argument("--collect", type=Path, metavar="DATA_DIR", help="first copy this data folder's results")
    parser.add_argument("--as", dest="source", choices=SOURCES, help="what the data folder holds")
    arguments = parser.parse_args()
    if (arguments.collect is None) != (arguments.source is None):
        parser.error("--collect and --as belong together")
    if arguments.collect:
        collect(arguments.collect, arguments.source)
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
