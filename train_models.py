"""Train the three networks on a data folder, as the notebook does, through the same functions.

    python train_models.py [--data-dir data] [--models text image combined] [--epochs N] [--resume]
    torchrun --nproc_per_node=2 train_models.py [the same]

Reads products_table_clean.json, main_categories.json, duplicates.json, images_table.json and clean_images_<size>/;
writes embeddings/, checkpoints/ and results/train_models.json. CombinedModel is built from the text and the image
model of this run, or else from their checkpoints of an earlier one.
"""

import argparse
import contextlib
import os
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import distributed

from evaluation.results import result_rows, rows_table, write_results
from marketplace.command_line import argument_parser, positive_int, run
from marketplace.data_folder import DataFolder, UserError, check_data_folder
from marketplace.dataset import (
    SPLITS,
    load_main_categories,
    load_photos,
    load_products,
    mean_per_product,
    rows_of_split,
)
from models import ImageModel, TextModel
from models.batches import load_texts, product_embeddings
from models.checkpoints import load_checkpoint
from models.device import gpu_name, pick_device, process_rank, rank_and_world_size
from models.fusion import photo_outputs, text_outputs
from models.recipes import (
    IMAGE_RECIPE,
    TEXT_RECIPE,
    TrainedModel,
    train_combined_model,
    train_image_model,
    train_text_model,
)
from models.text_encoder import ENCODER
from models.training import Recipe
from shallow.words import teacher_probabilities

MODELS = ("text", "image", "combined")


def parse_arguments() -> argparse.Namespace:
    parser = argument_parser("Train TextModel, ImageModel and CombinedModel on the listings of a data folder.")
    parser.add_argument(
        "--models",
        nargs="+",
        choices=MODELS,
        default=list(MODELS),
        help="which to train; combined alone takes the other two from earlier checkpoints",
    )
    parser.add_argument(
        "--epochs",
        type=positive_int,
        help=f"instead of {TEXT_RECIPE.epochs} of TextModel and {IMAGE_RECIPE.epochs} of ImageModel",
    )
    parser.add_argument(
        "--batch-size", type=positive_int, help=f"of all processes together, instead of {TEXT_RECIPE.batch_size}"
    )
    parser.add_argument("--resume", action="store_true", help="go on from the last checkpoints")
    parser.add_argument(
        "--image-weights", default="auto", help="imagenet, none, auto (imagenet if at hand within 10 s), or a file"
    )
    parser.add_argument("--image-size", type=positive_int, default=64, help="side of the clean photos in pixels")
    parser.add_argument("--seed", type=seed_number, default=7, help="of all random numbers")
    parser.add_argument(
        "--patience",
        type=positive_int,
        help="end after so many epochs without a better validation accuracy (default: never)",
    )
    parser.add_argument(
        "--checkpoint-seconds", type=float, default=60, help="how often to save, at the end of an epoch"
    )
    parser.add_argument("--log-dir", type=Path, help="folder for TensorBoard logs")
    return parser.parse_args()


def seed_number(text: str) -> int:
    """Argument type: a seed that every generator takes."""
    try:
        value = int(text)
    except ValueError:
        value = -1
    if not 0 <= value < 2**32:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 0 to {2**32 - 1}")
    return value


def with_overrides(recipe: Recipe, arguments: argparse.Namespace) -> Recipe:
    """The recipe with the epochs, the batch size and the patience of the command line."""
    return replace(
        recipe,
        epochs=arguments.epochs or recipe.epochs,
        batch_size=arguments.batch_size or recipe.batch_size,
        patience=arguments.patience or recipe.patience,
    )


@contextlib.contextmanager
def process_group(device: torch.device):
    """Join the other processes when torchrun started this one; all but the first are silent."""
    if "TORCHELASTIC_RUN_ID" not in os.environ:
        yield
        return
    if device.type == "cuda":
        torch.cuda.set_device(device)  # random states are those of the current device
    distributed.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        with contextlib.ExitStack() as stack:
            if process_rank() != 0:
                stack.enter_context(contextlib.redirect_stdout(stack.enter_context(open(os.devnull, "w"))))
            yield
            distributed.barrier()
    finally:
        distributed.destroy_process_group()


def load_trained_branch(
    folder: DataFolder, name: str, categories: list[str], setting: str, value: str | int
) -> TrainedModel:
    """A branch out of the best checkpoint of an earlier run; raises UserError when it was trained with another `value`
    of a `setting` of its inputs."""
    path = folder.checkpoints / f"{name}_model_best.pt"
    model = {"text": TextModel, "image": ImageModel}[name](len(categories))
    checkpoint = load_checkpoint(path, model, categories)
    configuration = checkpoint["configuration"]
    if configuration[setting] != value:
        raise UserError(
            f"{path} was trained with {setting.replace('_', ' ')} {configuration[setting]}, not {value}: "
            + ("give it with --image-size." if name == "image" else "train it again with --models text combined.")
        )
    print(f"{name} model: from {path.name}, validation accuracy {checkpoint['validation']['accuracy']:.1%}.")
    return TrainedModel(model, [], configuration["encoder" if name == "text" else "image_weights"], 0.0)


def network_rows(model: str, logits: np.ndarray, products: pd.DataFrame, seconds: float, seed: int) -> list[dict]:
    """Accuracy and macro-F1 of one model by product; rows of NaN in `logits` (N, C) are products it cannot judge, which
    count with the mean of the validation split, as in CombinedModel."""
    mean = np.nanmean(logits[rows_of_split(products, "validation")], axis=0)
    predictions = np.where(np.isnan(logits), mean, logits).argmax(axis=1)
    rows = result_rows(model, products, predictions, seconds, seed=seed)
    if not rows:
        print(f"{model} is not evaluated: a split has no listing.")
    return rows


def train(arguments: argparse.Namespace, device: torch.device) -> None:
    folder = DataFolder(arguments.data_dir)
    products = load_products(arguments.data_dir)
    categories = load_main_categories(arguments.data_dir)
    wanted = set(arguments.models)
    options = {
        "seed": arguments.seed,
        "device": device,
        "data_dir": arguments.data_dir,
        "resume": arguments.resume,
        "checkpoint_seconds": arguments.checkpoint_seconds,
    }
    print(f"{len(products):,} listings in {len(categories)} categories; training on {device.type}.")
    rows = []
    text = image = None
    for recipe in (with_overrides(TEXT_RECIPE, arguments), with_overrides(IMAGE_RECIPE, arguments)):
        if recipe.batch_size % rank_and_world_size()[1]:
            raise UserError(
                f"batches of {recipe.batch_size} cannot be shared equally by {rank_and_world_size()[1]} processes: "
                "give a --batch-size that can."
            )
    if wanted & {"image", "combined"}:
        photos = load_photos(arguments.data_dir, products, arguments.image_size)
        print(f"{len(photos):,} photos of {arguments.image_size} pixels.")
    if wanted & {"text", "combined"}:
        texts = load_texts(arguments.data_dir, products, device=device)
    if "text" in wanted:
        print("TextModel")
        log_dir = arguments.log_dir and arguments.log_dir / "text"
        text = train_text_model(
            products,
            texts,
            categories,
            teacher=teacher_probabilities(products, product_embeddings(texts, len(products))),
            recipe=with_overrides(TEXT_RECIPE, arguments),
            log_dir=log_dir,
            **options,
        )
        rows += network_rows(
            "TextModel", text_outputs(text.model, texts, device), products, text.seconds, arguments.seed
        )
    if "image" in wanted:
        print("ImageModel")
        image = train_image_model(
            products,
            photos,
            categories,
            image_weights=arguments.image_weights,
            recipe=with_overrides(IMAGE_RECIPE, arguments),
            log_dir=arguments.log_dir and arguments.log_dir / "image",
            **options,
        )
        logits = mean_per_product(photo_outputs(image.model, photos, device), photos.product_rows, len(products))
        rows += network_rows(f"ImageModel ({image.weights} weights)", logits, products, image.seconds, arguments.seed)
    if "combined" in wanted:
        print("CombinedModel")
        text = text or load_trained_branch(folder, "text", categories, "encoder", ENCODER)
        image = image or load_trained_branch(folder, "image", categories, "image_size", arguments.image_size)
        if process_rank() == 0:
            combined = train_combined_model(
                products,
                texts,
                photos,
                categories,
                text,
                image,
                seed=arguments.seed,
                device=device,
                data_dir=arguments.data_dir,
            )
            rows += network_rows("CombinedModel", combined.logits, products, combined.seconds, arguments.seed)
    if process_rank() == 0 and rows:
        write_results(
            arguments.data_dir,
            "train_models",
            {
                "seed": arguments.seed,
                "split_sizes": {split: len(rows_of_split(products, split)) for split in SPLITS},
                "parameters": {
                    name: str(value) if isinstance(value, Path) else value
                    for name, value in vars(arguments).items()
                    if name not in ("data_dir", "log_dir")
                },
                "rows": rows,
            },
            gpu_name(device),
        )
        print(rows_table(rows).to_string(index=False))


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
