"""The three networks: their layers, what is frozen in them, and what is done to photos before them."""

from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torchinfo import summary

from models import CombinedModel, ImageModel, TextModel, training
from models.networks import IMAGENET_MEAN, IMAGENET_STD, evaluation_transform
from models.training import train_transform

ARCHITECTURE = Path(__file__).with_name("architecture.txt")


@pytest.fixture(scope="module")
def whole() -> CombinedModel:
    return CombinedModel()


def test_layers_are_those_of_the_table_to_the_character(whole):
    assert str(summary(whole, depth=4, verbose=0)) == ARCHITECTURE.read_text(encoding="utf-8").rstrip("\n")


def test_a_batch_of_16_texts_in_bfloat16():
    """On CPUs with AMX the product of 16 rows of 98,304 bfloat16 numbers ends the process (SIGFPE)."""
    model, text = TextModel(), torch.randn(16, 50, 768)
    with torch.autocast("cpu", torch.bfloat16):
        logits = model(text)
        torch.testing.assert_close(logits[:5], model(text[:5]))
    logits.float().mean().backward()


def test_any_number_of_classes_and_any_size_of_photos():
    model = CombinedModel(num_classes=5).eval()
    assert model(torch.randn(2, 50, 768), torch.randn(2, 3, 64, 48)).shape == (2, 5)


def test_a_constructor_gives_random_weights(monkeypatch, tmp_path):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    first, second = ImageModel(2), ImageModel(2)
    assert not torch.equal(first.resnet.conv1.weight, second.resnet.conv1.weight)
    assert not any(tmp_path.iterdir())


def test_the_first_47_tensors_are_frozen(whole):
    names = [name for name, parameter in whole.image_model.resnet.named_parameters() if not parameter.requires_grad]
    assert (len(names), names[0], names[-1]) == (47, "conv1.weight", "layer2.1.bn1.weight")
    assert whole.image_model.frozen_parameters() == 670_400
    assert ImageModel(2, frozen_tensors=0).frozen_parameters() == 0


def test_batch_normalisation_of_a_pretrained_network_keeps_its_statistics_while_its_weights_learn(whole):
    model = whole.image_model
    whole.train()
    norms = {name: module for name, module in model.resnet.named_modules() if isinstance(module, nn.BatchNorm2d)}
    still = {name for name, module in norms.items() if not module.training}
    assert still == set(norms)
    before = {name: tensor.clone() for name, tensor in model.resnet.state_dict().items()}

    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], 0.1)
    F.cross_entropy(model(torch.randn(4, 3, 32, 32)), torch.tensor([0, 1, 2, 3])).backward()
    optimizer.step()

    after = model.resnet.state_dict()
    for name in still:
        for buffer in ("running_mean", "running_var", "num_batches_tracked"):
            assert torch.equal(before[f"{name}.{buffer}"], after[f"{name}.{buffer}"])
    assert not torch.equal(before["layer2.1.bn1.bias"], after["layer2.1.bn1.bias"])
    assert torch.equal(before["layer2.1.bn1.weight"], after["layer2.1.bn1.weight"])
    assert not torch.equal(before["layer4.0.bn1.weight"], after["layer4.0.bn1.weight"])


def test_the_frozen_layers_leave_nothing_to_go_back_through(whole):
    with_gradient = {}

    def note(name):
        return lambda module, inputs, output: with_gradient.update({name: output.requires_grad})

    resnet = whole.image_model.train().resnet
    hooks = [resnet.layer2[place].register_forward_hook(note(place)) for place in (0, 1)]
    whole.image_model(torch.randn(2, 3, 64, 64))
    for hook in hooks:
        hook.remove()
    assert with_gradient == {0: False, 1: True}


def test_from_scratch_everything_learns_and_normalises():
    model = ImageModel(2)
    model.start_from_scratch()
    assert all(parameter.requires_grad for parameter in model.parameters())
    assert all(module.training for module in model.modules())
    assert not any(module.training for module in model.eval().modules())


@pytest.fixture
def by_hand() -> CombinedModel:
    """Branches that say what they are given, a last layer with weights of ours."""
    model = CombinedModel(nn.Identity(), nn.Identity(), num_classes=2)
    with torch.no_grad():
        weights = {"0.weight": torch.tensor([[1.0, 2, 3, 4], [5, 6, 7, 8]]), "0.bias": torch.tensor([0.5, -0.5])}
        model.fusion.load_state_dict(weights)
        model.mean_text_output.copy_(torch.tensor([1.0, 0]))
        model.mean_image_output.copy_(torch.tensor([0.0, 2]))
    return model


def test_the_last_layer_reads_the_text_first_and_then_the_photo(by_hand):
    logits = by_hand(torch.tensor([[1.0, 0]]), torch.tensor([[0.0, 1]]))
    assert logits.tolist() == [[1 + 4 + 0.5, 5 + 8 - 0.5]]


def test_a_missing_input_counts_as_the_mean_of_its_branch(by_hand):
    text, photo = torch.tensor([[3.0, 1], [0, 1]]), torch.tensor([[2.0, 5], [1, 1]])
    assert torch.equal(by_hand(text, None), by_hand(text, torch.tensor([[0.0, 2], [0, 2]])))
    assert torch.equal(by_hand(None, photo), by_hand(torch.tensor([[1.0, 0], [1, 0]]), photo))
    with pytest.raises(ValueError, match="a text or a photo"):
        by_hand(None, None)


@pytest.fixture
def pixels() -> torch.Tensor:
    return torch.randint(0, 256, (6, 16, 16, 3), dtype=torch.uint8)


def shown(images: torch.Tensor) -> torch.Tensor:
    """Normalised photos (N, 3, S, S) back as (N, S, S, 3), 0 to 255."""
    mean, std = torch.tensor(IMAGENET_MEAN), torch.tensor(IMAGENET_STD)
    return (images.permute(0, 2, 3, 1) * std + mean) * 255


def test_evaluation_transform_only_normalises(pixels):
    images = evaluation_transform(pixels)
    assert images.shape == (6, 3, 16, 16) and images.dtype == torch.float32
    assert images.is_contiguous(memory_format=torch.channels_last)
    assert torch.allclose(shown(images), pixels.float(), atol=1e-3)


def test_train_transform_follows_its_generator(pixels):
    first, same = (train_transform(pixels, torch.Generator().manual_seed(1)) for _ in range(2))
    other = train_transform(pixels, torch.Generator().manual_seed(2))
    assert torch.equal(first, same) and not torch.equal(first, other)
    assert first.shape == (6, 3, 16, 16)
    assert shown(first).min() > -0.1 and shown(first).max() < 255.1


def test_train_transform_treats_each_photo_of_a_batch_by_itself(pixels):
    images = train_transform(pixels[:1].expand(6, -1, -1, -1))
    assert all(not torch.equal(images[0], image) for image in images[1:])


def test_train_transform_mirrors_photos(pixels, monkeypatch):
    for name, nothing in (("MAXIMUM_ANGLE", 0), ("MAXIMUM_SHIFT", 0), ("MAXIMUM_TINT", 0), ("ZOOM", (1, 1))):
        monkeypatch.setattr(training, name, nothing)
    images = shown(train_transform(pixels[:1].expand(40, -1, -1, -1)))
    as_is = [torch.allclose(image, pixels[0].float(), atol=0.1) for image in images]
    mirrored = [torch.allclose(image, pixels[0].flip(1).float(), atol=0.1) for image in images]
    assert all(a or b for a, b in zip(as_is, mirrored, strict=True))
    assert 5 < sum(mirrored) < 35


def test_what_train_transform_brings_in_from_outside_is_black(monkeypatch):
    monkeypatch.setattr(training, "ZOOM", (0.5, 0.5))
    images = shown(train_transform(torch.full((20, 32, 32, 3), 255, dtype=torch.uint8)))
    corners = images[:, [0, 0, -1, -1], [0, -1, 0, -1]]
    assert corners.max() < 60 < images[:, 16, 16].min()
