"""How much faster the networks are trained here than in the straightforward way, on the same products, in one process.

    python -m benchmarks.training [--data-dir data/sample] [--products 200] [--rounds 2] [--compile]
        [--recipes] [--save]

The straightforward way decodes each photo and embeds each text whenever it is needed, one at a time, works in float32
and computes every gradient. Both ways run in turn; the fastest round of each counts. `--recipes` also trains
ImageModel from random initialisation by its recipe and by large batches. Needs a data folder on which the data scripts
ran.
"""

import contextlib
import io
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from PIL import Image
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import v2

from benchmarks.saving import add_save_option, comparison, save_rows
from evaluation.tables import dataset_name, environment
from marketplace.command_line import argument_parser, positive_int, run
from marketplace.data_folder import DataFolder
from marketplace.listings import load_main_categories, load_products
from marketplace.photos import Photos, load_photos, photo_files, photo_stem
from models import CombinedModel, ImageModel
from models.device import has_fast_bfloat16
from models.image_weights import PRETRAINED_SIZE
from models.networks import IMAGENET_MEAN, IMAGENET_STD, TOKENS
from models.predict import photo_outputs, text_outputs
from models.text_encoder import TextEncoder, Texts
from models.training import (
    FINE_TUNING_RECIPE,
    IMAGE_RECIPE,
    MAXIMUM_ANGLE,
    MAXIMUM_SHIFT,
    MAXIMUM_TINT,
    ZOOM,
    Batches,
    Learner,
    TrainingOptions,
    photo_trainer,
    train_one_epoch,
    train_transform,
)
from shallow.fusion import fit_fusion

CPU = torch.device("cpu")
BATCH_SIZE = 64
SEED = 7
ACCURACIES = (0.5, 0.6, 0.7, 0.8)  # of ImageModel per photo, on validation


class ProductsOneByOne(Dataset):
    """Photos decoded and, with an encoder, texts embedded each time an item is read."""

    transform = v2.Compose(
        [
            v2.RandomHorizontalFlip(),
            v2.RandomAffine(MAXIMUM_ANGLE, (MAXIMUM_SHIFT, MAXIMUM_SHIFT), ZOOM),
            v2.ColorJitter(MAXIMUM_TINT, MAXIMUM_TINT, MAXIMUM_TINT),
            v2.PILToTensor(),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize(IMAGENET_MEAN, IMAGENET_STD),
        ]
    )

    def __init__(self, paths: list[Path], labels: np.ndarray, texts: list[str], encoder: TextEncoder | None = None):
        self.paths, self.labels, self.texts, self.encoder = paths, labels, texts, encoder

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, item: int):
        with Image.open(self.paths[item]) as photo:
            image = self.transform(photo.convert("RGB"))
        label = int(self.labels[item])
        return (image, label) if self.encoder is None else (embed_one(self.encoder, self.texts[item]), image, label)


@torch.inference_mode()
def embed_one(encoder: TextEncoder, text: str) -> torch.Tensor:
    """Embedding (50, 768) of one text in float32, padded to 50 tokens."""
    tokens = encoder.tokenizer(text, truncation=True, max_length=TOKENS, padding="max_length", return_tensors="pt")
    states = encoder.model(**tokens, output_hidden_states=True).hidden_states
    return (torch.cat([states[-2], states[-1]], dim=-1) * tokens["attention_mask"][:, :, None])[0]


def float32_encoder() -> TextEncoder:
    encoder = TextEncoder()
    encoder.dtype = torch.float32
    return encoder


def plain_epoch(model: nn.Module, loader: DataLoader) -> None:
    """An epoch in float32, in the default memory format, with all gradients."""
    optimizer = torch.optim.AdamW(model.parameters(), 1e-4)
    model.train()
    for *inputs, labels in loader:
        optimizer.zero_grad()
        F.cross_entropy(model(*inputs), labels).backward()
        optimizer.step()


def in_turn(ways: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """The fastest of `rounds` of each way in seconds, the ways in turn after one of each to warm up."""
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(rounds + 1):
        for name, way in ways.items():
            start = time.perf_counter()
            way()
            if number:
                seconds[name].append(time.perf_counter() - start)
    return {name: min(values) for name, values in seconds.items()}


def report(what: str, count: int, seconds: dict[str, float]) -> list[dict]:
    """Print the rate of every way and how many times faster each is than the first; returns the rows to save."""
    first, *others = seconds
    print(f"{what}\n  {first}: {count / seconds[first]:,.1f} a second")
    for name in others:
        print(f"  {name}: {count / seconds[name]:,.1f} a second, {seconds[first] / seconds[name]:.1f} times as fast")
    rate = count / seconds[first]
    return [
        comparison(f"{what} a second: {name}", count / seconds[name], rate, seconds[first] / seconds[name])
        for name in others
    ]


def bench_text(texts: list[str], rounds: int) -> list[dict]:
    plain, ours = float32_encoder(), TextEncoder()
    ways = {
        "one at a time, float32": lambda: [embed_one(plain, text) for text in texts],
        f"by length, {str(ours.dtype).removeprefix('torch.')}": lambda: ours.encode(texts),
    }
    return report("Text embedding, texts", len(texts), in_turn(ways, rounds))


def epoch_of_ours(model, batches: Batches) -> Callable[..., object]:
    """An epoch with `train_one_epoch` on decoded photos, which takes their scale."""
    learner = Learner(model).to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], 1e-4, fused=True)
    return lambda scale=1.0: train_one_epoch(learner, batches, optimizer, CPU, scale=scale)


def bench_image(
    photos: Photos, paths: list[Path], labels: np.ndarray, classes: int, rounds: int, compiled: bool
) -> list[dict]:
    """An epoch of ImageModel; its speed does not depend on the weights, which are random in all ways."""
    plain = ImageModel(classes, frozen_tensors=0)
    loader = DataLoader(ProductsOneByOne(paths, labels, []), BATCH_SIZE, shuffle=True)
    batches = Batches(photos.pixels, np.arange(len(paths)), labels, BATCH_SIZE, train_transform, CPU, shuffle=True)
    ways = {
        "decoded each time, float32, all gradients": lambda: plain_epoch(plain, loader),
        "decoded once, all gradients": epoch_of_ours(ImageModel(classes, 0), batches),
        "decoded once, frozen prefix (transfer)": epoch_of_ours(ImageModel(classes), batches),
    }
    if compiled:
        compiled_model: Any = torch.compile(ImageModel(classes, 0))
        ways["all gradients, torch.compile"] = epoch_of_ours(compiled_model, batches)
    return report(f"ImageModel epoch at {photos.pixels.shape[1]} pixels, photos", len(paths), in_turn(ways, rounds))


def bench_fine_tuning(classes: int) -> list[dict]:
    """ImageModel as it is trained from ImageNet weights, on random pixels, at each size of its progressive resizing;
    and what the epochs of its recipe take with 5,000 photos at these rates."""
    pixels = np.random.default_rng(0).integers(0, 256, (160, PRETRAINED_SIZE, PRETRAINED_SIZE, 3), np.uint8)
    labels, recipe = np.arange(len(pixels)) % classes, FINE_TUNING_RECIPE
    batches = Batches(pixels, np.arange(len(pixels)), labels, recipe.batch_size, train_transform, CPU, shuffle=True)
    epoch, rows, minutes = epoch_of_ours(ImageModel(classes), batches), [], 0.0
    for scale in dict.fromkeys(recipe.scales):
        seconds = in_turn({"ours": partial(epoch, scale)}, rounds=1)["ours"]
        name = f"ImageModel fine-tuned at {round(scale * PRETRAINED_SIZE)} pixels, photos a second"
        rows.append(comparison(name, len(pixels) / seconds))
        epochs = recipe.epochs * recipe.scales.count(scale) / len(recipe.scales)
        minutes += epochs * 5000 * seconds / len(pixels) / 60
    rows.append(comparison("ImageModel fine-tuned on 5,000 photos at these rates, minutes", minutes))
    print(*(f"{row['what']}: {row['ours']:.1f}" for row in rows), sep="\n")
    return rows


def bench_combined(
    photos: Photos, paths: list[Path], labels: np.ndarray, texts: list[str], classes: int, rounds: int
) -> list[dict]:
    """Ours is what `train_combined_model` does: the logits of both branches, once, then the fit of the last layer on
    them, including the choice of its l2. It replaces all epochs of the other way; the ratio is that to one."""
    plain, ours = CombinedModel(num_classes=classes), CombinedModel(num_classes=classes)
    plain.requires_grad_(True)
    ours.to(memory_format=torch.channels_last)
    loader = DataLoader(ProductsOneByOne(paths, labels, texts, float32_encoder()), BATCH_SIZE, shuffle=True)
    embedded = Texts(TextEncoder().encode(texts), np.arange(len(texts)))

    def branches() -> tuple[np.ndarray, np.ndarray]:
        return text_outputs(ours.text_model, embedded, CPU), photo_outputs(ours.image_model, photos, CPU)

    ways: dict[str, Callable[[], object]] = {
        "decoded and embedded each time, float32, all gradients": lambda: plain_epoch(plain, loader),
        "outputs of the branches": branches,
        "outputs of the branches and the whole fit of the last layer": lambda: fit_fusion(branches(), labels, texts),
    }
    return report("CombinedModel epoch, products", len(texts), in_turn(ways, rounds))


def recipes(photos: Photos, products: pd.DataFrame, classes: int) -> list[dict]:
    """Seconds until ImageModel from random initialisation has an accuracy, by large batches at a high rate and by the
    recipe; one seed."""
    rows = []
    for recipe in (replace(IMAGE_RECIPE, batch_size=64, learning_rate=2e-3), IMAGE_RECIPE):
        torch.manual_seed(SEED)
        model = ImageModel(classes)
        model.start_from_scratch()
        options = TrainingOptions(SEED, CPU)
        with contextlib.redirect_stdout(io.StringIO()):
            history = pd.DataFrame(photo_trainer(model, None, products, photos, recipe, options).fit())
        seconds = history["seconds"].cumsum()
        row: dict[str, Any] = {"batch": recipe.batch_size, "rate": recipe.learning_rate, "epochs": len(history)}
        row["seconds"] = seconds.iloc[-1]
        for accuracy in ACCURACIES:
            reached = seconds[history["validation_accuracy"] >= accuracy]
            row[f"seconds to {accuracy:.0%}"] = reached.min() if len(reached) else None
        rows.append(row | {"validation accuracy": history["validation_accuracy"].max()})
        print(rows[-1])
    return rows


def main() -> None:
    parser = argument_parser("Measure training in the straightforward way and in ours.")
    parser.set_defaults(data_dir=Path("data/sample"))
    parser.add_argument("--products", type=positive_int, default=200, help="how many products, one photo each")
    parser.add_argument("--rounds", type=positive_int, default=2)
    parser.add_argument("--image-size", type=positive_int, default=64)
    parser.add_argument("--compile", action="store_true", help="also measure torch.compile, which needs a C++ compiler")
    parser.add_argument("--recipes", action="store_true", help="also train ImageModel from random weights")
    add_save_option(parser)
    arguments = parser.parse_args()
    torch.manual_seed(0)
    products = load_products(arguments.data_dir)
    classes = len(load_main_categories(arguments.data_dir))
    photos = load_photos(arguments.data_dir, products, arguments.image_size)
    files = photo_files(DataFolder(arguments.data_dir).clean_images(arguments.image_size))
    paths = [files[photo_stem(image_id)] for image_id in photos.image_ids]
    _, first = np.unique(photos.product_rows, return_index=True)
    first = first[: arguments.products]
    few = Photos(photos.pixels[first], [photos.image_ids[i] for i in first], np.arange(len(first)), {})
    few_paths = [paths[i] for i in first]
    labels = products["main_category_code"].to_numpy(np.int64)[photos.product_rows[first]]
    texts = products["text"].iloc[photos.product_rows[first]].tolist()

    print(f"{environment()['words']}; bfloat16 instructions: {'yes' if has_fast_bfloat16(CPU) else 'no'}")
    rows = bench_text(texts, arguments.rounds)
    rows += bench_image(few, few_paths, labels, classes, arguments.rounds, arguments.compile)
    rows += bench_fine_tuning(classes)
    rows += bench_combined(few, few_paths, labels, texts, classes, arguments.rounds)
    if arguments.recipes:
        found = recipes(photos, products, classes)
        if arguments.save:
            save_rows("training_recipes", found, dataset=dataset_name(arguments.data_dir))
    if arguments.save:
        save_rows("training", rows, dataset=dataset_name(arguments.data_dir))


if __name__ == "__main__":
    run(main)
