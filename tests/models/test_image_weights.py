"""Where ImageModel's first weights come from: torchvision's cache, the network, a file, or chance."""

import hashlib
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import torch
from torchvision.models import resnet50

from marketplace.data_folder import UserError
from models import ImageModel, image_model
from models.image_model import load_image_weights

CACHED_NAME = "resnet50-11ad3fa6.pth"


@pytest.fixture(scope="module")
def state(tmp_path_factory):
    """A ResNet50's file with weights of no use, as torchvision would give it."""
    torch.manual_seed(1)
    path = tmp_path_factory.mktemp("weights") / "state.pth"
    torch.save(resnet50(weights=None).state_dict(), path)
    return path


@pytest.fixture
def cache(monkeypatch, tmp_path):
    """Torchvision's cache folder, empty, and a network on which nobody answers."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(image_model, "IMAGENET_URL", f"http://127.0.0.1:9/models/{CACHED_NAME}")
    folder = tmp_path / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    return folder


@pytest.fixture
def serve(monkeypatch):
    """Serve bytes as the ImageNet weights, all at once or one a second."""
    servers = []

    def start(content: bytes, name: str = CACHED_NAME, slowly: bool = False) -> None:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                self.send_response(200)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                try:
                    for part in [content[i : i + 1] for i in range(len(content))] if slowly else [content]:
                        self.wfile.write(part)
                        time.sleep(0.5 * slowly)
                except (BrokenPipeError, ConnectionResetError):
                    self.close_connection = True

            def log_message(self, *args):
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        servers.append(server)
        url = f"http://127.0.0.1:{server.server_port}/{name}"
        monkeypatch.setattr(image_model, "IMAGENET_URL", url)

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def has_body_of(model: ImageModel, path) -> bool:
    state = torch.load(path, weights_only=True)
    own = model.resnet.state_dict()
    return all(torch.equal(own[name], tensor) for name, tensor in state.items() if not name.startswith("fc."))


@pytest.mark.parametrize("weights", ["imagenet", "auto"])
def test_imagenet_weights_out_of_torchvisions_cache(weights, cache, state, capsys):
    (cache / CACHED_NAME).symlink_to(state)
    model = ImageModel(3)
    assert load_image_weights(model, weights) == "imagenet"
    assert has_body_of(model, state)
    assert model.frozen_parameters() == 670_400
    assert model.resnet.fc[-1].out_features == 3
    assert capsys.readouterr().out == "ImageModel starts from ImageNet weights, 670,400 of them frozen.\n"


def test_the_name_in_the_cache_is_torchvisions_own():
    assert image_model.IMAGENET_URL.endswith(f"/{CACHED_NAME}")


def test_a_file_by_its_path(state, capsys):
    model = ImageModel(3)
    assert load_image_weights(model, state) == "state.pth"
    assert has_body_of(model, state) and model.frozen_parameters() == 670_400
    assert "state.pth" in capsys.readouterr().out


def test_no_weights_freeze_nothing(capsys):
    model = ImageModel(3)
    assert load_image_weights(model, "none") == "none"
    assert model.frozen_parameters() == 0 and model.resnet.bn1.training
    assert "random weights" in capsys.readouterr().out


def test_auto_does_without_when_nobody_answers(cache, capsys):
    model = ImageModel(3)
    assert load_image_weights(model, "auto") == "none"
    assert model.frozen_parameters() == 0
    assert "no ImageNet weights" in capsys.readouterr().out
    assert not any(cache.iterdir())


def test_auto_does_not_wait_for_a_slow_server(cache, serve, monkeypatch):
    serve(bytes(600), slowly=True)
    monkeypatch.setattr(image_model, "DOWNLOAD_SECONDS", 1)
    start = time.monotonic()
    assert load_image_weights(ImageModel(3), "auto") == "none"
    assert time.monotonic() - start < 8
    assert not (cache / CACHED_NAME).exists()


def test_imagenet_that_cannot_be_had_is_one_sentence(cache):
    with pytest.raises(UserError, match=rf"cannot be downloaded.*{CACHED_NAME}.*or choose none\.$"):
        load_image_weights(ImageModel(3), "imagenet")


def test_downloaded_weights_are_kept_for_the_next_time(cache, serve, state):
    content = state.read_bytes()
    name = f"resnet50-{hashlib.sha256(content).hexdigest()[:8]}.pth"
    serve(content, name)
    model = ImageModel(3)
    assert load_image_weights(model, "imagenet") == "imagenet"
    assert has_body_of(model, state)
    assert [path.name for path in cache.iterdir()] == [name]


def test_a_damaged_download_is_thrown_away(cache, serve):
    serve(b"half a file")
    with pytest.raises(UserError, match="damaged"):
        load_image_weights(ImageModel(3), "imagenet")
    assert not any(cache.iterdir())


def truncated(state, path):
    path.write_bytes(state.read_bytes()[:1000])


def other_network(state, path):
    torch.save({"conv1.weight": torch.zeros(64, 3, 7, 7)}, path)


def other_shapes(state, path):
    torch.save({"conv1.weight": torch.zeros(2, 3, 7, 7)}, path)


def nothing(state, path):
    pass


@pytest.mark.parametrize("make", [truncated, other_network, other_shapes, nothing])
def test_a_file_that_does_not_fit_is_one_sentence(make, state, tmp_path):
    path = tmp_path / "weights.pth"
    make(state, path)
    with pytest.raises(UserError, match=r"the image weights .*weights\.pth (are|cannot)[^\n]*\.$"):
        load_image_weights(ImageModel(3), path)
