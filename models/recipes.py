"""How the text and the image model of the marketplace are trained: the settings, and the training with them.

The notebook and `train_models.py` both train through these functions.
"""

import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from sklearn.metrics import accuracy_score
from torch import Tensor, distributed, nn

from evaluation.metrics import fit_temperature
from marketplace.data_folder import DataFolder
from marketplace.dataset import Photos, examples_of_split, mean_per_product, rows_of_split
from models.batches import Batches, Texts
from models.checkpoints import save_checkpoint
from models.combined_model import CombinedModel
from models.device import pick_device, process_rank, rank_and_world_size
from models.fusion import Fusion, combined_model, fit_combined_model, photo_outputs, text_outputs
from models.image_model import ImageModel, evaluation_transform, load_image_weights, train_transform
from models.leaf_categories import LeafCategories, leaf_labels, soft_leaf_labels
from models.text_encoder import ENCODER
from models.text_model import TextModel
from models.training import Recipe, fit

TEXT_RECIPE = Recipe(
    epochs=12,
    batch_size=32,
    learning_rate=5e-4,
    weight_decay=0.05,
    label_smoothing=0.1,
    average_decay=0.98,
    options={"token_dropout": 0.4, "shuffled": 0.25, "teacher_share": 0.5},
)
IMAGE_RECIPE = Recipe(
    epochs=22,
    batch_size=32,
    learning_rate=1e-3,
    pretrained_factor=0.1,
    weight_decay=0.05,
    warm_up=0.15,
    label_smoothing=0.05,
    average_decay=0.98,
)


@dataclass
class TrainedModel:
    """A trained network and how it became so."""

    model: nn.Module
    history: list[dict[str, float]]  # the learning curves, as `fit` returns them
    weights: str  # what it started from: the encoder, or "imagenet", "none" or a file of image weights
    seconds: float  # of all its epochs, those before an interruption among them


def train_text_model(
    products: pd.DataFrame,
    texts,
    categories: list[str],
    *,
    teacher: np.ndarray | None = None,
    recipe: Recipe = TEXT_RECIPE,
    seed: int = 7,
    device: torch.device | None = None,
    data_dir: str | Path | None = None,
    resume: bool = False,
    encoder: str = ENCODER,
    checkpoint_seconds: float = 60,
    log_dir: Path | None = None,
    verbose: bool = True,
) -> TrainedModel:
    """Train a TextModel on the train split of `products`, whose texts are `texts`: `Texts`, or an array (N, 50, 768)
    with one text a row. The validation figures of the learning curves count windows of texts, not products.

    `teacher` (N, C), from `soft_labels.teacher_probabilities`, takes the share of the labels that the recipe's options
    give as `teacher_share`; without it the labels are the listings' categories alone. With `data_dir` the checkpoints
    go into that data folder, every `checkpoint_seconds` and at the end, and `resume` goes on from the last one there.

    Raises UserError as `fit`.
    """
    torch.manual_seed(seed)
    device = device or pick_device()
    model = TextModel(len(categories))
    options = dict(recipe.options)
    teacher_share = options.pop("teacher_share", 0.0)

    def train_text(text: Tensor) -> Tensor:
        return augmented_text(text.float(), **options)

    texts = texts if isinstance(texts, Texts) else Texts.one_each(texts)
    train, validation, main_of_leaf = _batches_of_splits(
        texts, texts.embeddings, products, recipe, (train_text, torch.Tensor.float), device, teacher, teacher_share
    )
    history = fit(
        LeafCategories(model, main_of_leaf),
        train,
        validation,
        recipe,
        device,
        labels=categories,
        configuration={
            "seed": seed,
            "encoder": encoder,
            "train_examples": len(train.rows),
            "teacher": teacher is not None,
        },
        checkpoints=_checkpoints(data_dir, "text"),
        resume=resume,
        checkpoint_seconds=checkpoint_seconds,
        log_dir=log_dir,
        verbose=verbose,
    )
    return TrainedModel(model, history, encoder, sum(epoch["seconds"] for epoch in history))


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
) -> TrainedModel:
    """Train an ImageModel on the photos of the train split of `products`; see `load_image_weights` and
    `train_text_model` for the arguments.

    Pretrained layers learn at `recipe.pretrained_factor` of the head's rate.

    Raises UserError as `fit` and `load_image_weights`.
    """
    torch.manual_seed(seed)
    device = device or pick_device()
    model = ImageModel(len(categories))
    weights = agreed_image_weights(model, image_weights)
    train, validation, main_of_leaf = _batches_of_splits(
        photos, photos.pixels, products, recipe, (train_transform, evaluation_transform), device
    )
    learner = LeafCategories(model, main_of_leaf)
    history = fit(
        learner,
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
        parameter_groups=image_parameter_groups(learner, recipe, pretrained=weights != "none"),
        checkpoints=_checkpoints(data_dir, "image"),
        resume=resume,
        checkpoint_seconds=checkpoint_seconds,
        log_dir=log_dir,
        verbose=verbose,
    )
    return TrainedModel(model, history, weights, sum(epoch["seconds"] for epoch in history))


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
    texts,
    photos: Photos,
    categories: list[str],
    text: TrainedModel,
    image: TrainedModel,
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
    text_logits = text_outputs(text.model, texts, device)
    photo_logits = photo_outputs(image.model, photos, device)
    image_logits = mean_per_product(photo_logits, photos.product_rows, len(products)).astype(np.float32)
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
            validation={"accuracy": accuracy_score(labels, fusion.out_of_fold.argmax(1))},
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


def image_parameter_groups(learner: LeafCategories, recipe: Recipe, pretrained: bool) -> list[dict]:
    """The learning parameters of an ImageModel in training in two groups, below the head and in it, with the rate of
    each."""
    factor = recipe.pretrained_factor if pretrained else 1.0
    head = {id(parameter) for part in (learner.model.resnet.fc, learner.leaf_layer) for parameter in part.parameters()}
    learning = [parameter for parameter in learner.parameters() if parameter.requires_grad]
    return [
        {"params": [p for p in learning if id(p) not in head], "lr": recipe.learning_rate * factor},
        {"params": [p for p in learning if id(p) in head], "lr": recipe.learning_rate},
    ]


def agreed_image_weights(model: ImageModel, weights: str | Path) -> str:
    """`load_image_weights` of the first process of torchrun, and in the others what it chose: "auto" could end in one
    way here and in another there."""
    chosen = [load_image_weights(model, weights) if process_rank() == 0 else ""]
    if distributed.is_initialized():
        distributed.broadcast_object_list(chosen)
    if process_rank() != 0:
        load_image_weights(model, chosen[0] if weights == "auto" else weights)
    return chosen[0]


def _batches_of_splits(
    examples: Photos | Texts,
    inputs,
    products: pd.DataFrame,
    recipe: Recipe,
    transforms: tuple,
    device,
    teacher: np.ndarray | None = None,
    teacher_share: float = 0.0,
) -> tuple[Batches, Batches, np.ndarray]:
    """Batches of train, labelled by leaf category and by what a teacher says, and of validation, labelled by main
    category; and the main category (L,) of each leaf. Of train, each process gets its share."""
    batches = []
    for split, transform in zip(("train", "validation"), transforms, strict=True):
        rows = examples_of_split(examples, products, split)
        of_rows = products.iloc[examples.product_rows[rows]]
        labels = of_rows["main_category_code"].to_numpy(np.int64)
        if split == "train":
            labels, main_of_leaf = leaf_labels(of_rows["category"], labels)
            if teacher is not None:
                said = teacher[examples.product_rows[rows]]
                labels = soft_leaf_labels(labels, main_of_leaf, said, teacher_share)
        batches.append(
            Batches(
                inputs,
                rows,
                labels,
                recipe.batch_size,
                shuffle=split == "train",
                transform=transform,
                device=device,
                share=rank_and_world_size() if split == "train" else (0, 1),
            )
        )
    return *batches, main_of_leaf


def _checkpoints(data_dir: str | Path | None, name: str) -> tuple[Path, Path] | None:
    if data_dir is None:
        return None
    folder = DataFolder(data_dir).checkpoints
    return folder / f"{name}_model_last.pt", folder / f"{name}_model_best.pt"
