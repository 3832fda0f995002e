"""ImageModel: the category of a product from one photo; its pretrained weights, and the transforms of its input."""

import contextlib
import io
import math
import os
import socket
import sys
from http.client import InvalidURL
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models import ResNet50_Weights, resnet50
from torchvision.models.resnet import Bottleneck
from torchvision.transforms.v2.functional import normalize

from marketplace.data_folder import UserError, first_line

FROZEN_TENSORS = 47  # conv1 to layer2.1.bn1.weight
RANDOM_SIZE = 64  # side of the photos in pixels with random initialisation
PRETRAINED_SIZE = 224  # and with pretrained weights, which have learned from photos of that size
IMAGENET_MEAN = (0.485, 0.456, 0.406)  # of red, green and blue in 0 to 1, as torchvision's weights expect them
IMAGENET_STD = (0.229, 0.224, 0.225)
DROPOUT = 0.2  # of the head
MAXIMUM_ANGLE = 5  # degrees, either way
ZOOM = (0.9, 1.1)  # smallest and largest factor
MAXIMUM_SHIFT = 0.1  # of the photo's side, either way
MAXIMUM_TINT = 0.1  # largest change of the factors for brightness, contrast and saturation
SILENCE_SECONDS = 10  # without an answer from the server of the ImageNet weights before a download is given up


def make_head(features: int, num_classes: int) -> nn.Sequential:
    """The layers from the features (N, features) of a pretrained network to logits (N, num_classes)."""
    head = nn.Sequential(
        nn.Linear(features, 512),
        nn.ReLU(),
        nn.Dropout(DROPOUT),
        nn.Linear(512, 256),
        nn.ReLU(),
        nn.Linear(256, num_classes),
    )
    for layer in head:
        if isinstance(layer, nn.Linear):  # PyTorch's default shrinks the activations from layer to layer
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            nn.init.zeros_(layer.bias)
    return head


class ImageModel(nn.Module):
    """ResNet50 with a head of its own; the first `frozen_tensors` of its parameter tensors are not trained.

    Source: He et al., Deep Residual Learning for Image Recognition, 2015, https://arxiv.org/abs/1512.03385.
    """

    def __init__(self, num_classes: int = 13, frozen_tensors: int = FROZEN_TENSORS):
        super().__init__()
        self.resnet = resnet50(weights=None)
        self.resnet.fc = make_head(self.resnet.fc.in_features, num_classes)
        for parameter in list(self.resnet.parameters())[:frozen_tensors]:
            parameter.requires_grad_(False)
        self.train()

    def train(self, mode: bool = True) -> "ImageModel":
        """Set training mode. Batch normalisation keeps its statistics while layers are frozen: they belong to the
        pretrained weights, and in small batches of few photos they would be worse."""
        super().train(mode)
        if self.frozen_parameters():
            for module in self.modules():
                if isinstance(module, nn.BatchNorm2d):
                    module.eval()
        return self

    def forward(self, image: Tensor) -> Tensor:
        """Logits (N, num_classes) of normalised photos (N, 3, H, W), float."""
        return self.resnet(image)

    def start_from_scratch(self) -> None:
        """Unfreeze every parameter, and start each residual block near the identity, which trains better from random
        initialisation: its last scale is the inverse square root of the number of blocks. With 0, as is common with
        SGD, AdamW's small steps need hundreds of steps to let the blocks take part.

        Source: De and Smith, Batch Normalization Biases Residual Blocks, 2020, https://arxiv.org/abs/2002.10444.
        """
        self.requires_grad_(True)
        blocks = [module for module in self.modules() if isinstance(module, Bottleneck)]
        for block in blocks:
            nn.init.constant_(block.bn3.weight, len(blocks) ** -0.5)
        self.train(self.training)

    def frozen_parameters(self) -> int:
        """The number of frozen parameters."""
        return sum(parameter.numel() for parameter in self.parameters() if not parameter.requires_grad)


def available_weights(weights: str | Path) -> str | Path:
    """What "auto" stands for: the environment variable IMAGE_WEIGHTS if it is set, else "imagenet" or, when that cannot
    be had, "none", which is printed with the reason. All other `weights` are returned as they are."""
    if weights == "auto":
        weights = os.environ.get("IMAGE_WEIGHTS") or "auto"
    if weights != "auto":
        return weights
    try:
        _imagenet_state()
    except UserError as error:
        print(error)
        return "none"
    return "imagenet"


def initialisation(weights: str | Path) -> str:
    """Initial `weights`, which are not "auto", in words."""
    return "random initialisation" if weights == "none" else f"{Path(weights).name} weights"


def photo_size(weights: str | Path, size: int = 0) -> int:
    """`size`, or for 0 the side in pixels of the photos that suit the initial `weights`, which are not "auto"."""
    return size or (RANDOM_SIZE if weights == "none" else PRETRAINED_SIZE)


def load_image_weights(model: ImageModel, weights: str | Path) -> str:
    """Load pretrained weights below the head of `model`, and print which; returns "imagenet", "none" or the file's
    name.

    `weights` is "imagenet" (torchvision's IMAGENET1K_V2, from its cache or downloaded), "none", the path of a ResNet50
    state dict, or "auto" (see `available_weights`). With random initialisation every layer is trained, since random
    layers that stay frozen are of no use.

    Raises UserError when the weights cannot be had or do not fit.
    """
    weights = available_weights(weights)
    if weights == "none":
        model.start_from_scratch()
        print("ImageModel: random initialisation, every layer is trained.")
        return "none"
    try:
        state = _imagenet_state() if weights == "imagenet" else torch.load(weights, "cpu", weights_only=True)
        body = {name: tensor for name, tensor in state.items() if not name.startswith("fc.")}
        head = {name: tensor for name, tensor in model.resnet.state_dict().items() if name.startswith("fc.")}
        model.resnet.load_state_dict(body | head)
    except UserError:
        raise
    except Exception as error:  # a damaged file fails in many ways, all of them harmless with weights_only
        raise UserError(
            f"the image weights {weights} cannot be read as a ResNet50 state dict ({type(error).__name__}): "
            "give another file, or none."
        ) from None
    name = Path(weights).name
    print(f"ImageModel: {name} weights, {model.frozen_parameters():,} parameters are frozen.")
    return name


def _imagenet_state() -> dict[str, Tensor]:
    """torchvision's ImageNet weights, from its cache or downloaded."""
    weights = ResNet50_Weights.IMAGENET1K_V2
    timeout = socket.getdefaulttimeout()
    socket.setdefaulttimeout(SILENCE_SECONDS)  # torchvision sets none; this one is for each read, not for the whole
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            return weights.get_state_dict(weights_only=True, check_hash=True, progress=sys.stderr.isatty())
    except Exception as error:  # of the network, the disk, a wrong hash, or a damaged file in the cache
        reason, file = first_line(error), Path(torch.hub.get_dir()) / "checkpoints" / Path(weights.url).name
        if isinstance(error, ValueError | InvalidURL) and not file.is_file():  # which may quote a proxy's password
            reason = "the environment has a proxy setting that cannot be parsed"
        raise UserError(
            f"the ImageNet weights cannot be loaded ({reason}): put {file.name} from {weights.url} into {file.parent}, "
            "or choose none."
        ) from None
    finally:
        socket.setdefaulttimeout(timeout)


def evaluation_transform(pixels: Tensor) -> Tensor:
    """Normalised photos (N, 3, S, S), float32 in channels_last, of pixels (N, S, S, 3), uint8."""
    return _normalised(pixels.permute(0, 3, 1, 2) / 255)


def train_transform(pixels: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """The same, each photo flipped, rotated, zoomed, shifted and tinted at random, on the device of `pixels`.

    The random numbers are drawn on the CPU from `generator`, so that they are the same on every device. torchvision's
    transforms draw once per batch; applied to each photo they take 0.77 ms a photo, these 0.13 ms (64 px, one core).
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
    image = F.grid_sample(image, grid, align_corners=False)  # black outside, as the borders of the photos

    brightness, contrast, saturation = (1 + (2 * random[:, 5:8] - 1) * MAXIMUM_TINT).T[:, :, None, None, None]
    image = image * brightness
    grey = image.mean(1, keepdim=True)
    image = torch.lerp(grey, image, saturation)
    image = torch.lerp(grey.mean((2, 3), keepdim=True), image, contrast)
    return _normalised(image.clamp(0, 1))


def _normalised(image: Tensor) -> Tensor:
    """Photos (N, 3, S, S), 0 to 1, on the scale that torchvision's weights expect."""
    return normalize(image, IMAGENET_MEAN, IMAGENET_STD).contiguous(memory_format=torch.channels_last)
