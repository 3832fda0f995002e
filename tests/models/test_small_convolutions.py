"""Small convolutions as matrix products are the same convolutions."""

import contextlib

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from models import ImageModel
from models.device import autocast
from models.small_convolutions import SmallConvolutions, small_convolutions

CPU = torch.device("cpu")


def output_and_gradients(layer: nn.Module, image: torch.Tensor, context) -> list[torch.Tensor]:
    """What a layer makes of an image, and the gradients of the image and the layer's parameters."""
    image = image.clone().requires_grad_(True)
    layer.zero_grad()
    with context:
        output = layer(image)
    weights = torch.linspace(-1, 2, output.numel(), dtype=output.dtype).view_as(output)
    (output * weights).sum().backward()
    return [output, *(tensor.grad.clone() for tensor in (image, *layer.parameters()) if tensor.grad is not None)]


def linear_calls(monkeypatch) -> list:
    """A list that grows by one whenever a matrix product takes the place of a convolution."""
    calls, linear = [], F.linear

    def counted(*arguments):
        calls.append(1)
        return linear(*arguments)

    monkeypatch.setattr(F, "linear", counted)
    return calls


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize(
    ("layer", "size"),
    [
        (nn.Conv2d(5, 7, 1), (4, 4)),
        (nn.Conv2d(5, 7, 1, stride=2, bias=False), (8, 7)),
        (nn.Conv2d(5, 7, 3, padding=1), (2, 3)),
        (nn.Conv2d(5, 7, 3, stride=2, padding=1, bias=False), (8, 8)),
        (nn.Conv2d(5, 7, (2, 3), stride=(1, 2), padding=(1, 0)), (3, 7)),
        (nn.Conv2d(5, 7, 3), (3, 3)),
    ],
)
def test_the_same_output_and_gradients(layer, size, memory_format, monkeypatch):
    layer = layer.double()
    image = torch.randn(3, 5, *size, dtype=torch.float64).contiguous(memory_format=memory_format)
    expected = output_and_gradients(layer, image, contextlib.nullcontext())
    calls = linear_calls(monkeypatch)
    found = output_and_gradients(layer, image, SmallConvolutions())
    assert calls
    for mine, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(mine, theirs)


@pytest.mark.parametrize(
    ("layer", "size"),
    [
        (nn.Conv2d(4, 4, 1), (5, 5)),
        (nn.Conv2d(4, 4, 3, padding="same"), (4, 4)),
        (nn.Conv2d(4, 4, 3, padding=2, dilation=2), (4, 4)),
        (nn.Conv2d(4, 4, 3, padding=1, groups=2), (4, 4)),
    ],
)
def test_other_convolutions_stay_as_they_are(layer, size, monkeypatch):
    image = torch.randn(2, 4, *size)
    expected = output_and_gradients(layer, image, contextlib.nullcontext())
    calls = linear_calls(monkeypatch)
    found = output_and_gradients(layer, image, SmallConvolutions())
    assert not calls
    for mine, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=0, atol=0)


@pytest.mark.parametrize("side", [1, 2])
def test_an_image_too_small_for_the_kernel_is_refused_as_ever(side):
    with SmallConvolutions(), pytest.raises(RuntimeError, match=r"[Kk]ernel"):
        nn.Conv2d(1, 1, 3)(torch.zeros(1, 1, side, side))


def test_an_image_model_says_the_same():
    torch.manual_seed(0)
    model = ImageModel(3).eval()
    photos = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        expected = model(photos)
        with SmallConvolutions():
            found = model(photos)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_they_are_used_where_they_are_faster():
    assert isinstance(small_convolutions(CPU), contextlib.nullcontext)  # float32
    with torch.autocast("cpu", torch.bfloat16):
        assert isinstance(small_convolutions(CPU), SmallConvolutions)
        assert isinstance(small_convolutions(torch.device("cuda")), contextlib.nullcontext)
    with autocast(CPU), small_convolutions(CPU):
        assert nn.Conv2d(1, 1, 1)(torch.zeros(1, 1, 2, 2)).shape == (1, 1, 2, 2)
