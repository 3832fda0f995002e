"""What each part of TextModel's training brings: the recipe with one part at a time left out, on the validation split.

Reads the tables and embeddings of a data folder, writes nothing but missing embeddings:

    python -m benchmarks.text_recipe [--data-dir data/sample] [--epochs N] [--seeds 7 8] [--save]

Prints the validation accuracy per product and the cross-entropy of every way, mean over the seeds. With only the first
window of each text an epoch is shorter, too. The test split is not looked at.
"""

import contextlib
import io
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.special import log_softmax
from sklearn.metrics import accuracy_score

from benchmarks.saving import add_save_option, save_rows
from evaluation.results import dataset_name
from marketplace.command_line import argument_parser, positive_int, run
from marketplace.dataset import load_main_categories, load_products, rows_of_split
from models.batches import Texts, load_texts, product_embeddings
from models.device import pick_device
from models.fusion import text_outputs
from models.recipes import TEXT_RECIPE, train_text_model
from models.training import Recipe, TrainingOptions
from shallow.words import teacher_probabilities


def first_windows(texts: Texts) -> Texts:
    """Of each text only its first window."""
    _, first = np.unique(texts.product_rows, return_index=True)
    return Texts(texts.embeddings[first], texts.product_rows[first])


def ways(recipe: Recipe, products: pd.DataFrame, texts: Texts, teacher: np.ndarray) -> dict[str, tuple]:
    """Recipe, products, texts and teacher of the whole recipe and of each way that lacks something."""
    return {
        "the recipe": (recipe, products, texts, teacher),
        "without soft labels": (recipe, products, texts, None),
        "without leaf categories": (recipe, products.assign(category=products["main_category"]), texts, teacher),
        "without the average of the weights": (replace(recipe, average_decay=0.0), products, texts, teacher),
        "only the first window of a text": (recipe, products, first_windows(texts), teacher),
        "no token left out": (replace(recipe, token_dropout=0.0), products, texts, teacher),
        "order never shuffled": (replace(recipe, shuffled=0.0), products, texts, teacher),
        "order always shuffled": (replace(recipe, shuffled=1.0), products, texts, teacher),
    }


def main() -> None:
    parser = argument_parser("Measure what each part of TextModel's training brings.")
    parser.set_defaults(data_dir=Path("data/sample"))
    parser.add_argument("--epochs", type=positive_int, default=TEXT_RECIPE.epochs)
    parser.add_argument("--seeds", type=int, nargs="+", default=[7, 8])
    add_save_option(parser)
    arguments = parser.parse_args()
    products, categories = load_products(arguments.data_dir), load_main_categories(arguments.data_dir)
    texts = load_texts(arguments.data_dir, products)
    labels = products["main_category_code"].to_numpy(np.int64)
    train, held_out = (rows_of_split(products, split) for split in ("train", "validation"))
    teacher = teacher_probabilities(products, product_embeddings(texts, len(products)))
    print(f"{len(train):,} train and {len(held_out):,} validation listings; {arguments.epochs} epochs.")
    print(f"Accuracy of the teacher on train: {accuracy_score(labels[train], teacher[train].argmax(1)):.1%}.")
    print("| trained with | validation accuracy | of each seed | cross-entropy | seconds |\n|---|---|---|---|---|")
    device = pick_device()
    recipe = replace(TEXT_RECIPE, epochs=arguments.epochs)
    rows = []
    for name, (changed, listings, windows, probabilities) in ways(recipe, products, texts, teacher).items():
        start = time.perf_counter()
        scores, losses = [], []
        for seed in arguments.seeds:
            options = TrainingOptions(seed, device)
            with contextlib.redirect_stdout(io.StringIO()):
                text = train_text_model(
                    listings, windows, categories, teacher=probabilities, recipe=changed, options=options
                )
            logits = text_outputs(text.model, windows, device)[held_out]
            scores.append(accuracy_score(labels[held_out], logits.argmax(axis=1)))
            losses.append(-log_softmax(logits, axis=1)[np.arange(len(held_out)), labels[held_out]].mean())
        seconds = (time.perf_counter() - start) / len(arguments.seeds)
        each = ", ".join(f"{score:.3f}" for score in scores)
        print(f"| {name} | {np.mean(scores):.3f} | {each} | {np.mean(losses):.3f} | {seconds:.0f} |", flush=True)
        accuracy = np.mean(scores)
        error = np.sqrt(accuracy * (1 - accuracy) / len(held_out))
        means = {"validation accuracy": accuracy, "standard error": error, "cross-entropy": np.mean(losses)}
        rows.append({"trained with": name, **means, "seconds": seconds})
    if arguments.save:
        save_rows("text_recipe", rows, dataset=dataset_name(arguments.data_dir))


if __name__ == "__main__":
    run(main)
