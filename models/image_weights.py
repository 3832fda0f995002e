"""The initial weights of ImageModel: pretrained ones or random initialisation, and the photo size that suits them."""

import os
import socket
import sys
from pathlib import Path

import torch
from torch import Tensor
from torchvision.models import ResNet50_Weights

from marketplace.data_folder import UserError
from marketplace.photos import PHOTO_SIZE
from models.networks import ImageModel

PRETRAINED_SIZE = 224  # side in pixels of the photos that pretrained weights have learned from
SILENCE_SECONDS = 10  # without an answer from the server of the ImageNet weights before a download is given up


def available_weights(weights: str | Path) -> str | Path:
    """What "auto" stands for: the environment variable IMAGE_WEIGHTS if it is set, else "imagenet" or, when these
    weights cannot be loaded, "none", which is printed with the reason. All other `weights` are returned as they are."""
    if weights == "auto":
        weights = os.environ.get("IMAGE_WEIGHTS") or "auto"
    if weights != "auto":
        return weights
    try:
        _pretrained_body("imagenet")
    except UserError as error:
        print(error)
        return "none"
    return "imagenet"


def initialisation(weights: str | Path) -> str:
    """Initial `weights`, which are not "auto", in words."""
    return "random initialisation" if weights == "none" else f"{Path(weights).name} weights"


def photo_size(weights: str | Path, size: int = 0) -> int:
    """`size`, or for 0 the side in pixels of the photos that suit the initial `weights`, which are not "auto"."""
    return size or (PHOTO_SIZE if weights == "none" else PRETRAINED_SIZE)


def load_image_weights(model: ImageModel, weights: str | Path) -> str:
    """Load pretrained weights below the head of `model`, and print which; returns "imagenet", "none" or the file's
    name.

    `weights` is "imagenet" (torchvision's IMAGENET1K_V2, from its cache or downloaded), "none", the path of a ResNet50
    state dict, or "auto" (see `available_weights`). With random initialisation every layer is trained, since frozen
    random layers are of no use.
    """
    weights = available_weights(weights)
    name = Path(weights).name
    if weights == "none":
        model.start_from_scratch()
        print("ImageModel: random initialisation, every layer is trained.")
    else:
        try:
            model.resnet.load_state_dict(_pretrained_body(weights) | model.resnet.fc.state_dict(prefix="fc."))
        except RuntimeError:
            raise UserError(f"the image weights {weights} do not fit ResNet50: give another file, or none.") from None
        print(f"ImageModel: {name} weights, {model.frozen_parameters():,} parameters are frozen.")
    return name


def _pretrained_body(weights: str | Path) -> dict[str, Tensor]:
    """The tensors of a pretrained ResNet50 below its last layer."""
    imagenet, timeout = ResNet50_Weights.IMAGENET1K_V2, socket.getdefaulttimeout()
    socket.setdefaulttimeout(SILENCE_SECONDS)  # of each read; torchvision sets none
    try:
        if weights == "imagenet":
            state = imagenet.get_state_dict(weights_only=True, check_hash=True, progress=sys.stderr.isatty())
        else:
            state = torch.load(weights, "cpu", weights_only=True)
        return {name: tensor for name, tensor in state.items() if not name.startswith("fc.")}
    except Exception as error:  # of the network, the disk, or the content; its message may hold a proxy's password
        raise UserError(
            f"the image weights {weights} cannot be loaded ({type(error).__name__}): give the file of a ResNet50's "
            f"state dict, such as {imagenet.url}, or none."
        ) from None
    finally:
        socket.setdefaulttimeout(timeout)
