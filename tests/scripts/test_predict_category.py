"""predict_category.py: the best model that fits the data folder answers, for a photo, a text, or both."""

import json
import re
import shutil
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from repository import run_script
from small_encoder import write_small_encoder
from torch import nn
from trained_folder import trained_by_two_processes

import predict_category
from marketplace.command_line import run
from marketplace.data_folder import DataFolder, QueryError, UserError, write_json
from models import CombinedModel
from models.networks import EMBEDDING_SCALE, evaluation_transform
from models.predict import Predictor, load_predictor, network_outputs
from models.text_encoder import TextEncoder
from models.training import save_checkpoint
from shallow.fusion import Fusion
from shallow.saving import load_model, save_model
from shallow.words import tfidf_model

LABELS = ["Boats", "Hats", "Music & Maps"]
TEXTS = {"encoder": "all-MiniLM-L6-v2", "embedding_scale": EMBEDDING_SCALE}
SETTINGS = {**TEXTS, "image_size": 32, "temperature": 2.0}
CPU = torch.device("cpu")
WINDOWS = ("hat", "boat " * 60 + "map " * 60)  # name and description, in several windows


@pytest.fixture(scope="module")
def model() -> CombinedModel:
    torch.manual_seed(3)
    model = CombinedModel(num_classes=3).eval()
    torch.nn.init.normal_(model.mean_text_output)
    torch.nn.init.normal_(model.mean_image_output)
    return model


@pytest.fixture(scope="module")
def made(model, tmp_path_factory) -> Path:
    """A data folder with every model: networks that never learnt, TF-IDF of a few words, and a photo."""
    folder = DataFolder(tmp_path_factory.mktemp("predict"))
    write_json(folder.main_categories, LABELS)
    networks: dict[str, tuple[nn.Module, dict]] = {
        "combined": (model, SETTINGS),
        "text": (model.text_model, TEXTS),
        "image": (model.image_model, {"image_size": 32}),
    }
    for name, (network, settings) in networks.items():
        save_checkpoint(folder.checkpoint(name), network, LABELS, configuration=settings, validation={})
    random = np.random.default_rng(3)
    weight, bias, means = (random.normal(size=size).astype(np.float32) for size in ((3, 9), 3, (3, 3)))
    fused: dict = {"labels": LABELS, "combined_model": model.last_layer().layer_hash()}
    fused["fusion"] = asdict(Fusion(weight, bias, means))
    tfidf = tfidf_model().fit(["a red boat", "a felt hat", "a violin", "a straw hat"], [0, 1, 2, 1])
    save_model(folder.fused_model, {**fused, "tfidf": tfidf})
    Image.fromarray(random.integers(0, 256, (30, 60, 3), dtype=np.uint8)).save(folder.path / "photo.jpg")
    return folder.path


@pytest.fixture
def folder(made, tmp_path) -> DataFolder:
    """A copy whose files may be replaced; the models are links."""
    shutil.copytree(made, tmp_path / "own", copy_function=lambda source, target: Path(target).symlink_to(source))
    return DataFolder(tmp_path / "own")


@pytest.fixture
def command(folder, monkeypatch, capsys):
    """Run the command in this process and in the data folder; what it printed."""

    def call(*arguments: str) -> tuple[str, str]:
        monkeypatch.chdir(folder.path)
        monkeypatch.setattr("sys.argv", ["predict_category.py", "--data-dir", ".", *arguments])
        run(predict_category.main)
        return capsys.readouterr()

    return call


def replace(path: Path, write) -> None:
    """Replace a link by a file of its own."""
    path.unlink()
    write(path)


def pixels(count: int = 1) -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)


def without(folder: DataFolder, *names: str) -> Predictor:
    """The predictor of a folder that lacks the models `names`."""
    for name in names:
        (folder.fused_model if name == "fused" else folder.checkpoint(name)).unlink()
    return load_predictor(folder, CPU)


def test_json_holds_the_model_and_the_categories_best_first(command):
    out, err = command("--image", "photo.jpg", "--text", "a hat", "--json")
    result = json.loads(out)
    assert result["model"] == "fused" and err == "model: fused.\n"
    assert {line["category"] for line in result["predictions"]} == set(LABELS)
    probabilities = [line["probability"] for line in result["predictions"]]
    assert probabilities == sorted(probabilities, reverse=True) and sum(probabilities) == pytest.approx(1)
    assert re.fullmatch(r" *[0-9.]+%  [A-Z][\w& ]+\n", command("--text", "🎩🎩", "--top", "1")[0])


def test_the_first_model_that_is_there_answers(folder, command):
    for name in ("fused", "combined", "text", "image"):
        given = ("--image", "photo.jpg") if name == "image" else ("--text", "a hat")
        assert command(*given)[1] == f"model: {name}.\n"
        (folder.fused_model if name == "fused" else folder.checkpoint(name)).unlink()
    with pytest.raises(SystemExit, match=r"^error: no model is in checkpoints: run train_models\.py first\.$"):
        command("--text", "a hat")


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"labels": LABELS[::-1]}, "belongs to other categories or another CombinedModel"),
        ({"combined_model": "0" * 64}, "belongs to other categories or another CombinedModel"),
        (None, r"is unreadable \(\w+\)"),
    ],
)
def test_a_fused_model_that_does_not_fit_is_left_out_with_a_warning(change, sentence, folder, command):
    content = load_model(folder.fused_model)
    write = (lambda path: save_model(path, content | change)) if change else (lambda path: path.write_bytes(b"?"))
    replace(folder.fused_model, write)
    _, err = command("--text", "a hat")
    warning, name = err.splitlines()
    assert re.fullmatch(rf"warning: .*fused_model\.skops {sentence}: run train_models\.py again\.", warning)
    assert name == "model: combined."


def test_models_of_other_categories_do_not_answer(folder, command):
    replace(folder.main_categories, lambda path: write_json(path, ["Boats", "Hats", "Mirrors"]))
    with pytest.raises(SystemExit, match=r"^error: the checkpoint .* was trained on other categories [^\n]*\.$"):
        command("--text", "a hat")


def test_a_photo_alone_has_the_logits_it_has_among_others(folder, model):
    predictor, photos = without(folder, "fused", "combined", "text"), pixels(5)
    many = network_outputs(model.image_model, photos, evaluation_transform, CPU)
    assert predictor.photo_size == 32
    assert predictor.logits(None, photos[3]) == pytest.approx(many[3], rel=0.03, abs=0.05)  # bfloat16


def test_a_text_has_the_mean_logits_of_its_windows(folder, model):
    predictor = without(folder, "fused", "combined")
    assert predictor.text_encoder is not None
    windows = predictor.text_encoder.encode(predictor.text_encoder.windows(*WINDOWS))
    assert len(windows) > 1
    expected = network_outputs(model.text_model, windows, torch.Tensor.float, CPU).mean(axis=0)
    assert predictor.logits(WINDOWS, None) == pytest.approx(expected, abs=1e-3)


def test_a_missing_photo_counts_as_the_mean_output_of_its_branch_and_logits_have_a_temperature(folder, model):
    text = without(folder, "fused").logits(WINDOWS, None)
    output = torch.from_numpy(without(folder, "combined").logits(WINDOWS, None)).float()[None]
    expected = model.combine(output, model.mean_image_output[None])[0] / 2
    assert text == pytest.approx(expected.detach().numpy(), abs=1e-3)


def test_the_name_is_given_or_the_first_line(folder, command):
    given = command("--name", "Approx. 2m sofa", "--text", "A few marks", "--json")
    assert given == command("--text", "Approx. 2m sofa\nA few marks", "--json")
    assert given != command("--text", "Approx. 2m sofa", "--json")


def test_a_model_does_not_read_what_it_has_no_network_for(folder):
    text = without(folder, "fused", "combined")
    with pytest.raises(QueryError, match=r"^the text model reads no photo: leave it out, or train all networks\.$"):
        _ = text.photo_size
    image = without(folder, "text")
    with pytest.raises(QueryError, match=r"^the image model reads no text: leave it out, or train all networks\.$"):
        image.predict("a hat", None)
    assert image.main_category("a hat", None, LABELS)[0] is None


def test_an_encoder_with_other_weights_in_the_same_folder_is_refused(folder, model, tmp_path):
    encoder = write_small_encoder(tmp_path / "encoder")
    settings = {**TEXTS, "encoder": str(encoder), "encoder_weights": TextEncoder(str(encoder)).weights_hash}
    write = lambda path: save_checkpoint(path, model.text_model, LABELS, configuration=settings, validation={})  # noqa: E731
    replace(folder.checkpoint("text"), write)
    assert without(folder, "fused", "combined", "image").name == "text"
    write_small_encoder(encoder, seed=1)
    with pytest.raises(UserError, match=r"^the files of the text encoder .* not those .* trained with: .*\.$"):
        load_predictor(folder, CPU)


def test_outputs_that_are_no_numbers_are_one_sentence(folder, command):
    checkpoint = torch.load(folder.checkpoint("text"), weights_only=True)
    checkpoint["weights"]["layers.6.bias"][:] = float("nan")
    replace(folder.checkpoint("text"), lambda path: torch.save(checkpoint, path))
    without(folder, "fused", "combined")
    with pytest.raises(SystemExit, match=r"^error: the outputs of TextModel are not numbers: [^\n]*\.$"):
        command("--text", "a hat")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--image", "main_categories.json"], r"the photo main_categories\.json cannot be read"),
        (["--text", " \n"], "the text is empty"),
    ],
)
def test_what_cannot_be_read_is_one_sentence(command, arguments, sentence):
    with pytest.raises(SystemExit, match=rf"^error: {sentence}[^\n]*\.$"):
        command(*arguments)


@pytest.mark.parametrize("arguments", [[], ["--name", "hat"]])
def test_a_photo_or_a_text_is_required(arguments, command, capsys):
    with pytest.raises(SystemExit) as stopped:
        command(*arguments)
    assert stopped.value.code == 2 and "--image, --text or both" in capsys.readouterr().err


def test_what_a_training_leaves_answers(sample_folder):
    trained = trained_by_two_processes(sample_folder)
    photo = next((sample_folder / "clean_images_64").glob("*.jpg"))
    result = run_script("predict_category.py", "--data-dir", trained, "--image", photo, "--json", "--top", 2)
    assert (result.returncode, result.stderr) == (0, "model: fused.\n")
    predictions = json.loads(result.stdout)["predictions"]
    assert len(predictions) == 2
    assert {line["category"] for line in predictions} <= set(json.loads((trained / "main_categories.json").read_text()))
