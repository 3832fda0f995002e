"""Where ImageModel's first weights come from: torchvision's cache, a server, a file, or random initialisation."""

import socket
import threading

import numpy as np
import pandas as pd
import pytest
import torch
from torchvision.models import ResNet50_Weights, resnet50

from marketplace.data_folder import UserError
from marketplace.photos import Photos
from models import ImageModel, image_weights
from models.image_weights import PRETRAINED_SIZE, available_weights, load_image_weights, photo_size
from models.training import Recipe, TrainingOptions, train_image_model

CACHED_NAME = "resnet50-11ad3fa6.pth"
IMAGENET = ResNet50_Weights.IMAGENET1K_V2.value


@pytest.fixture(scope="module")
def state(tmp_path_factory):
    """A ResNet50's file with random weights, as torchvision would give it."""
    torch.manual_seed(1)
    path = tmp_path_factory.mktemp("weights") / "state.pth"
    torch.save(resnet50(weights=None).state_dict(), path)
    return path


@pytest.fixture
def cache(monkeypatch, tmp_path):
    """torchvision's cache folder, empty, and an address at which no server answers."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.delenv("IMAGE_WEIGHTS", raising=False)
    monkeypatch.setattr(IMAGENET, "url", f"http://127.0.0.1:9/models/{CACHED_NAME}")
    folder = tmp_path / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    return folder


def has_body_of(model: ImageModel, path) -> bool:
    state = torch.load(path, weights_only=True)
    own = model.resnet.state_dict()
    return all(torch.equal(own[name], tensor) for name, tensor in state.items() if not name.startswith("fc."))


@pytest.mark.parametrize("weights", ["imagenet", "auto"])
def test_imagenet_weights_from_torchvisions_cache(weights, cache, state, capsys):
    assert IMAGENET.url.endswith(f"/{CACHED_NAME}")
    (cache / CACHED_NAME).symlink_to(state)
    model = ImageModel(3)
    assert load_image_weights(model, weights) == "imagenet"
    assert has_body_of(model, state)
    assert model.frozen_parameters() == 670_400
    assert model.resnet.fc[-1].out_features == 3
    assert capsys.readouterr().out == "ImageModel: imagenet weights, 670,400 parameters are frozen.\n"


def test_a_file_by_its_path(state, capsys):
    model = ImageModel(3)
    assert load_image_weights(model, state) == "state.pth"
    assert has_body_of(model, state) and model.frozen_parameters() == 670_400
    assert "state.pth" in capsys.readouterr().out


def test_auto_falls_back_to_random_initialisation_and_says_why(cache, capsys):
    model = ImageModel(3)
    assert load_image_weights(model, "auto") == "none"
    assert model.frozen_parameters() == 0 and model.resnet.bn1.training
    lines = capsys.readouterr().out.splitlines()
    assert "the image weights imagenet cannot be loaded (URLError)" in lines[-2]
    assert lines[-1] == "ImageModel: random initialisation, every layer is trained."
    assert not any(cache.iterdir())


def test_auto_obeys_the_environment_which_changes_nothing_else(cache, state, monkeypatch, capsys):
    (cache / CACHED_NAME).symlink_to(state)
    monkeypatch.setenv("IMAGE_WEIGHTS", "none")
    assert available_weights("auto") == "none" and available_weights("imagenet") == "imagenet"
    monkeypatch.setenv("IMAGE_WEIGHTS", str(state))
    assert load_image_weights(ImageModel(3), "auto") == "state.pth"
    monkeypatch.setenv("IMAGE_WEIGHTS", "")
    assert available_weights("auto") == "imagenet"
    assert "cannot" not in capsys.readouterr().out


def test_photos_have_the_size_that_suits_the_weights_or_the_one_that_is_given():
    assert photo_size("none") == 64
    assert photo_size("imagenet") == photo_size("state.pth") == PRETRAINED_SIZE > 64
    assert photo_size("none", 32) == photo_size("imagenet", 32) == 32


def test_auto_gives_up_when_the_server_sends_nothing(cache, monkeypatch):
    monkeypatch.setattr(image_weights, "SILENCE_SECONDS", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as server:
        monkeypatch.setattr(IMAGENET, "url", f"http://127.0.0.1:{server.getsockname()[1]}/{CACHED_NAME}")
        found: list = []
        waiting = threading.Thread(target=lambda: found.append(available_weights("auto")), daemon=True)
        waiting.start()
        waiting.join(60)
    assert found == ["none"] and not any(cache.iterdir())


def test_no_sentence_has_the_password_of_a_proxy(cache, monkeypatch):
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("urllib.request._opener", None)  # the one of an earlier test has that test's proxies
    monkeypatch.setenv("http_proxy", "http://user:secret@proxy:80a")
    with pytest.raises(UserError, match=r"cannot be loaded[^\n]*, or none\.$") as raised:
        load_image_weights(ImageModel(3), "imagenet")
    assert "secret" not in str(raised.value)


def damaged(state, path):
    path.write_bytes(state.read_bytes()[:1000])


def other_shapes(state, path):
    torch.save({"conv1.weight": torch.zeros(2, 3, 7, 7)}, path)


def other_content(state, path):
    torch.save(torch.zeros(3), path)


@pytest.mark.parametrize("make", [damaged, other_shapes, other_content])
def test_a_file_that_does_not_fit_is_one_sentence(make, state, tmp_path):
    path = tmp_path / "weights.pth"
    make(state, path)
    with pytest.raises(UserError, match=r"the image weights .*weights\.pth (cannot|do not)[^\n]*\.$"):
        load_image_weights(ImageModel(3), path)


def test_photos_that_are_too_small_for_the_recipe_are_one_sentence():
    products = pd.DataFrame({"split": ["train"] * 4 + ["validation"] * 2, "category": list("ababab")})
    products["main_category_code"] = products.index % 2
    photos = Photos(np.zeros((6, 32, 32, 3), np.uint8), list("abcdef"), np.arange(6), {})
    recipe = Recipe(epochs=2, batch_size=4, learning_rate=1e-4, scales=(0.5, 1.0))
    options = TrainingOptions(device=torch.device("cpu"))
    with pytest.raises(UserError, match=r"^photos of 16 pixels are too small to train on: [^\n]*\.$"):
        train_image_model(products, photos, ["A", "B"], image_weights="none", recipe=recipe, options=options)
