"""Predict the category of a product from a photo, from words, or from both.

    python predict_category.py [--data-dir data] [--image photo.jpg] [--text "Oak table, six chairs"] [--top 3] [--json]

Reads a checkpoint (checkpoints/combined_model_best.pt of the data folder, or --checkpoint FILE of any of the three
networks), writes nothing. The photo is cleaned as clean_images.py does it, the words as clean_tabular_data.py does.
"""

if __name__ == "__main__":  # before the imports, which take a while: run() answers Ctrl-C meanwhile
    from marketplace.command_line import run

    run("predict_category")

import argparse
import json
from pathlib import Path

from marketplace.command_line import argument_parser, positive_int
from marketplace.data_folder import DataFolder, UserError, check_data_folder
from marketplace.listing_text import clean_description


def parse_arguments() -> argparse.Namespace:
    parser = argument_parser("Predict the category of a product.")
    parser.add_argument("--checkpoint", type=Path, help="a network's file instead of the data folder's combined one")
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
    text = None if arguments.text is None else clean_description(arguments.text)
    if text == "":
        raise UserError("the text is empty: give some words after --text, or a photo with --image.")
    if arguments.checkpoint is None:
        check_data_folder(arguments.data_dir)
    path = arguments.checkpoint or DataFolder(arguments.data_dir).checkpoints / "combined_model_best.pt"

    from marketplace.dataset import load_query_photo
    from models.device import pick_device
    from models.predictor import load_predictor
    from models.text_encoder import TextEncoder

    device = pick_device()
    predictor = load_predictor(path, device)
    windows = pixels = None
    if text is not None:
        if predictor.encoder is None:
            raise UserError(f"the checkpoint {path} holds an ImageModel, which reads no text: leave out --text.")
        encoder = TextEncoder(predictor.encoder, device, predictor.encoder_weights)
        windows = encoder.encode(encoder.windows(text))
    if arguments.image is not None:
        if predictor.image_size is None:
            raise UserError(f"the checkpoint {path} holds a TextModel, which reads no photo: leave out --image.")
        pixels = load_query_photo(arguments.image, predictor.image_size)
    top = predictor.top(predictor.probabilities(windows, pixels), arguments.top)
    if arguments.json:
        print(json.dumps({"predictions": top}, allow_nan=False))  # in ASCII, for any stream
    else:
        for line in top:
            print(f"{line['probability']:6.1%}  {line['category']}")
