"""The initial weights of ImageModel: pretrained ones or random initialisation, and the photo size that suits them."""

import contextlib
import io
import os
import socket
import sys
from http.client import InvalidURL
from pathlib import Path

import torch
from torch import Tensor
from torchvision.models import ResNet50_Weights

from marketplace.data_folder import UserError, first_line
from models.networks import ImageModel

RANDOM_SIZE = 64  # side of the photos in pixels with random initialisation
PRETRAINED_SIZE = 224  # and with pretrained weights, which have learned from photos of that size
SILENCE_SECONDS = 10  # without an answer from the server of the ImageNet weights before a download is given up


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
