"""Transfer learning, whole and offline: ResNet50 learns from drawn photos of some kinds of things, then serves others.

    python -m benchmarks.pretraining [--weights data/pretraining/resnet50_drawn.pth] [--seeds 7 8 9] [--save]

Of the six kinds of each main category of the sample marketplace, four are drawn for pretraining, two for the task: to
tell the main category of a photo. The pretrained network is saved as a state dict and loaded as `--image-weights FILE`
loads it. Frozen, its features go into a logistic regression; fine-tuned and from random initialisation, ImageModel is
trained as always. The epoch and the regression's C are chosen on validation photos, the score is that of test photos.
If the weights are there they are not trained again.
"""

import contextlib
import io
import multiprocessing
import random
import statistics
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import nn

from benchmarks.saving import add_save_option, save_rows
from marketplace.command_line import argument_parser, run
from marketplace.data_folder import write_whole
from marketplace.listings import rows_of_split
from marketplace.photos import PHOTO_SIZE, Photos, clean_photo
from models import ImageModel
from models.device import gpu_name, pick_device
from models.image_weights import load_image_weights
from models.predict import photo_outputs
from models.training import FINE_TUNING_RECIPE, IMAGE_RECIPE, TrainingOptions, train_image_model
from sample_marketplace.drawing import COLOURS, PhotoSpec, encode_photo
from sample_marketplace.kinds import CATEGORY_SIZES, KINDS, Kind
from shallow.words import fit_on_train, log_probabilities, mean_embedding_model

FROZEN, FINE_TUNED, RANDOM = "frozen", "fine-tuned", "random initialisation"
CATEGORIES = sorted(CATEGORY_SIZES)
PRETRAINING = {"train": 120, "validation": 10}  # photos of a kind
TASK = {"train": 40, "validation": 20, "test": 40}
FEW = (4, 12, 40)  # train photos of a kind that the task has
FINE_TUNING = replace(FINE_TUNING_RECIPE, scales=(1.0,))  # these photos are as small as those of pretraining
SEED = 7  # of the drawings, and of pretraining


def divided_kinds(for_pretraining: int = 4) -> tuple[list[Kind], list[Kind]]:
    """The kinds for pretraining and those for the task: of each main category some, drawn at random."""
    generator, first, second = random.Random(SEED), [], []
    for category in CATEGORIES:
        kinds = [kind for kind in KINDS if kind.main_category == category]
        generator.shuffle(kinds)
        first += kinds[:for_pretraining]
        second += kinds[for_pretraining:]
    return first, second


def draw_pixels(spec: PhotoSpec) -> np.ndarray:
    """A drawn photo as clean pixels (S, S, 3) uint8."""
    return np.asarray(clean_photo(io.BytesIO(encode_photo(spec)), PHOTO_SIZE))


def draw(kinds: Sequence[Kind], counts: dict[str, int]) -> tuple[pd.DataFrame, Photos]:
    """Products with one photo each: `counts` of each kind in each split."""
    names = [(kind, split, number) for kind in kinds for split, count in counts.items() for number in range(count)]
    generator = random.Random(SEED)
    specs = [
        PhotoSpec(
            "",
            kind.shape,
            generator.choice(list(COLOURS)),
            f"thing/{kind.shape}/{split}/{number}",
            f"photo/{kind.shape}/{split}/{number}",
        )
        for kind, split, number in names
    ]
    with ProcessPoolExecutor(mp_context=multiprocessing.get_context("spawn")) as pool:
        pixels = np.stack(list(pool.map(draw_pixels, specs, chunksize=32)))
    codes = [CATEGORIES.index(kind.main_category) for kind, _, _ in names]
    splits = [split for _, split, _ in names]
    products = pd.DataFrame(
        {"category": [kind.category for kind, _, _ in names], "main_category_code": codes, "split": splits}
    )
    return products, Photos(pixels, [str(row) for row in range(len(pixels))], np.arange(len(pixels)), {})


def pretrain(path: Path, kinds: Sequence[Kind]) -> None:
    """Train an ImageModel from random initialisation and save its ResNet50."""
    products, photos = draw(kinds, PRETRAINING)
    options = TrainingOptions(SEED, pick_device())
    model = train_image_model(products, photos, CATEGORIES, image_weights="none", options=options).model
    path.parent.mkdir(parents=True, exist_ok=True)
    with write_whole(path) as partial:
        torch.save(model.get_submodule("resnet").state_dict(), partial)


def part_of_train(products: pd.DataFrame, photos_of_kind: int) -> pd.DataFrame:
    """The products with only the first train photos of each kind in a split; the others keep their rows."""
    number = products.groupby(["category", "split"]).cumcount()
    left_out = (products["split"] == "train") & (number >= photos_of_kind)
    return products.assign(split=products["split"].mask(left_out, "left out"))


def frozen_logits(products: pd.DataFrame, photos: Photos, weights: Path) -> np.ndarray:
    """Log probabilities (N, C) by a logistic regression on the features of the pretrained network."""
    model = ImageModel(len(CATEGORIES))
    load_image_weights(model, weights)
    model.resnet.fc = nn.Identity()
    features = photo_outputs(model, photos, pick_device())  # (N, 2048)
    regression = fit_on_train(mean_embedding_model(), features, products)
    return log_probabilities(regression, features, len(CATEGORIES))


def logits_of(training: str, products: pd.DataFrame, photos: Photos, weights: Path, seed: int) -> np.ndarray:
    """Logits (N, C) of all photos by one way of training."""
    if training == FROZEN:
        return frozen_logits(products, photos, weights)
    options = TrainingOptions(seed, pick_device())
    start, recipe = (weights, FINE_TUNING) if training == FINE_TUNED else ("none", IMAGE_RECIPE)
    trained = train_image_model(products, photos, CATEGORIES, image_weights=start, recipe=recipe, options=options)
    return photo_outputs(trained.model, photos, options.device)


def test_accuracy(logits: np.ndarray, products: pd.DataFrame) -> float:
    test = rows_of_split(products, "test")
    return float(np.mean(logits[test].argmax(axis=1) == products["main_category_code"].to_numpy()[test]))


def main() -> None:
    parser = argument_parser("Measure transfer learning from a ResNet50 that is pretrained on drawn photos.")
    parser.add_argument("--weights", type=Path, default=Path("data/pretraining/resnet50_drawn.pth"), metavar="FILE")
    parser.add_argument("--seeds", type=int, nargs="+", default=[7, 8, 9])
    add_save_option(parser)
    arguments = parser.parse_args()
    for_pretraining, for_task = divided_kinds()
    if not arguments.weights.exists():
        pretrain(arguments.weights, for_pretraining)
    whole, photos = draw(for_task, TASK)
    rows = []
    for count in FEW:
        products = part_of_train(whole, count)
        for training in (FROZEN, FINE_TUNED, RANDOM):
            start, found = time.perf_counter(), []
            for seed in arguments.seeds if training != FROZEN else arguments.seeds[:1]:  # a regression has no seed
                with contextlib.redirect_stdout(io.StringIO()):
                    logits = logits_of(training, products, photos, arguments.weights, seed)
                found.append(test_accuracy(logits, products))
            spread = statistics.stdev(found) if len(found) > 1 else None
            row = {"training": training, "train photos": count * len(for_task), "test accuracy": statistics.mean(found)}
            rows.append(row | {"deviation": spread, "seconds": (time.perf_counter() - start) / len(found)})
            print(rows[-1], flush=True)
    if arguments.save:
        about = f"drawn photos of {len(for_task)} kinds, seeds {', '.join(map(str, arguments.seeds))}"
        save_rows("pretraining", rows, gpu_name(pick_device()), dataset=about)


if __name__ == "__main__":
    run(main)
