"""ImageModel: the category of a product from one photo; its weights, and what is done to photos before it."""

import hashlib
import math
import os
import tempfile
import threading
import time
import urllib.request
from pathlib import Path
from urllib.parse import urlparse

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models import ResNet50_Weights, resnet50
from torchvision.models.resnet import Bottleneck

from marketplace.data_folder import UserError, first_line

FROZEN_TENSORS = 47  # conv1 to layer2.1.bn1.weight
IMAGENET_MEAN = (0.485, 0.456, 0.406)  # of red, green and blue in 0 to 1, as torchvision's weights expect them
IMAGENET_STD = (0.229, 0.224, 0.225)
DROPOUT = 0.2  # of the head
MAXIMUM_ANGLE = 5  # degrees, either way
ZOOM = (0.9, 1.1)  # smallest and largest factor
MAXIMUM_SHIFT = 0.1  # of the photo's side, either way
MAXIMUM_TINT = 0.1  # how far brightness, contrast and saturation go from 1
IMAGENET_URL = ResNet50_Weights.IMAGENET1K_V2.url
DOWNLOAD_SECONDS = 10  # how long "auto" waits for the ImageNet weights


class ImageModel(nn.Module):
    """ResNet50 with a head of its own; the first `frozen_tensors` of its parameter tensors do not learn.

    Source: He et al., Deep Residual Learning for Image Recognition, 2015, https://arxiv.org/abs/1512.03385.
    """

    def __init__(self, num_classes: int = 13, frozen_tensors: int = FROZEN_TENSORS):
        super().__init__()
        self.resnet = resnet50(weights=None)
        self.resnet.fc = nn.Sequential(
            nn.Linear(2048, 512),
            nn.ReLU(),
            nn.Dropout(DROPOUT),
            nn.Linear(512, 256),
            nn.ReLU(),
            nn.Linear(256, num_classes),
        )
        for layer in self.resnet.fc:
            if isinstance(layer, nn.Linear):  # PyTorch's default would make the signal fainter from layer to layer
                nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
                nn.init.zeros_(layer.bias)
        for parameter in list(self.resnet.parameters())[:frozen_tensors]:
            parameter.requires_grad_(False)
        self.train()

    def train(self, mode: bool = True) -> "ImageModel":
        """Set training mode, except for frozen batch normalisation: its statistics belong to its frozen weights."""
        super().train(mode)
        for module in self.modules():
            if isinstance(module, nn.BatchNorm2d) and not module.weight.requires_grad:
                module.eval()
        return self

    def forward(self, image: Tensor) -> Tensor:
        """Logits (N, num_classes) of normalised photos (N, 3, H, W), float."""
        return self.resnet(image)

    def start_from_scratch(self) -> None:
        """Let every parameter learn, from random weights whose residual blocks do nothing yet, so that the signal first
        reaches the head unchanged. Source: Goyal et al., Accurate, Large Minibatch SGD, 2017, section 5.1."""
        self.requires_grad_(True)
        for module in self.modules():
            if isinstance(module, Bottleneck):
                nn.init.zeros_(module.bn3.weight)
        self.train(self.training)

    def frozen_parameters(self) -> int:
        """How many numbers do not learn."""
        return sum(parameter.numel() for parameter in self.parameters() if not parameter.requires_grad)


def load_image_weights(model: ImageModel, weights: str | Path) -> str:
    """Load pretrained weights below the head of `model`; say in a sentence which, and return "imagenet", "none" or
    the file's name.

    `weights` is "imagenet" (torchvision's IMAGENET1K_V2, from its cache or downloaded), "auto" (the same if it is
    there within 10 seconds, else none), "none", or the path of a ResNet50 state dict. Where weights stay random
    everything is unfrozen, for frozen noise teaches nothing.

    Raises UserError when the weights cannot be had or do not fit.
    """
    weights = str(weights)
    if weights in ("imagenet", "auto"):
        try:
            path = _imagenet_file(DOWNLOAD_SECONDS if weights == "auto" else None)
        except OSError as error:
            if weights == "imagenet":
                raise UserError(
                    f"the ImageNet weights cannot be downloaded ({first_line(error)}): put {_imagenet_cache().name} "
                    f"from {IMAGENET_URL} into {_imagenet_cache().parent}, or choose none."
                ) from None
            model.start_from_scratch()
            print("ImageModel starts from random weights, all of them learning: no ImageNet weights within 10 seconds.")
            return "none"
        _load_resnet_file(model, path)
        print(f"ImageModel starts from ImageNet weights, {model.frozen_parameters():,} of them frozen.")
        return "imagenet"
    if weights == "none":
        model.start_from_scratch()
        print("ImageModel starts from random weights, all of them learning.")
        return "none"
    _load_resnet_file(model, Path(weights))
    print(f"ImageModel starts from {Path(weights).name}, {model.frozen_parameters():,} of its weights frozen.")
    return Path(weights).name


def _imagenet_cache() -> Path:
    """Where torchvision keeps its ImageNet weights."""
    return Path(torch.hub.get_dir()) / "checkpoints" / Path(urlparse(IMAGENET_URL).path).name


def _imagenet_file(seconds: float | None) -> Path:
    """Path of the ImageNet weights, downloaded if need be; raises OSError when that fails or takes too long."""
    path = _imagenet_cache()
    if path.exists():
        return path
    failures: list[OSError] = []

    def download() -> None:
        try:
            _download(IMAGENET_URL, path, seconds)
        except OSError as error:
            failures.append(error)

    # a thread, since looking up the server's address obeys no time limit of ours
    thread = threading.Thread(target=download, daemon=True)
    thread.start()
    thread.join(seconds)
    if thread.is_alive():
        raise TimeoutError(f"not finished after {seconds} seconds")
    if failures:
        raise failures[0]
    return path


def _download(url: str, path: Path, seconds: float | None) -> None:
    """Download to `path`, whole or not at all; the name ends in the first digits of the content's sha256."""
    deadline = time.monotonic() + seconds if seconds else float("inf")
    path.parent.mkdir(parents=True, exist_ok=True)
    digest = hashlib.sha256()
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        partial = Path(folder) / path.name
        with urllib.request.urlopen(url, timeout=seconds or 60) as response, open(partial, "wb") as file:
            while block := response.read(1 << 20):
                if time.monotonic() > deadline:
                    raise TimeoutError(f"not finished after {seconds} seconds")
                digest.update(block)
                file.write(block)
        if not digest.hexdigest().startswith(path.stem.rpartition("-")[2]):
            raise OSError("what arrived is damaged")
        os.replace(partial, path)


def _load_resnet_file(model: ImageModel, path: Path) -> None:
    """Load a ResNet50 state dict, all but its head; raises UserError when it is missing, damaged or another network."""
    if not path.is_file():
        raise UserError(f"the image weights {path} are missing: give the path of a ResNet50 state dict, or none.")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        state = {name: tensor for name, tensor in state.items() if not name.startswith("fc.")}
        result = model.resnet.load_state_dict(state, strict=False)
    except Exception as error:  # a damaged file can fail in many ways, none of them harmful with weights_only
        raise UserError(
            f"the image weights {path} cannot be read as a ResNet50 state dict ({type(error).__name__}): "
            "delete the file and fetch it again, or give another."
        ) from None
    missing = [name for name in result.missing_keys if not name.startswith("fc.") and "num_batches" not in name]
    if missing or result.unexpected_keys:
        raise UserError(f"the image weights {path} are not those of a ResNet50: give another file, or none.")


def evaluation_transform(pixels: Tensor) -> Tensor:
    """Normalised photos (N, 3, S, S), float32 in channels_last, of pixels (N, S, S, 3), uint8."""
    return _normalised(pixels.permute(0, 3, 1, 2) / 255)


def train_transform(pixels: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """The same, each photo flipped, turned, zoomed, shifted and tinted at random, on the device of `pixels`.

    The random numbers are drawn on the CPU from `generator`, so that they are the same on every device.
    """
    random = torch.rand(len(pixels), 8, generator=generator).to(pixels.device)
    image = pixels.permute(0, 3, 1, 2) / 255  # (N, 3, S, S), 0 to 1

    flip = torch.where(random[:, 0] < 0.5, -1.0, 1.0)
    angle = (2 * random[:, 1] - 1) * math.radians(MAXIMUM_ANGLE)
    zoom = 1 / torch.lerp(torch.full_like(angle, ZOOM[0]), torch.full_like(angle, ZOOM[1]), random[:, 2])
    shift = (2 * random[:, 3:5] - 1) * 2 * MAXIMUM_SHIFT  # a photo is 2 wide in the coordinates of affine_grid
    cosine, sine = zoom * torch.cos(angle), zoom * torch.sin(angle)
    rows = [torch.stack([flip * cosine, -sine, shift[:, 0]], 1), torch.stack([flip * sine, cosine, shift[:, 1]], 1)]
    grid = F.affine_grid(torch.stack(rows, 1), list(image.shape), align_corners=False)
    image = F.grid_sample(image, grid, align_corners=False)  # outside is black, as the border of the photos is

    brightness, contrast, saturation = (1 + (2 * random[:, 5:8] - 1) * MAXIMUM_TINT).T[:, :, None, None, None]
    image = image * brightness
    grey = image.mean(1, keepdim=True)
    image = torch.lerp(grey, image, saturation)
    image = torch.lerp(grey.mean((2, 3), keepdim=True), image, contrast)
    return _normalised(image.clamp(0, 1))


def _normalised(image: Tensor) -> Tensor:
    """Photos (N, 3, S, S), 0 to 1, on the scale that torchvision's weights expect."""
    mean = torch.tensor(IMAGENET_MEAN, device=image.device)[:, None, None]
    std = torch.tensor(IMAGENET_STD, device=image.device)[:, None, None]
    return ((image - mean) / std).contiguous(memory_format=torch.channels_last)
