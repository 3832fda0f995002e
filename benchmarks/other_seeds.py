"""What the models score on sample marketplaces made with other seeds than the embedded one.

    python -m benchmarks.other_seeds [--seeds 8 9] [--folder data] [--save]

Makes each marketplace in FOLDER/seed8 and so on, runs `make run` on it from random weights, about eight minutes each on
two cores, and shows the test accuracies. What is there already is not made again.
"""

import subprocess
import sys
from argparse import ArgumentParser
from pathlib import Path

from benchmarks.saving import add_save_option, save_rows
from marketplace.command_line import run
from marketplace.data_folder import ROOT, DataFolder, read_json

MODELS = (
    "TF-IDF + logistic regression",
    "HOG, support vector machine",
    "TextModel",
    "ImageModel (random initialisation)",
    "CombinedModel",
    "CombinedModel and TF-IDF",
)


def scores(folder: Path, seed: int) -> dict[str, str | float]:
    """Test accuracy of each model on the marketplace of a seed; "best shallow" is by words and photo."""
    if not DataFolder(folder).products_table.exists():
        command = [sys.executable, "make_sample_marketplace.py", "--seed", str(seed), "--data-dir", str(folder)]
        subprocess.run(command, cwd=ROOT, check=True)
    subprocess.run(["make", "run", f"DATA_DIR={folder}", "IMAGE_WEIGHTS=none"], cwd=ROOT, check=True)
    results = read_json(DataFolder(folder).results / "neural_networks.json", "make run")
    found = {row["model"]: row["test"] for row in results["rows"]}
    shallow = found[results["parameters"]["strongest_shallow"]]
    return {"marketplace": f"seed {seed}", "best shallow": shallow, **{model: found[model] for model in MODELS}}


def main() -> None:
    parser = ArgumentParser(description="Measure what the models score on sample marketplaces of other seeds.")
    parser.add_argument("--seeds", type=int, nargs="+", default=[8, 9])
    parser.add_argument("--folder", type=Path, default=Path("data"), help="where their data folders are made")
    add_save_option(parser)
    arguments = parser.parse_args()
    rows = [scores(arguments.folder / f"seed{seed}", seed) for seed in arguments.seeds]
    print(*rows, sep="\n")
    if arguments.save:
        save_rows("other_seeds", rows, dataset="sample marketplaces of other seeds; accuracy on test")


if __name__ == "__main__":
    run(main)
