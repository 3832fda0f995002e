"""Say which category a product belongs to, by a photo, by words, or by both.

    python predict_category.py [--data-dir data] [--image photo.jpg] [--text "Oak table, six chairs"] [--top 3] [--json]

Reads a checkpoint (checkpoints/combined_model_best.pt of the data folder, or --checkpoint FILE of any of the three
networks), writes nothing. The photo is cleaned as clean_images.py does it, the words as clean_tabular_data.py does.
"""

import argparse
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

from marketplace.command_line import argument_parser, positive_int, run
from marketplace.data_folder import DataFolder, UserError, check_data_folder
from marketplace.dataset import load_query_photo
from marketplace.listing_text import clean_description
from models import CombinedModel, ImageModel, TextModel
from models.checkpoints import load_checkpoint, load_weights
from models.device import pick_device
from models.image_model import evaluation_transform
from models.text_encoder import TextEncoder


@dataclass
class Predictor:
    """A trained network, ready to judge, with what it needs to know about its inputs."""

    model: nn.Module
    labels: list[str]
    encoder: str | None  # of texts; None for an ImageModel
    image_size: int | None  # in pixels; None for a TextModel
    temperature: float


def parse_arguments() -> argparse.Namespace:
    parser = argument_parser("Say which category a product belongs to.")
    parser.add_argument("--checkpoint", type=Path, help="a network's file instead of the data folder's combined one")
    parser.add_argument("--image", type=Path, help="a photo of the product")
    parser.add_argument("--text", help="its name and description")
    parser.add_argument("--top", type=positive_int, default=3, help="how many categories to name")
    parser.add_argument("--json", action="store_true", help="print JSON")
    arguments = parser.parse_args()
    if arguments.image is None and arguments.text is None:
        parser.error("give --image, --text or both")
    return arguments


def load_predictor(path: Path, device: torch.device) -> Predictor:
    """The network of a checkpoint in evaluation mode; raises UserError as `load_checkpoint`."""
    checkpoint = load_checkpoint(path, device=device)
    classes = {"TextModel": TextModel, "ImageModel": ImageModel, "CombinedModel": CombinedModel}
    if checkpoint["model"] not in classes:
        raise UserError(f"the checkpoint {path} holds a network in training: give a *_best.pt file.")
    model = classes[checkpoint["model"]](num_classes=len(checkpoint["labels"]))
    load_weights(model, checkpoint, path)
    settings = checkpoint["configuration"]
    return Predictor(
        model.to(device).eval(),
        checkpoint["labels"],
        settings.get("encoder"),
        settings.get("image_size"),
        settings.get("temperature", 1.0),
    )


@torch.inference_mode()
def predict(predictor: Predictor, text: np.ndarray | None, pixels: np.ndarray | None) -> np.ndarray:
    """Probabilities (C,) of the categories from an embedded text (50, 768) or the windows of a long one (W, 50, 768),
    from pixels (S, S, 3) uint8, or from both."""
    model, device = predictor.model, next(predictor.model.parameters()).device
    whole = isinstance(model, CombinedModel)
    outputs = []
    if text is not None:
        windows = torch.from_numpy(text.reshape(-1, *text.shape[-2:])).float().to(device)
        outputs.append((model.text_model if whole else model)(windows).mean(0, keepdim=True))
    if pixels is not None:
        image = evaluation_transform(torch.tensor(pixels[None]).to(device))
        outputs.append((model.image_model if whole else model)(image))
    if whole:
        outputs = [model.combine(outputs[0] if text is not None else None, outputs[-1] if pixels is not None else None)]
    return torch.softmax(outputs[0][0].cpu().double() / predictor.temperature, 0).numpy()


def predictions(probabilities: np.ndarray, labels: list[str], top: int) -> list[dict[str, str | float]]:
    """The `top` most probable categories, best first."""
    best = np.argsort(-probabilities, kind="stable")[:top]
    return [{"category": labels[place], "probability": float(probabilities[place])} for place in best]


def main() -> None:
    arguments = parse_arguments()
    text = None if arguments.text is None else clean_description(arguments.text)
    if text == "":
        raise UserError("the text is empty: give some words after --text, or a photo with --image.")
    if arguments.checkpoint is None:
        check_data_folder(arguments.data_dir)
    path = arguments.checkpoint or DataFolder(arguments.data_dir).checkpoints / "combined_model_best.pt"
    device = pick_device()
    predictor = load_predictor(path, device)
    if text is not None and predictor.encoder is None:
        raise UserError(f"the checkpoint {path} holds an ImageModel, which reads no text: leave out --text.")
    if arguments.image is not None and predictor.image_size is None:
        raise UserError(f"the checkpoint {path} holds a TextModel, which sees no photo: leave out --image.")
    pixels = None if arguments.image is None else load_query_photo(arguments.image, predictor.image_size)
    embedded = None
    if text is not None:
        encoder = TextEncoder(predictor.encoder, device)
        embedded = encoder.encode(encoder.windows(text))
    found = predictions(predict(predictor, embedded, pixels), predictor.labels, arguments.top)
    if arguments.json:
        print(json.dumps({"predictions": found}, ensure_ascii=False))
    else:
        for line in found:
            print(f"{line['probability']:6.1%}  {line['category']}")


if __name__ == "__main__":
    run(main)
