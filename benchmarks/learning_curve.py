"""What more train listings bring: 10, 30 and 100% of them, for TextModel and its shallow rivals.

    python -m benchmarks.learning_curve [--data-dir data/sample] [--encoder NAME] [--seeds 7 8 9] [--save]

Each seed draws its own part of the train listings, the same one for all models, and the initial weights. Scored on the
validation split, by which TextModel's best epoch and the regressions' C are chosen, too; test is not used. What is
fused is out of fold.
"""

import contextlib
import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.special import log_softmax

from benchmarks.saving import add_save_option, save_rows
from evaluation.tables import dataset_name
from marketplace.command_line import argument_parser, run
from marketplace.listings import load_main_categories, load_products, rows_of_split
from models.device import gpu_name, pick_device
from models.predict import text_outputs
from models.text_encoder import ENCODER, Texts, load_texts, product_embeddings
from models.training import TrainingOptions, train_text_model
from shallow.fusion import fuse_products
from shallow.words import TFIDF, fit_shallow_text

SHARES = (0.1, 0.3, 1.0)


def text_logits(products: pd.DataFrame, texts: Texts, categories: list[str], seed: int) -> np.ndarray:
    """Logits (N, C) of every product by a TextModel that is trained in silence."""
    options = TrainingOptions(seed, pick_device())
    with contextlib.redirect_stdout(io.StringIO()):
        text = train_text_model(products, texts, categories, options=options)
    return text_outputs(text.model, texts, options.device)


def validation_scores(logits: Sequence[np.ndarray], products: pd.DataFrame) -> dict[str, float | None]:
    """Accuracy, its standard deviation over the seeds, and cross-entropy of the logits (N, C) of each seed."""
    rows = rows_of_split(products, "validation")
    labels = products["main_category_code"].to_numpy(np.int64)[rows]
    accuracies = [np.mean(of_seed[rows].argmax(axis=1) == labels) for of_seed in logits]
    losses = [-log_softmax(of_seed[rows], axis=1)[np.arange(len(rows)), labels].mean() for of_seed in logits]
    spread = float(np.std(accuracies, ddof=1)) if len(accuracies) > 1 else None
    means = float(np.mean(accuracies)), float(np.mean(losses))
    return {"validation accuracy": means[0], "deviation": spread, "cross-entropy": means[1]}


def part_of_train(products: pd.DataFrame, share: float, seed: int) -> pd.DataFrame:
    """The products with only a share of the train listings in a split; the others keep their rows."""
    train = rows_of_split(products, "train")
    left_out = np.random.default_rng(seed).permutation(train)[round(share * len(train)) :]
    return products.assign(split=products["split"].where(~products.index.isin(left_out), "left out"))


def outputs(
    products: pd.DataFrame, texts: Texts, embeddings: np.ndarray, categories: list[str], seed: int
) -> dict[str, np.ndarray]:
    """Logits or log probabilities (N, C) of every product by each model."""
    found = fit_shallow_text(products, embeddings, len(categories), seed).outputs
    text = text_logits(products, texts, categories, seed)
    return found | {"TextModel": text, "TextModel and TF-IDF": fuse_products([text, found[TFIDF]], products, seed)[1]}


def main() -> None:
    parser = argument_parser("Measure what more train listings bring.")
    parser.set_defaults(data_dir=Path("data/sample"))
    parser.add_argument("--encoder", default=ENCODER, help="of texts: a name on the hub, or a folder")
    parser.add_argument("--seeds", type=int, nargs="+", default=[7, 8, 9])
    add_save_option(parser)
    arguments = parser.parse_args()
    products, categories = load_products(arguments.data_dir), load_main_categories(arguments.data_dir)
    device = pick_device()
    texts = load_texts(arguments.data_dir, products, arguments.encoder, device)
    embeddings = product_embeddings(texts, len(products))
    rows = []
    for share in SHARES:
        parts = [part_of_train(products, share, seed) for seed in arguments.seeds]
        pairs = zip(parts, arguments.seeds, strict=True)
        found = [outputs(part, texts, embeddings, categories, seed) for part, seed in pairs]
        for model in found[0]:
            count = len(rows_of_split(parts[0], "train"))
            scores = validation_scores([of_seed[model] for of_seed in found], products)
            rows.append({"train listings": count, "model": model, **scores})
            print(rows[-1], flush=True)
    if arguments.save:
        encoder = Path(arguments.encoder).name
        dataset = f"{dataset_name(arguments.data_dir)}, {encoder}, {len(arguments.seeds)} seeds"
        save_rows(f"learning_curve_{encoder}", rows, gpu_name(device), dataset=dataset)


if __name__ == "__main__":
    run(main)
