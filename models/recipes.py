"""How the three networks of the marketplace are trained: hyperparameters, data, loss and checkpoints.

The notebook and `train_models.py` both train through these functions.
"""

import hashlib
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from sklearn.metrics import accuracy_score
from torch import Tensor, nn

from evaluation.metrics import fit_temperature
from evaluation.results import check_splits
from marketplace.data_folder import MODEL_FILES, DataFolder, UserError
from marketplace.dataset import Photos, examples_of_split, mean_per_product, rows_of_split
from models.batches import Batches, Texts, product_embeddings
from models.checkpoints import checkpoint_path, save_checkpoint
from models.combined_model import CombinedModel
from models.device import from_first_process, rank_and_world_size
from models.image_model import (
    ImageModel,
    evaluation_transform,
    initialisation,
    load_image_weights,
    train_transform,
)
from models.leaf_categories import LeafCategories, leaf_labels
from models.outputs import photo_outputs, text_outputs
from models.saving import save_model
from models.text_model import EMBEDDING_SCALE, TextModel
from models.training import Learner, Recipe, Trainer, TrainingOptions
from shallow.fusion import Fusion, fuse_products
from shallow.words import TFIDF, ShallowText, fit_shallow_text

TEXT_RECIPE = Recipe(
    epochs=8,
    batch_size=32,
    learning_rate=2e-4,
    weight_decay=0.05,
    label_smoothing=0.05,
    average_decay=0.98,
)
IMAGE_RECIPE = Recipe(
    epochs=22,
    batch_size=32,
    learning_rate=1e-3,
    weight_decay=0.05,
    warm_up=0.15,
    label_smoothing=0.05,
)
FINE_TUNING_RECIPE = Recipe(  # from trials with EfficientNet-Lite0 on real photos; benchmarks/transfer.py measures it
    epochs=8,
    batch_size=32,
    learning_rate=5e-4,
    pretrained_factor=0.6,
    weight_decay=0.05,
    warm_up=0.15,
    label_smoothing=0.05,
    average_decay=0.98,
    scales=(0.5, 0.5, 0.75, 1.0),
)
LEAST_SIDE = 17  # of the photos in training, in pixels


def image_recipe(weights: str | Path) -> Recipe:
    """The recipe of ImageModel for initial `weights`, which are not "auto"."""
    return IMAGE_RECIPE if weights == "none" else FINE_TUNING_RECIPE


@dataclass
class TrainedModel:
    """A trained network and its training."""

    model: nn.Module
    history: list[dict[str, float]]  # the learning curves, as `Trainer.fit` returns them
    weights: str  # the text encoder; for an ImageModel "imagenet", "none" or the file of the initial weights
    weights_hash: str | None = None  # of their content; None for random initialisation

    @property
    def seconds(self) -> float:
        """Training time of all epochs, those before an interruption included."""
        return sum(epoch["seconds"] for epoch in self.history)

    @property
    def initialisation(self) -> str:
        """The initial weights in words."""
        return initialisation(self.weights)


def train_text_model(
    products: pd.DataFrame,
    texts: Texts,
    categories: list[str],
    *,
    recipe: Recipe = TEXT_RECIPE,
    options: TrainingOptions | None = None,
) -> TrainedModel:
    """Train a TextModel on the train split of `products`. The validation figures of its learning curves are per window
    of a text, not per product.

    Raises UserError as `Trainer.fit`.
    """
    options = options or TrainingOptions()
    torch.manual_seed(options.seed)
    model = TextModel(len(categories))
    transforms = (Tensor.float, Tensor.float)
    train, validation, _ = _batches_of_splits(texts, texts.embeddings, products, recipe, transforms, options.device)
    trainer = Trainer(Learner(model), train, validation, recipe, options)
    columns = products[["text", "main_category_code", "split"]].to_numpy().tolist()
    configuration = {
        "encoder": texts.encoder,
        "encoder_weights": texts.encoder_weights,
        "embedding_scale": EMBEDDING_SCALE,
        "train_examples": len(train.rows),
        "data": _hash(repr(columns), texts.product_rows),
    }
    return TrainedModel(model, trainer.fit("text", categories, configuration), texts.encoder, texts.encoder_weights)


def train_image_model(
    products: pd.DataFrame,
    photos: Photos,
    categories: list[str],
    *,
    image_weights: str | Path = "none",
    recipe: Recipe | None = None,
    options: TrainingOptions | None = None,
) -> TrainedModel:
    """Train an ImageModel on the photos of the train split of `products`; `image_weights` as for `load_image_weights`,
    the recipe by default that of `image_recipe`.

    Pretrained layers are trained at the recipe's `pretrained_factor` of the head's learning rate.

    Raises UserError as `Trainer.fit` and `load_image_weights`.
    """
    options = options or TrainingOptions()
    torch.manual_seed(options.seed)
    model = ImageModel(len(categories))
    # in the first process alone, since "auto" can differ between them; the others get its weights from the trainer
    weights, weights_hash = from_first_process(lambda: _initial_weights(model, image_weights))
    if weights == "none":
        model.start_from_scratch()
    recipe = recipe or image_recipe(weights)
    trainer = photo_trainer(model, None if weights == "none" else model.resnet.fc, products, photos, recipe, options)
    columns = products[["category", "main_category_code", "split"]].to_numpy().tolist()
    configuration = {
        "image_size": photos.pixels.shape[1],
        "image_weights": weights,
        "image_weights_hash": weights_hash,
        "train_examples": len(trainer.train_batches.rows),
        "data": _hash(repr(columns), photos.product_rows, photos.pixels),
    }
    return TrainedModel(model, trainer.fit("image", categories, configuration), weights, weights_hash)


def photo_trainer(
    model: nn.Module,
    head: nn.Module | None,
    products: pd.DataFrame,
    photos: Photos,
    recipe: Recipe,
    options: TrainingOptions,
) -> Trainer:
    """The trainer of a network for photos; with a new `head` on pretrained layers these have a learning rate of their
    own. Raises UserError as `check_splits`, and for photos that are too small."""
    side = round(min(recipe.scales) * photos.pixels.shape[1])
    if side < LEAST_SIDE:  # one pixel would be left before ResNet50's last stage, where oneDNN's gradients can be NaN
        raise UserError(f"photos of {side} pixels are too small to train on: clean them to a larger --image-size.")
    transforms = (train_transform, evaluation_transform)
    train, validation, main_of_leaf = _batches_of_splits(
        photos, photos.pixels, products, recipe, transforms, options.device, leaves=True
    )
    learner = LeafCategories(model, main_of_leaf)
    groups = None if head is None else fine_tuning_groups(learner, head, recipe)
    return Trainer(learner, train, validation, recipe, options, groups)


def _initial_weights(model: ImageModel, image_weights: str | Path) -> tuple[str, str | None]:
    """Load pretrained weights; their name, and the hash of what was loaded: another file may have the same name."""
    name = load_image_weights(model, image_weights)
    body = [tensor.numpy() for key, tensor in model.resnet.state_dict().items() if not key.startswith("fc.")]
    return name, None if name == "none" else _hash(*body)


def _hash(*parts: str | np.ndarray) -> str:
    """sha256 of texts and of the numbers of arrays."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part.encode() if isinstance(part, str) else np.ascontiguousarray(part).data)
    return digest.hexdigest()


def train_shallow_text(
    products: pd.DataFrame, texts: Texts, categories: list[str], options: TrainingOptions | None = None
) -> ShallowText:
    """Fit and save TF-IDF and mean embeddings with logistic regression, and their fusion.

    Raises UserError as `fit_shallow_text`.
    """
    options = options or TrainingOptions()
    embeddings = product_embeddings(texts, len(products))
    shallow = fit_shallow_text(products, embeddings, len(categories), options.seed)
    if options.data_dir is not None:
        encoder = {"encoder": texts.encoder, "encoder_weights": texts.encoder_weights}
        content = {"labels": categories, **encoder, "tfidf": shallow.tfidf, "mean_embedding": shallow.mean_embedding}
        content["fusion"] = asdict(shallow.fusion)
        save_model(DataFolder(options.data_dir).checkpoints / MODEL_FILES["shallow_text"], content)
    return shallow


@dataclass
class Combined:
    """A CombinedModel, its logits and those of its branches for every product, and its fusion with TF-IDF."""

    model: CombinedModel
    fusion: Fusion
    text_logits: np.ndarray  # (N, C) float32
    photo_logits: np.ndarray  # (P, C) float32: one row per photo
    image_logits: np.ndarray  # (N, C) float32: the mean over each product's photos; NaN for products without
    logits: np.ndarray  # (N, C) float32; out of fold on the validation split
    temperature: float  # the logits are divided by it for probabilities
    seconds: float
    with_tfidf: Fusion  # of both branches and TF-IDF
    with_tfidf_logits: np.ndarray  # (N, C) float32; out of fold on the validation split


def train_combined_model(
    products: pd.DataFrame,
    texts: Texts,
    photos: Photos,
    categories: list[str],
    text: TrainedModel,
    image: TrainedModel,
    shallow: ShallowText,
    options: TrainingOptions | None = None,
) -> Combined:
    """Combine two trained branches, and both with TF-IDF: fit the last layers and the temperature on the validation
    split.

    Raises UserError as `fuse_products`.
    """
    start = time.perf_counter()
    options = options or TrainingOptions()
    text_logits = text_outputs(text.model, texts, options.device)
    photo_logits = photo_outputs(image.model, photos, options.device)
    image_logits = mean_per_product(photo_logits, photos.product_rows, len(products)).astype(np.float32)
    fusion, logits = fuse_products([text_logits, image_logits], products, options.seed)
    outputs = [text_logits, image_logits, shallow.outputs[TFIDF]]
    with_tfidf, with_tfidf_logits = fuse_products(outputs, products, options.seed)
    rows = rows_of_split(products, "validation")
    labels = products["main_category_code"].to_numpy(np.int64)[rows]
    temperature = fit_temperature(logits[rows], labels)
    model = CombinedModel(text.model, image.model, len(categories))
    model.set_last_layer(fusion)
    if options.data_dir is not None:
        configuration = {
            "seed": options.seed,
            "encoder": texts.encoder,
            "encoder_weights": texts.encoder_weights,
            "embedding_scale": EMBEDDING_SCALE,
            "image_size": photos.pixels.shape[1],
            "image_weights": image.weights,
            "image_weights_hash": image.weights_hash,
            "l2": fusion.l2,
            "temperature": temperature,
        }
        validation = {"accuracy": accuracy_score(labels, logits[rows].argmax(1))}
        path = checkpoint_path(options.data_dir, "combined")
        save_checkpoint(path, model, categories, configuration=configuration, validation=validation)
        content = {"labels": categories, "tfidf": shallow.tfidf, "fusion": asdict(with_tfidf)}
        content["combined_model"] = fusion.layer_hash()
        save_model(DataFolder(options.data_dir).checkpoints / MODEL_FILES["fused"], content)
    seconds = time.perf_counter() - start
    return Combined(
        model.eval(),
        fusion,
        text_logits,
        photo_logits,
        image_logits,
        logits,
        temperature,
        seconds,
        with_tfidf,
        with_tfidf_logits,
    )


def fine_tuning_groups(learner: Learner, head: nn.Module, recipe: Recipe) -> list[dict[str, Any]]:
    """The trained parameters of a learner in two groups with a learning rate each: those of the network below its
    `head`, which are pretrained, and the others, which start from random initialisation."""
    below = set(learner.model.parameters()) - set(head.parameters())
    trained = [parameter for parameter in learner.parameters() if parameter.requires_grad]
    return [
        {"params": [p for p in trained if p in below], "lr": recipe.learning_rate * recipe.pretrained_factor},
        {"params": [p for p in trained if p not in below], "lr": recipe.learning_rate},
    ]


def _batches_of_splits(
    examples: Photos | Texts,
    inputs,
    products: pd.DataFrame,
    recipe: Recipe,
    transforms: tuple,
    device: torch.device,
    leaves: bool = False,
) -> tuple[Batches, Batches, np.ndarray]:
    """Batches of train and of validation, labelled by main category, those of train with `leaves` by leaf category; and
    the main category (L,) of each label of train. Raises UserError as `check_splits`."""
    rank, world_size = rank_and_world_size()
    if recipe.batch_size % world_size or recipe.batch_size < 2 * world_size:
        raise UserError(
            f"batches of {recipe.batch_size} cannot be shared equally by {world_size} processes with at least two "
            "examples each: give another --batch-size."
        )
    splits = ("train", "validation")
    what = "photos" if isinstance(examples, Photos) else "listings"
    check_splits(products.iloc[np.unique(examples.product_rows)], what, splits)
    train_rows, validation_rows = (examples_of_split(examples, products, split) for split in splits)
    codes = products["main_category_code"].to_numpy(np.int64)[examples.product_rows]  # one per example
    labels, main_of_label = codes[train_rows], np.arange(codes.max() + 1)
    if leaves:
        paths = products["category"].to_numpy()[examples.product_rows]
        labels, main_of_label = leaf_labels(paths[train_rows], codes[train_rows])
    size = recipe.batch_size
    train = Batches(inputs, train_rows, labels, size, True, transforms[0], device, rank, world_size)
    validation = Batches(inputs, validation_rows, codes[validation_rows], size, False, transforms[1], device)
    return train, validation, main_of_label
