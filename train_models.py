"""Train the three networks on a data folder, as the notebook does, through the same functions.

    python train_models.py [--data-dir data] [--models text image combined] [--epochs N] [--resume]
    torchrun --nproc_per_node=2 train_models.py [the same]

Reads products_table_clean.json, main_categories.json, duplicates.json, images_table.json and clean_images_<size>/;
writes embeddings/, checkpoints/ and results/train_models.json. CombinedModel, with the shallow models of the words and
its fusion with TF-IDF beside it, is built from the text and the image
model of this run, or else from their checkpoints of an earlier one.
"""

import argparse

from marketplace.command_line import argument_parser, positive_int, run

MODELS = ("text", "image", "combined")


def parse_arguments() -> argparse.Namespace:
    parser = argument_parser("Train TextModel, ImageModel and CombinedModel on the listings of a data folder.")
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS), help="which networks to train")
    parser.add_argument("--epochs", type=positive_int, help="of each network, instead of its recipe's")
    parser.add_argument("--batch-size", type=positive_int, help="of all processes together, instead of the recipe's")
    parser.add_argument("--resume", action="store_true", help="go on from the checkpoints of an interrupted training")
    parser.add_argument(
        "--image-weights",
        default="auto",
        help="imagenet, none, a file, or auto: $IMAGE_WEIGHTS, or imagenet if possible",
    )
    parser.add_argument("--encoder", default="all-MiniLM-L6-v2", help="of texts: a name on the hub, or a folder")
    parser.add_argument(
        "--image-size",
        type=positive_int,
        default=0,
        metavar="PIXELS",
        help="of clean photos (default: suits the weights)",
    )
    parser.add_argument("--seed", type=seed_number, default=7, help="of all random numbers")
    parser.add_argument("--patience", type=positive_int, help="stop after so many epochs without a better accuracy")
    parser.add_argument(
        "--checkpoint-seconds", type=float, default=60, help="between checkpoints, at the end of epochs"
    )
    return parser.parse_args()


def seed_number(text: str) -> int:
    """Argument type: a seed that every generator takes."""
    if not text.isdecimal() or int(text) >= 2**32:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 0 to {2**32 - 1}")
    return int(text)


import contextlib
import os
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import distributed, nn

from evaluation.metrics import category_row
from evaluation.tables import rows_table, write_results
from marketplace.data_folder import DataFolder, UserError, check_data_folder
from marketplace.listings import SPLITS, load_main_categories, load_products, mean_per_product, rows_of_split
from marketplace.photos import Photos, clean_missing_photos, load_photos
from models import ImageModel, TextModel
from models.device import from_first_process, gpu_name, pick_device, process_rank
from models.image_weights import RANDOM_SIZE, available_weights, initialisation, photo_size
from models.predict import checkpoint_path, load_checkpoint, photo_outputs, text_outputs
from models.text_encoder import Texts, load_texts
from models.training import (
    TEXT_RECIPE,
    Recipe,
    TrainedModel,
    TrainingOptions,
    image_recipe,
    train_combined_model,
    train_image_model,
    train_shallow_text,
    train_text_model,
)


def with_overrides(recipe: Recipe, arguments: argparse.Namespace) -> Recipe:
    """The recipe with the epochs, the batch size and the patience of the command line."""
    names = ("epochs", "batch_size", "patience")
    return replace(recipe, **{name: getattr(arguments, name) for name in names if getattr(arguments, name)})


@contextlib.contextmanager
def process_group(device: torch.device):
    """Join the other processes when torchrun started this one; only the first prints."""
    if "TORCHELASTIC_RUN_ID" not in os.environ:
        yield
        return
    if device.type == "cuda":
        torch.cuda.set_device(device)  # NCCL sends objects through the current device
    distributed.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        with (
            open(os.devnull, "w", errors="backslashreplace") as devnull,
            contextlib.redirect_stdout(devnull if process_rank() else sys.stdout),
        ):
            yield
            distributed.barrier()
    finally:
        distributed.destroy_process_group()


def load_trained_branch(path: Path, model: nn.Module, categories: list[str], **inputs: Any) -> TrainedModel:
    """A branch from the best checkpoint of an earlier run; raises UserError when its settings of `inputs` differ."""
    checkpoint = load_checkpoint(path, model, categories)
    configuration = checkpoint["configuration"]
    for setting, value in inputs.items():
        if configuration.get(setting, value) != value:
            found = f"{setting.replace('_', ' ')} {configuration[setting]}"
            raise UserError(f"{path} was trained with {found}, not {value}: give the same value, or train it again.")
    print(f"{path.name}: validation accuracy {checkpoint['validation']['accuracy']:.1%}.")
    weights = configuration.get("image_weights") or configuration["encoder"]
    return TrainedModel(model, checkpoint.get("history", []), weights, configuration.get("image_weights_hash"))


def saved_image_size(path: Path) -> int:
    """Side in pixels of the photos that the ImageModel of a checkpoint was trained on."""
    return load_checkpoint(path)["configuration"].get("image_size", RANDOM_SIZE)


def train_text(
    arguments: argparse.Namespace, products: pd.DataFrame, texts: Texts, categories: list[str], options: TrainingOptions
) -> tuple[TrainedModel, list[dict]]:
    """TextModel and its result rows."""
    print("TextModel")
    recipe = with_overrides(TEXT_RECIPE, arguments)
    text = train_text_model(products, texts, categories, recipe=recipe, options=options)
    logits = text_outputs(text.model, texts, options.device)
    return text, category_rows("TextModel", "text", logits, products, text.seconds, options.seed)


def train_image(
    arguments: argparse.Namespace,
    products: pd.DataFrame,
    photos: Photos,
    categories: list[str],
    options: TrainingOptions,
) -> tuple[TrainedModel, list[dict]]:
    """ImageModel and its result rows."""
    print("ImageModel")
    weights = arguments.image_weights
    recipe = with_overrides(image_recipe(weights), arguments)
    image = train_image_model(products, photos, categories, image_weights=weights, recipe=recipe, options=options)
    photo_logits = photo_outputs(image.model, photos, options.device)
    logits = mean_per_product(photo_logits, photos.product_rows, len(products))
    name = f"ImageModel ({image.initialisation})"
    return image, category_rows(name, "photo", logits, products, image.seconds, options.seed)


def category_rows(
    model: str, kind: str, logits: np.ndarray, products: pd.DataFrame, seconds: float, seed: int
) -> list[dict]:
    """Accuracy and macro-F1 of one model per product; products without an input have rows of NaN in `logits` (N, C)
    and get the mean of the validation split, as in CombinedModel."""
    mean = np.nanmean(logits[rows_of_split(products, "validation")], axis=0)
    predictions = np.where(np.isnan(logits), mean, logits).argmax(axis=1)
    empty = ", ".join(split for split in SPLITS if not len(rows_of_split(products, split)))
    if empty:
        print(f"{model} is not evaluated: no listing is in {empty}.")
        return []
    question = "category by photo" if kind == "photo" else "category by words and photo"
    return [category_row(model, kind, question, products, predictions, seconds, seed)]


def write_rows(arguments: argparse.Namespace, products: pd.DataFrame, rows: list[dict], device: torch.device) -> None:
    """Write the results file and print the rows."""
    parameters = {name: value for name, value in vars(arguments).items() if name != "data_dir"}
    results = {
        "seed": arguments.seed,
        "split_sizes": {split: len(rows_of_split(products, split)) for split in SPLITS},
        "parameters": parameters,
        "rows": rows,
    }
    write_results(arguments.data_dir, "train_models", results, gpu_name(device))
    print(rows_table(rows).to_string(index=False))


def train(arguments: argparse.Namespace, device: torch.device) -> None:
    data_dir, models = arguments.data_dir, set(arguments.models)
    options = TrainingOptions(arguments.seed, device, data_dir, arguments.resume, arguments.checkpoint_seconds)
    products, categories = load_products(data_dir), load_main_categories(data_dir)
    print(f"{len(products):,} listings in {len(categories)} categories; training on {device.type}.")
    if models & {"image", "combined"}:
        if "image" in models:
            arguments.image_weights = from_first_process(lambda: available_weights(arguments.image_weights))
            arguments.image_size = photo_size(arguments.image_weights, arguments.image_size)
            print(f"ImageModel starts from {initialisation(arguments.image_weights)}.")
        else:
            arguments.image_size = arguments.image_size or saved_image_size(checkpoint_path(data_dir, "image"))
        from_first_process(lambda: clean_missing_photos(DataFolder(data_dir), arguments.image_size))
        photos = load_photos(data_dir, products, arguments.image_size)
        print(f"{len(photos):,} photos of {arguments.image_size} pixels.")
    if models & {"text", "combined"}:
        texts = load_texts(data_dir, products, arguments.encoder, device)
    rows = []
    if "text" in models:
        text, text_rows = train_text(arguments, products, texts, categories, options)
        rows += text_rows
    elif "combined" in models:
        path = checkpoint_path(data_dir, "text")
        inputs = {"encoder": arguments.encoder, "encoder_weights": texts.encoder_weights}
        text = load_trained_branch(path, TextModel(len(categories)), categories, **inputs)
    if "image" in models:
        image, image_rows = train_image(arguments, products, photos, categories, options)
        rows += image_rows
    elif "combined" in models:
        path, size = checkpoint_path(data_dir, "image"), arguments.image_size
        image = load_trained_branch(path, ImageModel(len(categories)), categories, image_size=size)
    if "combined" in models and process_rank() == 0:
        print("TF-IDF and mean embedding, CombinedModel, fusion with TF-IDF")
        shallow = train_shallow_text(products, texts, categories, options)
        for name, output in shallow.outputs.items():
            rows += category_rows(name, "shallow", output, products, shallow.seconds[name], options.seed)
        combined = train_combined_model(products, texts, photos, categories, text, image, shallow, options)
        for name, logits in (
            ("CombinedModel", combined.logits),
            ("CombinedModel and TF-IDF", combined.with_tfidf_logits),
        ):
            rows += category_rows(name, "both", logits, products, combined.seconds, options.seed)
    if process_rank() == 0 and rows:
        write_rows(arguments, products, rows, device)


def main() -> None:
    arguments = parse_arguments()
    check_data_folder(arguments.data_dir)
    start = time.perf_counter()
    device = pick_device()
    with process_group(device):
        train(arguments, device)
        print(f"done in {time.perf_counter() - start:.0f} s; checkpoints are in {arguments.data_dir / 'checkpoints'}.")


if __name__ == "__main__":
    run(main)
