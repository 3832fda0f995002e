"""Convolutions over few pixels as matrix products, which train faster on a CPU with bfloat16 instructions.

The last stages of a ResNet have outputs of 4 x 4 and 2 x 2 pixels for a photo of 64. There oneDNN's gradient of a
convolution takes longer than a matrix product; with more pixels, in float32 and without gradients it is the faster way
(`benchmarks/training.py` measures an epoch with and without).
"""

import contextlib

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

MOST_PIXELS = 16  # of a convolution's output


class SmallConvolutions(TorchFunctionMode):
    """Within this context `nn.Conv2d` with at most 16 pixels of output is a matrix product, unless it is grouped or
    dilated. Models and their weights are not changed."""

    def __torch_function__(self, function, types, arguments=(), options=None):
        options = options or {}
        if function is F.conv2d:
            return _convolution(*arguments, **options)
        return function(*arguments, **options)


def small_convolutions(device: torch.device) -> contextlib.AbstractContextManager:
    """`SmallConvolutions` where they are faster: on a CPU, under autocast to bfloat16."""
    faster = device.type == "cpu" and torch.is_autocast_enabled("cpu")
    return SmallConvolutions() if faster else contextlib.nullcontext()


def _convolution(image: Tensor, weight: Tensor, bias=None, stride=1, padding=0, dilation=1, groups=1) -> Tensor:
    """`F.conv2d`, as a matrix product where the output is small and neither dilated nor grouped."""
    pairs = isinstance(stride, tuple) and isinstance(padding, tuple)
    if not pairs or dilation not in (1, (1, 1)) or groups != 1 or image.ndim != 4:
        return F.conv2d(image, weight, bias, stride, padding, dilation, groups)
    sizes = zip(image.shape[2:], weight.shape[2:], stride, padding, strict=True)
    height, width = ((size + 2 * border - kernel) // step + 1 for size, kernel, step, border in sizes)
    if min(height, width) < 1 or height * width > MOST_PIXELS:
        return F.conv2d(image, weight, bias, stride, padding, dilation, groups)
    pixels = image.permute(0, 2, 3, 1)  # (N, H, W, C), the memory layout of channels_last
    if any(padding):
        pixels = F.pad(pixels, (0, 0, padding[1], padding[1], padding[0], padding[0]))
    bottom, right = (height - 1) * stride[0] + 1, (width - 1) * stride[1] + 1
    neighbours = [
        pixels[:, row : row + bottom : stride[0], column : column + right : stride[1]]
        for row in range(weight.shape[2])
        for column in range(weight.shape[3])
    ]
    patches = neighbours[0] if len(neighbours) == 1 else torch.cat(neighbours, dim=3)  # (N, height, width, K * C)
    return F.linear(patches, weight.permute(0, 2, 3, 1).flatten(1), bias).permute(0, 3, 1, 2)
