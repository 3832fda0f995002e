"""Training in several processes: the same gradients as in one, and a whole run under torchrun."""

import json
import os
import socket
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import distributed, multiprocessing, nn
from torch.nn import functional as F
from torch.nn.parallel import DistributedDataParallel
from torchvision.models import ResNet50_Weights, resnet50
from trained_folder import trained_by_two_processes

from marketplace.photos import Photos
from models import CombinedModel, ImageModel, TextModel
from models.predict import load_checkpoint
from models.training import IMAGE_RECIPE, Batches, TrainingOptions, train_image_model

BATCH = 8


def text_model_and_inputs() -> tuple[nn.Module, np.ndarray]:
    torch.manual_seed(1)
    return TextModel(3).double(), torch.randn(BATCH, 50, 768).double().numpy()


def image_model_and_inputs() -> tuple[nn.Module, np.ndarray]:
    torch.manual_seed(2)
    model = ImageModel(3).eval()  # batch normalisation as it is, no dropout
    return model.double(), torch.randn(BATCH, 3, 32, 32).double().numpy()


def gradients(model: nn.Module, learner: nn.Module, batches: Batches) -> list[torch.Tensor]:
    for inputs, labels in batches:
        F.cross_entropy(learner(inputs), labels).backward()
    return [parameter.grad for parameter in model.parameters() if parameter.grad is not None]


def compare_gradients(rank: int) -> None:
    """Gradients of one step, each process on its part of a batch, and of one process alone; float64, for exact sums."""
    labels = np.arange(BATCH) % 3
    for make in (text_model_and_inputs, image_model_and_inputs):
        model, inputs = make()
        settings = (inputs, np.arange(BATCH), labels, BATCH, torch.Tensor.double, torch.device("cpu"))
        part = Batches(*settings, process=(rank, 2))
        together = gradients(model, DistributedDataParallel(model), part)
        model, inputs = make()
        alone = gradients(model, model, Batches(*settings))
        for one, two in zip(alone, together, strict=True):
            torch.testing.assert_close(one, two, rtol=1e-6, atol=1e-9 * float(one.abs().max()))


def train_with_other_weights(rank: int, folder: Path) -> None:
    """Train an ImageModel with "auto" where only the first process finds weights."""
    torch.hub.set_dir(folder / str(rank))
    os.environ.pop("IMAGE_WEIGHTS", None)
    ResNet50_Weights.IMAGENET1K_V2.value.url = "http://127.0.0.1:9/resnet50-0.pth"  # no server answers there
    if rank == 0:
        cache = folder / str(rank) / "checkpoints"
        cache.mkdir(parents=True)
        torch.save(resnet50().state_dict(), cache / "resnet50-0.pth")
    products = pd.DataFrame({"main_category_code": [0, 1] * 4, "category": ["a", "b"] * 4, "split": "train"})
    products.loc[6:, "split"] = "validation"
    pixels = np.random.default_rng(0).integers(256, size=(8, 32, 32, 3), dtype=np.uint8)
    photos = Photos(pixels, [str(row) for row in range(8)], np.arange(8), {})
    recipe, options = replace(IMAGE_RECIPE, epochs=1, batch_size=4), TrainingOptions(device=torch.device("cpu"))
    image = train_image_model(products, photos, ["a", "b"], image_weights="auto", recipe=recipe, options=options)
    assert image.weights == "imagenet" and isinstance(image.model, ImageModel)
    assert image.model.frozen_parameters() == 670_400
    sums = [torch.zeros(1), torch.zeros(1)]
    distributed.all_gather(sums, next(image.model.parameters()).sum()[None])
    assert sums[0] == sums[1]


def one_of_two(rank: int, port: int, folder: Path) -> None:
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
    compare_gradients(rank)
    train_with_other_weights(rank, folder)
    distributed.destroy_process_group()


def test_two_processes_have_the_gradients_of_one_and_agree_on_image_weights(tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    multiprocessing.spawn(one_of_two, (port, tmp_path), nprocs=2)


def test_torchrun_trains_to_the_end(sample_folder):
    folder = trained_by_two_processes(sample_folder)
    printed = (folder / "printed.txt").read_text(encoding="utf-8")
    assert printed.count("epoch   1/1") == 2  # text and photo, printed by one process only
    assert printed.count("done in") == 1
    models = {"text_model_best.pt", "image_model_best.pt", "combined_model_best.pt"}
    assert {path.name for path in (folder / "checkpoints").iterdir()} == models | {"fused_model.skops"}
    categories = json.loads((folder / "main_categories.json").read_text())
    model = CombinedModel(num_classes=len(categories))
    load_checkpoint(folder / "checkpoints" / "combined_model_best.pt", model, categories)
    assert all(torch.isfinite(tensor).all() for tensor in model.state_dict().values())
    rows = json.loads((folder / "results" / "train_models.json").read_text())["rows"]
    names = [row["model"].split()[0] for row in rows]
    assert names == ["TextModel", "ImageModel", "TF-IDF", "mean", "TF-IDF", "CombinedModel", "CombinedModel"]
