"""Training in several processes: the same gradients as in one, and a whole run under torchrun."""

import json
import socket
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import distributed, multiprocessing, nn
from torch.nn import functional as F
from torch.nn.parallel import DistributedDataParallel
from torchvision.models import resnet50
from trained_folder import trained_by_two_processes

from marketplace.data_folder import UserError
from models import CombinedModel, ImageModel, TextModel, image_model
from models.batches import Batches
from models.checkpoints import load_checkpoint
from models.recipes import agreed_image_weights

BATCH = 8


def text_model_and_inputs() -> tuple[nn.Module, np.ndarray]:
    torch.manual_seed(1)
    return TextModel(3).double(), torch.randn(BATCH, 50, 768).double().numpy()


def image_model_and_inputs() -> tuple[nn.Module, np.ndarray]:
    torch.manual_seed(2)
    model = ImageModel(3).eval()  # batch normalisation as it is, no dropout
    return model.double(), torch.randn(BATCH, 3, 32, 32).double().numpy()


def gradients(model: nn.Module, learner: nn.Module, inputs: np.ndarray, share: tuple[int, int]) -> list[torch.Tensor]:
    """Gradients of one step on this process's share of a batch; float64, for exact sums."""
    batches = Batches(inputs, np.arange(BATCH), np.arange(BATCH) % 3, BATCH, share=share)
    for part, labels in batches:
        F.cross_entropy(learner(part), labels).backward()
    return [parameter.grad for parameter in model.parameters() if parameter.requires_grad]


def one_of_two(rank: int, port: int) -> None:
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
    for make in (text_model_and_inputs, image_model_and_inputs):
        model, inputs = make()
        together = gradients(model, DistributedDataParallel(model), inputs, (rank, 2))
        model, inputs = make()
        alone = gradients(model, model, inputs, (0, 1))
        for one, two in zip(alone, together, strict=True):
            torch.testing.assert_close(one, two, rtol=1e-6, atol=1e-9 * float(one.abs().max()))
    distributed.destroy_process_group()


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def test_two_processes_have_the_gradients_of_one():
    multiprocessing.spawn(one_of_two, (free_port(),), nprocs=2)


def one_with_weights_and_one_without(rank: int, port: int, folder: Path, having: int) -> None:
    torch.hub.set_dir(folder / str(rank))
    image_model.IMAGENET_URL = "http://127.0.0.1:9/resnet50-0.pth"  # nothing listens there
    if rank == having:
        cache = folder / str(rank) / "checkpoints"
        cache.mkdir(parents=True)
        torch.save(resnet50().state_dict(), cache / "resnet50-0.pth")
    distributed.init_process_group("gloo", f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
    model = ImageModel(3)
    if having == 1:  # the second has what the first could not get, and does without
        assert agreed_image_weights(model, "auto") == "none"
        assert model.frozen_parameters() == 0
    elif rank == 0:
        assert agreed_image_weights(model, "auto") == "imagenet"
    else:  # better one sentence than two networks of which one is frozen
        with pytest.raises(UserError, match="the ImageNet weights cannot be downloaded"):
            agreed_image_weights(model, "auto")
    distributed.destroy_process_group()


@pytest.mark.parametrize("having", [0, 1])
def test_processes_agree_on_image_weights(having, tmp_path):
    multiprocessing.spawn(one_with_weights_and_one_without, (free_port(), tmp_path, having), nprocs=2)


@pytest.mark.parametrize(("count", "batches"), [(16, 2), (17, 2), (18, 3), (1, 0)])
def test_shares_are_equal_and_together_the_batch(count, batches):
    inputs = np.arange(count)[:, None]
    parts = []
    for rank in (0, 1):
        torch.manual_seed(0)
        share = Batches(inputs, np.arange(count), np.arange(count), BATCH, shuffle=True, share=(rank, 2))
        assert len(share) == batches
        parts.append([labels.tolist() for _, labels in share])
    assert [len(part) for part in parts[0]] == [len(part) for part in parts[1]]
    seen = [label for part in parts[0] + parts[1] for label in part]
    assert len(seen) == len(set(seen)) == count - count % 2


def test_torchrun_trains_to_the_end(sample_folder):
    folder = sample_folder.parent / "trained"
    result = trained_by_two_processes(sample_folder, folder)
    assert result.returncode == 0, result.stderr
    assert result.stdout.count("epoch   1/1") == 2  # text and photo, told by one process only
    assert result.stdout.count("done in") == 1
    assert "Traceback" not in result.stderr
    names = {"text_model_last.pt", "text_model_best.pt", "image_model_last.pt", "image_model_best.pt"}
    assert {path.name for path in (folder / "checkpoints").iterdir()} == names | {"combined_model_best.pt"}
    categories = json.loads((folder / "main_categories.json").read_text())
    model = CombinedModel(num_classes=len(categories))
    load_checkpoint(folder / "checkpoints" / "combined_model_best.pt", model, categories)
    assert all(torch.isfinite(tensor).all() for tensor in model.state_dict().values())
    rows = json.loads((folder / "results" / "train_models.json").read_text())["rows"]
    assert [(row["model"].split()[0], row["metric"]) for row in rows] == [
        (model, metric) for model in ("TextModel", "ImageModel", "CombinedModel") for metric in ("accuracy", "macro-F1")
    ]
