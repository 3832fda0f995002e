"""Estimate the price of a product from a text, its category and its place.

    python predict_price.py [--data-dir data] --text "Oak mirror, some marks" [--name "Mirror"]
        [--category "Home & Garden / Mirrors"] [--location "Reading, Berkshire"] [--json]

Reads checkpoints/price_model.skops of the data folder, which tabular_linear_regression.ipynb writes, and without
--category the model that predict_category.py uses, which predicts main categories. Writes nothing.
"""

import argparse
import json
import sys
from collections.abc import Collection
from dataclasses import asdict

from marketplace.command_line import argument_parser, run
from marketplace.data_folder import DataFolder, UserError, check_data_folder


def parse_arguments() -> argparse.Namespace:
    parser = argument_parser("Estimate the price of a product.")
    parser.add_argument("--text", required=True, help="its description, or name and description")
    parser.add_argument("--name", help="its name; else the first line of the text")
    parser.add_argument("--category", metavar='"MAIN / LEAF"', help="its category; else the main category is predicted")
    parser.add_argument("--location", metavar='"TOWN, COUNTY"', help="where it is sold")
    parser.add_argument("--json", action="store_true", help="print JSON")
    return parser.parse_args()


def predicted_category(arguments: argparse.Namespace, known: Collection[str]) -> tuple[str | None, str]:
    """`Predictor.main_category` of the model that predict_category.py uses; None where there is no model."""
    from models.device import pick_device
    from models.predict import load_predictor

    try:
        predictor = load_predictor(DataFolder(arguments.data_dir), pick_device())
    except UserError as error:
        return None, str(error)
    return predictor.main_category(arguments.text, arguments.name, known)


def pounds(price: float) -> str:
    return f"£{price:,.0f}" if price >= 10 else f"£{price:,.2f}"


def main() -> None:
    arguments = parse_arguments()
    check_data_folder(arguments.data_dir)

    from shallow.price import load_price_model

    model = load_price_model(DataFolder(arguments.data_dir))
    category, source = arguments.category, ""
    if category is None:
        category, source = predicted_category(arguments, model.labels)
    estimate = model.estimate(arguments.text, category, arguments.location, arguments.name)
    if arguments.category is not None and estimate.category in model.labels:
        source = "the main category alone: a leaf category of the training data gives a better estimate"
    line = f"category: {estimate.category or 'unknown'}{source and f' ({source})'}"
    if arguments.json:
        print(line, file=sys.stderr)
        print(json.dumps(asdict(estimate), allow_nan=False))  # in ASCII, for any stream
        return
    interval = f"{estimate.coverage:.0%} interval {pounds(estimate.low)} to {pounds(estimate.high)}"
    print(f"{pounds(estimate.price)}, {interval}\n{line}\nMain factors:")
    for factor in estimate.factors:
        print(f"× {factor.factor:.2f}  {factor.feature}")


if __name__ == "__main__":
    run(main)
