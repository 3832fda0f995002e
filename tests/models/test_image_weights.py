"""Where ImageModel's first weights come from: torchvision's cache, a server, a file, or random initialisation."""

import hashlib
import socket
import threading
import time
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pandas as pd
import pytest
import torch
from torchvision.models import ResNet50_Weights, resnet50

from marketplace.data_folder import UserError
from marketplace.photos import Photos
from models import ImageModel
from models import networks as image_model
from models.image_weights import PRETRAINED_SIZE, available_weights, load_image_weights, photo_size
from models.predict import load_checkpoint
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


@pytest.fixture
def serve(monkeypatch):
    """Serve bytes as the ImageNet weights in ten parts, with a pause before each."""
    servers = []

    def start(content: bytes, pause: float = 0) -> str:
        size = -(-len(content) // 10)

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                self.send_response(200)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                try:
                    for first in range(0, len(content), size):
                        time.sleep(pause)
                        self.wfile.write(content[first : first + size])
                except (BrokenPipeError, ConnectionResetError):
                    self.close_connection = True

            def log_message(self, *args):
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        servers.append(server)
        name = f"resnet50-{hashlib.sha256(content).hexdigest()[:8]}.pth"
        monkeypatch.setattr(IMAGENET, "url", f"http://127.0.0.1:{server.server_port}/{name}")
        return name

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def has_body_of(model: ImageModel, path) -> bool:
    state = torch.load(path, weights_only=True)
    own = model.resnet.state_dict()
    return all(torch.equal(own[name], tensor) for name, tensor in state.items() if not name.startswith("fc."))


@pytest.mark.parametrize("weights", ["imagenet", "auto"])
def test_imagenet_weights_from_torchvisions_cache(weights, cache, state, capsys):
    (cache / CACHED_NAME).symlink_to(state)
    model = ImageModel(3)
    assert load_image_weights(model, weights) == "imagenet"
    assert has_body_of(model, state)
    assert model.frozen_parameters() == 670_400
    assert model.resnet.fc[-1].out_features == 3
    assert capsys.readouterr().out == "ImageModel: imagenet weights, 670,400 parameters are frozen.\n"


def test_the_name_in_the_cache_is_torchvisions_own():
    assert IMAGENET.url.endswith(f"/{CACHED_NAME}")


def test_a_file_by_its_path(state, capsys):
    model = ImageModel(3)
    assert load_image_weights(model, state) == "state.pth"
    assert has_body_of(model, state) and model.frozen_parameters() == 670_400
    assert "state.pth" in capsys.readouterr().out


def test_with_random_initialisation_nothing_is_frozen(capsys):
    model = ImageModel(3)
    assert load_image_weights(model, "none") == "none"
    assert model.frozen_parameters() == 0 and model.resnet.bn1.training
    assert capsys.readouterr().out == "ImageModel: random initialisation, every layer is trained.\n"


def test_auto_falls_back_to_random_initialisation_and_says_why(cache, capsys):
    model = ImageModel(3)
    assert load_image_weights(model, "auto") == "none"
    assert model.frozen_parameters() == 0
    first, second = capsys.readouterr().out.splitlines()
    assert "cannot be loaded (<urlopen error [Errno 111] Connection refused>)" in first
    assert second == "ImageModel: random initialisation, every layer is trained."
    assert not any(cache.iterdir())


def test_auto_obeys_the_environment_which_changes_nothing_else(cache, state, monkeypatch, capsys):
    (cache / CACHED_NAME).symlink_to(state)
    monkeypatch.setenv("IMAGE_WEIGHTS", "none")
    assert load_image_weights(ImageModel(3), "auto") == "none"
    assert load_image_weights(ImageModel(3), "imagenet") == "imagenet"
    monkeypatch.setenv("IMAGE_WEIGHTS", str(state))
    assert load_image_weights(ImageModel(3), "auto") == "state.pth"
    for value in ("", "auto"):
        monkeypatch.setenv("IMAGE_WEIGHTS", value)
        assert load_image_weights(ImageModel(3), "auto") == "imagenet"
    assert "cannot" not in capsys.readouterr().out


def test_photos_have_the_size_that_suits_the_weights_or_the_one_that_is_given(cache, state):
    assert photo_size(available_weights("auto")) == photo_size("none") == 64
    (cache / CACHED_NAME).symlink_to(state)
    assert photo_size(available_weights("auto")) == photo_size("imagenet") == photo_size(state) == PRETRAINED_SIZE > 64
    assert photo_size("none", 32) == photo_size("imagenet", 32) == 32


def test_auto_gives_up_when_nothing_arrives(cache, serve, monkeypatch):
    serve(bytes(600), pause=5)
    monkeypatch.setattr(image_model, "SILENCE_SECONDS", 0.2)
    start = time.monotonic()
    assert load_image_weights(ImageModel(3), "auto") == "none"
    assert time.monotonic() - start < 4
    assert not any(cache.iterdir())
    assert socket.getdefaulttimeout() is None


def test_auto_waits_for_a_slow_server_and_keeps_the_file(cache, serve, state, monkeypatch, capsys):
    name = serve(state.read_bytes(), pause=0.1)  # a second in all
    monkeypatch.setattr(image_model, "SILENCE_SECONDS", 0.5)
    model = ImageModel(3)
    assert load_image_weights(model, "auto") == "imagenet"
    assert has_body_of(model, state)
    assert [path.name for path in cache.iterdir()] == [name]
    captured = capsys.readouterr()
    assert captured.out.startswith("ImageModel: imagenet weights") and captured.err == ""


def test_imagenet_that_cannot_be_had_is_one_sentence(cache):
    with pytest.raises(UserError, match=rf"cannot be loaded.*{CACHED_NAME}.*, or choose none\.$"):
        load_image_weights(ImageModel(3), "imagenet")


def test_a_wrong_hash_is_one_sentence_and_leaves_no_file(cache, serve, monkeypatch):
    serve(b"a page of some portal")
    monkeypatch.setattr(IMAGENET, "url", IMAGENET.url.rpartition("/")[0] + f"/{CACHED_NAME}")
    with pytest.raises(UserError, match=r"cannot be loaded \(invalid hash value [^\n]*, or choose none\.$"):
        load_image_weights(ImageModel(3), "imagenet")
    assert not any(cache.iterdir())


@pytest.mark.parametrize("proxy", ["http://proxy:80a", "http://user:secret@proxy:80a", "http:/user:secret@proxy"])
def test_a_proxy_setting_that_cannot_be_parsed_is_one_sentence(proxy, cache, monkeypatch, capsys):
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("http_proxy", proxy)
    urllib.request.install_opener(None)  # the one of an earlier test has that test's proxies
    with pytest.raises(UserError, match=r"a proxy setting that cannot be parsed[^\n]*, or choose none\.$") as raised:
        load_image_weights(ImageModel(3), "imagenet")
    assert "secret" not in str(raised.value) and "damaged" not in str(raised.value)
    assert load_image_weights(ImageModel(3), "auto") == "none"
    assert capsys.readouterr().out.splitlines()[0] == str(raised.value)
    urllib.request.install_opener(None)


@pytest.mark.parametrize("content", [b"damaged", b"", b"c__builtin__\nint\n", b"I1a\n."])
def test_a_damaged_file_in_the_cache_is_one_sentence(content, cache):
    (cache / CACHED_NAME).write_bytes(content)
    with pytest.raises(UserError, match=r"cannot be loaded \([^\n]*, or choose none\.$") as raised:
        load_image_weights(ImageModel(3), "imagenet")
    assert "proxy" not in str(raised.value)


def truncated(state, path):
    path.write_bytes(state.read_bytes()[:1000])


def other_network(state, path):
    torch.save({"conv1.weight": torch.zeros(64, 3, 7, 7)}, path)


def other_shapes(state, path):
    torch.save({"conv1.weight": torch.zeros(2, 3, 7, 7)}, path)


def other_content(state, path):
    torch.save(torch.zeros(3), path)


def nothing(state, path):
    pass


@pytest.mark.parametrize("make", [truncated, other_network, other_shapes, other_content, nothing])
def test_a_file_that_does_not_fit_is_one_sentence(make, state, tmp_path):
    path = tmp_path / "weights.pth"
    make(state, path)
    with pytest.raises(UserError, match=r"the image weights .*weights\.pth cannot[^\n]*\.$"):
        load_image_weights(ImageModel(3), path)


def test_resuming_compares_photos_categories_and_initial_weights_by_content(state, tmp_path, capsys):
    products = pd.DataFrame({"split": ["train", "train", "train", "train", "validation", "test"]})
    products["category"] = products["main_category_code"] = products.index % 2
    pixels = np.random.default_rng(0).integers(0, 256, (6, 32, 32, 3), dtype=np.uint8)
    path = tmp_path / "weights.pth"
    path.write_bytes(state.read_bytes())
    options = TrainingOptions(device=torch.device("cpu"), data_dir=tmp_path, resume=True)

    def says(products: pd.DataFrame, pixels: np.ndarray, rows: range | list[int] = range(6)) -> str:
        photos = Photos(pixels, list("abcdef"), np.array(rows), {})
        recipe = Recipe(epochs=1, batch_size=4, learning_rate=1e-4)
        trained = train_image_model(products, photos, ["A", "B"], image_weights=path, recipe=recipe, options=options)
        saved = load_checkpoint(tmp_path / "checkpoints" / "image_model_best.pt")["configuration"]
        assert saved["image_weights_hash"] == trained.weights_hash and trained.weights_hash
        return capsys.readouterr().out

    assert "there is no checkpoint" in says(products, pixels)
    assert "finished: " in says(products, pixels)
    swapped = products.assign(category=[1, 0, 0, 1, 0, 1], main_category_code=[1, 0, 0, 1, 0, 1])
    assert "has other settings (data)" in says(swapped, pixels)
    assert "has other settings (data)" in says(swapped, pixels[::-1])
    assert "has other settings (data)" in says(swapped, pixels[::-1], [0, 0, 1, 3, 4, 5])
    weights = torch.load(path, weights_only=True)
    torch.save(weights | {"bn1.bias": weights["bn1.bias"] + 1}, path)
    assert "has other settings (image_weights_hash)" in says(swapped, pixels[::-1], [0, 0, 1, 3, 4, 5])


def test_photos_that_are_too_small_for_the_recipe_are_one_sentence():
    products = pd.DataFrame({"split": ["train"] * 4 + ["validation"] * 2, "category": list("ababab")})
    products["main_category_code"] = products.index % 2
    photos = Photos(np.zeros((6, 32, 32, 3), np.uint8), list("abcdef"), np.arange(6), {})
    recipe = Recipe(epochs=2, batch_size=4, learning_rate=1e-4, scales=(0.5, 1.0))
    with pytest.raises(UserError, match=r"^photos of 16 pixels are too small to train on: [^\n]*\.$"):
        train_image_model(products, photos, ["A", "B"], image_weights="none", recipe=recipe)
