"""Predict the category of a product from a photo, from a text, or from both.

    python predict_category.py [--data-dir data] [--image photo.jpg] [--text "Oak table, six chairs"] [--top 3] [--json]

Reads the best model in checkpoints/ of the data folder: CombinedModel with TF-IDF, else CombinedModel, TextModel or
ImageModel. Writes nothing. The photo is cleaned as in clean_images.py, the text as in clean_tabular_data.py.
"""

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path

from marketplace.command_line import argument_parser, positive_int, run
from marketplace.data_folder import DataFolder, check_data_folder


def parse_arguments() -> argparse.Namespace:
    parser = argument_parser("Predict the category of a product.")
    parser.add_argument("--image", type=Path, help="a photo of the product")
    parser.add_argument("--text", help="its description, or name and description")
    parser.add_argument("--name", help="its name; else the first line of the text")
    parser.add_argument("--top", type=positive_int, default=3, help="how many categories to print")
    parser.add_argument("--json", action="store_true", help="print JSON")
    arguments = parser.parse_args()
    if arguments.image is None and arguments.text is None:
        parser.error("give --image, --text or both")
    if arguments.name is not None and arguments.text is None:
        parser.error("--name is the name that belongs to --text: give both")
    return arguments


def main() -> None:
    arguments = parse_arguments()
    check_data_folder(arguments.data_dir)

    from marketplace.photos import load_query_photo
    from models.device import pick_device
    from models.predict import load_predictor

    predictor = load_predictor(DataFolder(arguments.data_dir), pick_device())
    pixels = None if arguments.image is None else load_query_photo(arguments.image, predictor.photo_size)
    result = predictor.predict(arguments.text, pixels, arguments.top, arguments.name)
    print(f"model: {result.model}.", file=sys.stderr)
    if arguments.json:
        print(json.dumps(asdict(result), allow_nan=False))  # in ASCII, for any stream
    else:
        for line in result.predictions:
            print(f"{line.probability:6.1%}  {line.category}")


if __name__ == "__main__":
    run(main)
