"""How the text and the image model of the marketplace are trained: the settings, and the training with them.

The notebook and `train_models.py` both train through these functions.
"""

import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from data_folder import DataFolder
from models.combined_model import CombinedModel
from models.evaluation import accuracy, fit_temperature
from models.fusion import Fusion, combined_model, fit_combined_model, photo_outputs, text_outputs
from models.image_model import ImageModel, evaluation_transform, load_image_weights, train_transform
from models.product_dataset import Batches, Photos, mean_by_product, photos_of_split, rows_of_split
from models.text_model import ENCODER, TextModel
from models.training import Recipe, fit, pick_device, process_share, save_checkpoint

TEXT_RECIPE = Recipe(
    epochs=10,
    batch_size=64,
    learning_rate=5e-4,
    weight_decay=0.05,
    label_smoothing=0.1,
    average_decay=0.98,
    options={"token_dropout": 0.4, "shuffled": 0.5},
)
IMAGE_RECIPE = Recipe(
    epochs=12,
    batch_size=64,
    learning_rate=1e-3,
    pretrained_factor=0.1,
    weight_decay=0.05,
    label_smoothing=0.1,
    average_decay=0.98,
)


@dataclass
class Trained:
    """A trained network and how it became so."""

    model: nn.Module
    history: list[dict[str, float]]  # the learning curves, as `fit` returns them
    weights: str  # what it started from: the encoder, or "imagenet", "none" or a file of image weights
    seconds: float


def train_text_model(
    products: pd.DataFrame,
    embeddings,
    categories: list[str],
    *,
    recipe: Recipe = TEXT_RECIPE,
    seed: int = 7,
    device: torch.device | None = None,
    data_dir: str | Path | None = None,
    resume: bool = False,
    encoder: str = ENCODER,
    checkpoint_seconds: float = 60,
    log_dir: Path | None = None,
    verbose: bool = True,
) -> Trained:
    """Train a TextModel on the train split of `products`, whose texts are `embeddings` (N, 50, 768), row by row.

    With `data_dir` the checkpoints go into that data folder, every `checkpoint_seconds` and at the end, and `resume`
    goes on from the last one there.

    Raises UserError as `fit`.
    """
    start = time.perf_counter()
    torch.manual_seed(seed)
    device = device or pick_device()
    model = TextModel(len(categories))

    def train_text(text: Tensor) -> Tensor:
        return augmented_text(text.float(), **recipe.options)

    train, validation = (
        _batches(embeddings, rows_of_split(products, split), products, recipe, split, transform, device)
        for split, transform in (("train", train_text), ("validation", torch.Tensor.float))
    )
    history = fit(
        model,
        train,
        validation,
        recipe,
        device,
        labels=categories,
        configuration={"seed": seed, "encoder": encoder, "train_examples": len(train.rows)},
        checkpoints=_checkpoints(data_dir, "text"),
        resume=resume,
        checkpoint_seconds=checkpoint_seconds,
        log_dir=log_dir,
        verbose=verbose,
    )
    return Trained(model, history, encoder, time.perf_counter() - start)


def train_image_model(
    products: pd.DataFrame,
    photos: Photos,
    categories: list[str],
    *,
    image_weights: str | Path = "none",
    recipe: Recipe = IMAGE_RECIPE,
    seed: int = 7,
    device: torch.device | None = None,
    data_dir: str | Path | None = None,
    resume: bool = False,
    checkpoint_seconds: float = 60,
    log_dir: Path | None = None,
    verbose: bool = True,
) -> Trained:
    """Train an ImageModel on the photos of the train split of `products`; see `load_image_weights` and
    `train_text_model` for the arguments.

    Pretrained layers learn at `recipe.pretrained_factor` of the head's rate.

    Raises UserError as `fit` and `load_image_weights`.
    """
    start = time.perf_counter()
    torch.manual_seed(seed)
    device = device or pick_device()
    model = ImageModel(len(categories))
    weights = load_image_weights(model, image_weights)
    train, validation = (
        _batches(
            photos.pixels,
            photos_of_split(photos, products, split),
            products.iloc[photos.product_rows],
            recipe,
            split,
            transform,
            device,
        )
        for split, transform in (("train", train_transform), ("validation", evaluation_transform))
    )
    history = fit(
        model,
        train,
        validation,
        recipe,
        device,
        labels=categories,
        configuration={
            "seed": seed,
            "image_size": photos.pixels.shape[1],
            "image_weights": weights,
            "train_examples": len(train.rows),
        },
        parameter_groups=image_parameter_groups(model, recipe, pretrained=weights != "none"),
        checkpoints=_checkpoints(data_dir, "image"),
        resume=resume,
        checkpoint_seconds=checkpoint_seconds,
        log_dir=log_dir,
        verbose=verbose,
    )
    return Trained(model, history, weights, time.perf_counter() - start)


@dataclass
class Combined:
    """A CombinedModel and what it and its branches say about every product."""

    model: CombinedModel
    fusion: Fusion
    text_logits: np.ndarray  # (N, C) float32
    photo_logits: np.ndarray  # (P, C) float32: a row a photo
    image_logits: np.ndarray  # (N, C) float32: the mean of each product's photos; NaN for products without
    logits: np.ndarray  # (N, C) float32; on the validation split out of fold
    temperature: float  # the logits are divided by it for probabilities
    seconds: float


def train_combined_model(
    products: pd.DataFrame,
    embeddings,
    photos: Photos,
    categories: list[str],
    text: Trained,
    image: Trained,
    *,
    seed: int = 7,
    device: torch.device | None = None,
    data_dir: str | Path | None = None,
) -> Combined:
    """Combine two trained branches: fit the last layer and the temperature on the validation split.

    With `data_dir` the checkpoint goes into that data folder.
    """
    start = time.perf_counter()
    device = device or pick_device()
    text_logits = text_outputs(text.model, embeddings, device)
    photo_logits = photo_outputs(image.model, photos, device)
    image_logits = mean_by_product(photo_logits, photos.product_rows, len(products)).astype(np.float32)
    rows = rows_of_split(products, "validation")
    labels = products["main_category_code"].to_numpy(np.int64)[rows]
    fusion = fit_combined_model(text_logits[rows], image_logits[rows], labels, products["group"].iloc[rows], seed=seed)
    logits = fusion.logits(text_logits, image_logits)
    logits[rows] = fusion.out_of_fold
    temperature = fit_temperature(fusion.out_of_fold, labels)
    model = combined_model(text.model, image.model, fusion)
    if data_dir is not None:
        save_checkpoint(
            _checkpoints(data_dir, "combined")[1],
            model,
            categories,
            configuration={
                "seed": seed,
                "encoder": text.weights,
                "image_size": photos.pixels.shape[1],
                "image_weights": image.weights,
                "strength": fusion.strength,
                "temperature": temperature,
            },
            validation={"accuracy": accuracy(labels, fusion.out_of_fold.argmax(1))},
        )
    seconds = time.perf_counter() - start
    return Combined(model, fusion, text_logits, photo_logits, image_logits, logits, temperature, seconds)


def augmented_text(text: Tensor, token_dropout: float = 0.0, shuffled: float = 0.0) -> Tensor:
    """Embedded texts (N, 50, 768), each token left out with probability `token_dropout`, the tokens of a text in random
    order with probability `shuffled`; random numbers come from torch's generator of the CPU."""
    count, tokens, _ = text.shape
    order = torch.rand(count, tokens).argsort(1)
    order = torch.where(torch.rand(count, 1) < shuffled, order, torch.arange(tokens))
    kept = torch.rand(count, tokens, 1) >= token_dropout
    order, kept = order.to(text.device), kept.to(text.device)
    return text.gather(1, order[:, :, None].expand_as(text)) * kept


def image_parameter_groups(model: ImageModel, recipe: Recipe, pretrained: bool) -> list[dict]:
    """The learning parameters in two groups, below the head and in it, with the rate of each."""
    factor = recipe.pretrained_factor if pretrained else 1.0
    head = {id(parameter) for parameter in model.resnet.fc.parameters()}
    learning = [parameter for parameter in model.parameters() if parameter.requires_grad]
    return [
        {"params": [p for p in learning if id(p) not in head], "lr": recipe.learning_rate * factor},
        {"params": [p for p in learning if id(p) in head], "lr": recipe.learning_rate},
    ]


def _batches(
    inputs, rows: np.ndarray, products: pd.DataFrame, recipe: Recipe, split: str, transform, device
) -> Batches:
    """Batches of the inputs at `rows`; `products` has a row for each input. Each process trains on its share."""
    labels = products["main_category_code"].to_numpy(np.int64)[rows]
    training = split == "train"
    return Batches(
        inputs,
        rows,
        labels,
        recipe.batch_size,
        shuffle=training,
        transform=transform,
        device=device,
        share=process_share() if training else (0, 1),
    )


def _checkpoints(data_dir: str | Path | None, name: str) -> tuple[Path, Path] | None:
    if data_dir is None:
        return None
    folder = DataFolder(data_dir).checkpoints
    return folder / f"{name}_model_last.pt", folder / f"{name}_model_best.pt"
