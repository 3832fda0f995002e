"""Estimate the price of a product from words, its category and its place.

    python predict_price.py [--data-dir data] --text "Oak mirror, some marks" [--category "Home & Garden / Mirrors"]
        [--location "Reading, Berkshire"] [--json]

Reads checkpoints/price_model.skops of the data folder, which tabular_linear_regression.ipynb writes, and without
--category the model that predict_category.py takes, which knows main categories. Writes nothing.
"""

import argparse
import json
import sys
from dataclasses import asdict

from marketplace.command_line import argument_parser, run
from marketplace.data_folder import DataFolder, check_data_folder
from marketplace.listing_text import query_text


def parse_arguments() -> argparse.Namespace:
    parser = argument_parser("Estimate the price of a product.")
    parser.add_argument("--text", required=True, help="its name and description")
    parser.add_argument("--category", metavar='"MAIN / LEAF"', help="its category; else the main category is predicted")
    parser.add_argument("--location", metavar='"TOWN, COUNTY"', help="where it is sold")
    parser.add_argument("--json", action="store_true", help="print JSON")
    return parser.parse_args()


def predicted_category(folder: DataFolder, text: str) -> tuple[str | None, str]:
    """`Predictor.main_category` of the model that predict_category.py takes; None where there is no model."""
    if not folder.trained_models():
        return None, "no model of categories is there: run train_models.py, or give --category"

    from models.device import pick_device
    from models.predict import load_predictor

    return load_predictor(folder, pick_device()).main_category(text)


def pounds(price: float) -> str:
    return f"£{price:,.0f}" if price >= 10 else f"£{price:,.2f}"


def main() -> None:
    arguments = parse_arguments()
    text = query_text(arguments.text)
    check_data_folder(arguments.data_dir)

    from shallow.price import load_price_model

    folder = DataFolder(arguments.data_dir)
    model = load_price_model(folder)
    category, source = arguments.category, ""
    if category is None:
        category, source = predicted_category(folder, text)
    estimate = model.estimate(text, category, arguments.location)
    if arguments.category is not None and estimate.category in model.labels:
        source = "the main category alone: a leaf category that train knows gives a better estimate"
    line = f"category: {estimate.category or 'unknown'}{source and f' ({source})'}"
    if arguments.json:
        print(line, file=sys.stderr)
        print(json.dumps(asdict(estimate), allow_nan=False))  # in ASCII, for any stream
        return
    print(
        f"{pounds(estimate.price)}, {estimate.coverage:.0%} interval {pounds(estimate.low)} to {pounds(estimate.high)}"
    )
    print(line)
    for factor in estimate.factors:
        print(f"× {factor.factor:.2f}  {factor.feature}")


if __name__ == "__main__":
    run(main)
