"""Predict the category of a product from a photo, from words, or from both.

    python predict_category.py [--data-dir data] [--image photo.jpg] [--text "Oak table, six chairs"] [--top 3] [--json]

Reads a model in checkpoints/ of the data folder, writes nothing: the fused model (CombinedModel with TF-IDF) if it is
there, another by its name (--model), or any network's file (--checkpoint). The photo is cleaned as clean_images.py does
it, the words as clean_tabular_data.py does.
"""

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path

from marketplace.command_line import argument_parser, positive_int, run
from marketplace.data_folder import MODEL_FILES, DataFolder, check_data_folder
from marketplace.listing_text import query_text


def parse_arguments() -> argparse.Namespace:
    parser = argument_parser("Predict the category of a product.")
    chosen = parser.add_mutually_exclusive_group()
    chosen.add_argument("--model", choices=MODEL_FILES, help="instead of the first of them that the data folder has")
    chosen.add_argument("--checkpoint", type=Path, help="a network's file instead of a model of the data folder")
    parser.add_argument("--image", type=Path, help="a photo of the product")
    parser.add_argument("--text", help="its name and description")
    parser.add_argument("--top", type=positive_int, default=3, help="how many categories to print")
    parser.add_argument("--json", action="store_true", help="print JSON")
    arguments = parser.parse_args()
    if arguments.image is None and arguments.text is None:
        parser.error("give --image, --text or both")
    return arguments


def main() -> None:
    arguments = parse_arguments()
    text = None if arguments.text is None else query_text(arguments.text)
    if arguments.checkpoint is None:
        check_data_folder(arguments.data_dir)

    from marketplace.photos import load_query_photo
    from models.device import pick_device
    from models.predict import load_predictor

    predictor = load_predictor(DataFolder(arguments.data_dir), pick_device(), arguments.model, arguments.checkpoint)
    pixels = None if arguments.image is None else load_query_photo(arguments.image, predictor.photo_size)
    found = predictor.predict(text, pixels, arguments.top)
    print(f"model: {predictor.name}, from {predictor.path}.", file=sys.stderr)
    if arguments.json:
        print(json.dumps(asdict(found), allow_nan=False))  # in ASCII, for any stream
    else:
        for line in found.predictions:
            print(f"{line.probability:6.1%}  {line.category}")


if __name__ == "__main__":
    run(main)
