"""Train the three networks on a data folder, as the notebook does, through the same functions.

    python train_models.py [--data-dir data] [--models text image combined] [--epochs N] [--resume]
    torchrun --nproc_per_node=2 train_models.py [the same]

Reads products_table_clean.json, main_categories.json, duplicates.json, images_table.json and clean_images_<size>/;
writes embeddings/, checkpoints/ and results/train_models.json. With CombinedModel the shallow models of the words and
the fusion with TF-IDF are fitted.
"""

import argparse
import time
from dataclasses import replace

from marketplace.command_line import argument_parser, positive_int, run
from marketplace.data_folder import DataFolder, check_data_folder

MODELS = ("text", "image", "combined")


def parse_arguments() -> argparse.Namespace:
    parser = argument_parser("Train TextModel, ImageModel and CombinedModel on the listings of a data folder.")
    which = "what to train; combined alone takes what an earlier run with the same settings has finished"
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS), help=which)
    parser.add_argument("--epochs", type=positive_int, help="of each network, instead of its recipe's")
    parser.add_argument("--batch-size", type=positive_int, help="of all processes together, instead of the recipe's")
    parser.add_argument("--resume", action="store_true", help="continue an interrupted run with the same settings")
    start = "imagenet, none, a file, or auto: $IMAGE_WEIGHTS, or imagenet if possible"
    parser.add_argument("--image-weights", default="auto", help=start)
    parser.add_argument("--encoder", default="all-MiniLM-L6-v2", help="of texts: a name on the hub, or a folder")
    size = "of clean photos (default: suits the weights)"
    parser.add_argument("--image-size", type=positive_int, default=0, metavar="PIXELS", help=size)
    parser.add_argument("--seed", type=positive_int, default=7, help="of all random numbers")
    return parser.parse_args()


def train(arguments: argparse.Namespace) -> None:
    """Train the networks in sequence, write the results and print them."""
    import numpy as np  # these imports take seconds, and --help needs none of them

    from evaluation.metrics import category_row, check_splits
    from evaluation.tables import rows_table, write_results
    from marketplace.listings import SPLITS, load_main_categories, load_products, mean_per_product, rows_of_split
    from marketplace.photos import clean_missing_photos, load_photos
    from models import training
    from models.device import from_first_process, gpu_name, pick_device, process_group, process_rank
    from models.image_weights import available_weights, initialisation, photo_size
    from models.predict import photo_outputs, text_outputs
    from models.text_encoder import load_texts, product_embeddings
    from shallow.words import fit_shallow_text

    start = time.perf_counter()
    data_dir, seed, device = arguments.data_dir, arguments.seed, pick_device()
    products, categories = load_products(data_dir), load_main_categories(data_dir)
    check_splits(products)
    sizes = {split: len(rows_of_split(products, split)) for split in SPLITS}
    overrides = {name: value for name in ("epochs", "batch_size") if (value := getattr(arguments, name))}
    combined = "combined" in arguments.models
    rows: list[dict] = []

    def options_of(network: str) -> training.TrainingOptions:
        resume = arguments.resume or network not in arguments.models
        return training.TrainingOptions(seed, device, data_dir, resume)

    def evaluate(name: str, kind: str, logits: np.ndarray, seconds: float) -> None:
        """Add a result row for logits (N, C); rows of NaN, without an input, get the mean of the validation split."""
        mean = np.nanmean(logits[rows_of_split(products, "validation")], axis=0)
        predictions = np.where(np.isnan(logits), mean, logits).argmax(axis=1)
        question = "category by photo" if kind == "photo" else "category by words and photo"
        rows.append(category_row(name, kind, question, products, predictions, seconds, seed))

    with process_group(device):
        print(f"{len(products):,} listings in {len(categories)} categories; training on {device.type}.")
        if combined or "image" in arguments.models:
            weights = from_first_process(lambda: available_weights(arguments.image_weights))
            size = photo_size(weights, arguments.image_size)
            arguments.image_weights, arguments.image_size = weights, size  # as they are written into the results
            print(f"ImageModel starts from {initialisation(weights)}.")
            from_first_process(lambda: clean_missing_photos(DataFolder(data_dir), size))
            photos = load_photos(data_dir, products, size)
            print(f"{len(photos):,} photos of {size} pixels.")
        if combined or "text" in arguments.models:
            print("TextModel")
            texts = load_texts(data_dir, products, arguments.encoder, device)
            recipe = replace(training.TEXT_RECIPE, **overrides)
            text = training.train_text_model(products, texts, categories, recipe=recipe, options=options_of("text"))
            evaluate("TextModel", "text", text_outputs(text.model, texts, device), text.seconds)
        if combined or "image" in arguments.models:
            print("ImageModel")
            recipe = replace(training.image_recipe(weights), **overrides)
            image = training.train_image_model(
                products, photos, categories, image_weights=weights, recipe=recipe, options=options_of("image")
            )
            logits = mean_per_product(photo_outputs(image.model, photos, device), photos.product_rows, len(products))
            evaluate(f"ImageModel ({image.initialisation})", "photo", logits, image.seconds)
        if combined and process_rank() == 0:
            print("TF-IDF and mean embedding, CombinedModel, fusion with TF-IDF")
            shallow = fit_shallow_text(products, product_embeddings(texts, len(products)), len(categories), seed)
            for name, output in shallow.outputs.items():
                evaluate(name, "shallow", output, shallow.seconds[name])
            fused = training.train_combined_model(
                products, texts, photos, categories, text, image, shallow, options_of("combined")
            )
            evaluate("CombinedModel", "both", fused.logits, fused.seconds)
            evaluate("CombinedModel and TF-IDF", "both", fused.with_tfidf_logits, fused.seconds)
        if process_rank() == 0:
            parameters = {name: value for name, value in vars(arguments).items() if name != "data_dir"}
            content = {"seed": seed, "split_sizes": sizes, "parameters": parameters, "rows": rows}
            write_results(data_dir, "train_models", content, gpu_name(device))
            print(rows_table(rows).to_string(index=False))
        print(f"done in {time.perf_counter() - start:.0f} s; checkpoints are in {DataFolder(data_dir).checkpoints}.")


def main() -> None:
    arguments = parse_arguments()
    check_data_folder(arguments.data_dir)
    train(arguments)


if __name__ == "__main__":
    run(main)
