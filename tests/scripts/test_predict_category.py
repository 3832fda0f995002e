"""predict_category.py: a photo, words, or both, and every way to get them wrong."""

import json
import re
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image
from repository import ROOT, run_script
from small_encoder import write_small_encoder
from trained_folder import trained_by_two_processes

import predict_category
from marketplace.command_line import run
from models import CombinedModel, ImageModel, TextModel
from models.checkpoints import save_checkpoint
from models.predictor import Predictor
from models.text_encoder import TextEncoder

LABELS = ["Boats", "Hats", "Music & Maps"]
SETTINGS = {"encoder": "all-MiniLM-L6-v2", "image_size": 32}


@pytest.fixture(scope="module")
def model() -> CombinedModel:
    torch.manual_seed(3)
    model = CombinedModel(num_classes=3).eval()
    torch.nn.init.normal_(model.mean_text_output)
    torch.nn.init.normal_(model.mean_image_output)
    return model


@pytest.fixture
def predictor(model) -> Predictor:
    return Predictor(model, LABELS, "all-MiniLM-L6-v2", 32)


@pytest.fixture(scope="module")
def folder(model, tmp_path_factory):
    """A data folder with checkpoints of untrained networks, and a photo."""
    folder = tmp_path_factory.mktemp("predict")
    for name, network, settings in (
        ("combined", model, {**SETTINGS, "temperature": 2.0}),
        ("text", model.text_model, {"encoder": SETTINGS["encoder"]}),
        ("image", model.image_model, {"image_size": 32}),
    ):
        path = folder / "checkpoints" / f"{name}_model_best.pt"
        save_checkpoint(path, network, LABELS, configuration=settings)
    pixels = np.random.default_rng(5).integers(0, 256, (30, 60, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(folder / "photo.jpg")
    (folder / "broken.jpg").write_bytes((folder / "photo.jpg").read_bytes()[:100])
    (folder / "note.jpg").write_text("not a photo")
    return folder


@pytest.fixture
def command(folder, monkeypatch):
    """Run the command in this process and in the data folder."""

    def call(*arguments: str) -> None:
        monkeypatch.chdir(folder)
        monkeypatch.setattr("sys.argv", ["predict_category.py", "--data-dir", ".", *arguments])
        run(predict_category.main)

    return call


def inputs(seed: int = 1) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    windows = random.standard_normal((1, 50, 768)).astype(np.float16)
    return windows, random.integers(0, 256, (32, 32, 3), dtype=np.uint8)


def test_both_inputs_either_alone_and_a_temperature(predictor):
    windows, pixels = inputs()
    found = [predictor.probabilities(*pair) for pair in ((windows, pixels), (windows, None), (None, pixels))]
    for probabilities in found:
        assert probabilities.shape == (3,) and probabilities.sum() == pytest.approx(1)
    assert not np.allclose(found[0], found[1]) and not np.allclose(found[0], found[2])
    assert np.array_equal(predictor.probabilities(windows, pixels), found[0])
    predictor.temperature = 50.0
    assert np.ptp(predictor.probabilities(windows, pixels)) < np.ptp(found[0])


def test_a_missing_photo_counts_as_the_mean_output_of_its_branch(predictor, model):
    windows, _ = inputs()
    output = model.text_model(torch.from_numpy(windows).float())
    expected = model.combine(output, model.mean_image_output[None]).softmax(1)[0]
    assert predictor.probabilities(windows, None) == pytest.approx(expected.detach().numpy(), abs=1e-5)


def test_one_branch_alone():
    windows, pixels = inputs()
    text = Predictor(TextModel(3).eval(), LABELS, SETTINGS["encoder"], None)
    image = Predictor(ImageModel(3).eval(), LABELS, None, SETTINGS["image_size"])
    assert text.probabilities(windows, None).sum() == pytest.approx(1)
    assert image.probabilities(None, pixels).sum() == pytest.approx(1)


def test_best_first_and_no_more_than_there_are(predictor):
    found = predictor.top(np.array([0.2, 0.5, 0.3]), 2)
    assert found == [{"category": "Hats", "probability": 0.5}, {"category": "Music & Maps", "probability": 0.3}]
    assert len(predictor.top(np.array([0.2, 0.5, 0.3]), 99)) == 3


def test_json_holds_the_categories_best_first(command, capsys):
    command("--image", "photo.jpg", "--text", "a hat", "--json")
    found = json.loads(capsys.readouterr().out)
    assert found.keys() == {"predictions"}
    assert {line["category"] for line in found["predictions"]} == set(LABELS)
    probabilities = [line["probability"] for line in found["predictions"]]
    assert probabilities == sorted(probabilities, reverse=True) and sum(probabilities) == pytest.approx(1)


@pytest.mark.parametrize("text", ["🎩🎩", "hat " * 5000])
def test_a_branch_by_its_checkpoint_and_any_text(text, command, capsys):
    command("--checkpoint", "checkpoints/text_model_best.pt", "--text", text, "--top", "1")
    assert re.fullmatch(r" *[0-9.]+%  [A-Z][\w& ]+\n", capsys.readouterr().out)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--image", "broken.jpg"], r"the photo .*broken\.jpg cannot be read \(broken\)"),
        (["--image", "note.jpg"], r"the photo .*note\.jpg cannot be read"),
        (["--image", "missing.jpg"], r"the photo .*missing\.jpg cannot be opened"),
        (
            ["--image", "https://example.com/hat.jpg"],
            r"the photo https:/example\.com/hat\.jpg cannot be opened \(No such file .* not a folder or a link",
        ),
        (["--image", ""], r"the photo \. cannot be opened \(Is a directory\)"),
        (["--text", " \n"], "the text is empty"),
        (["--text", "hat", "--checkpoint", "photo.jpg"], "damaged or of another kind"),
        (["--text", "hat", "--checkpoint", "none.pt"], "is missing: run train_models.py first"),
        (["--text", "hat", "--checkpoint", "checkpoints/image_model_best.pt"], "reads no text: leave out --text"),
        (["--image", "photo.jpg", "--checkpoint", "checkpoints/text_model_best.pt"], "reads no photo"),
        (["--text", "hat", "--data-dir", "nowhere"], "there is no data folder nowhere"),
    ],
)
def test_what_cannot_be_done_is_one_sentence(command, arguments, sentence, capsys):
    with pytest.raises(SystemExit) as stopped:
        command(*arguments)
    assert re.fullmatch(rf"error: {sentence}[^\n]*\.|error: .*{sentence}[^\n]*\.", str(stopped.value.code))
    assert capsys.readouterr().out == ""


def test_an_encoder_with_other_weights_in_the_same_folder_is_refused(folder, model, command, capsys, tmp_path):
    encoder = write_small_encoder(tmp_path / "encoder")
    known = {"encoder": str(encoder), "encoder_weights": TextEncoder(str(encoder)).weights_hash}
    for name, settings in (("new", known), ("old", {"encoder": str(encoder)})):
        save_checkpoint(tmp_path / f"{name}.pt", model.text_model, LABELS, configuration=settings)
    text = ("--text", "oak table", "--json", "--checkpoint")
    command(*text, str(tmp_path / "new.pt"))
    before = json.loads(capsys.readouterr().out)
    write_small_encoder(encoder, seed=1)
    with pytest.raises(SystemExit, match=r"^error: the files of the text encoder .* not those .* trained with: .*\.$"):
        command(*text, str(tmp_path / "new.pt"))
    command(*text, str(tmp_path / "old.pt"))  # knows no hash, as those of earlier versions
    assert json.loads(capsys.readouterr().out) != before
    write_small_encoder(encoder)
    command(*text, str(tmp_path / "new.pt"))
    assert json.loads(capsys.readouterr().out) == before


@pytest.mark.parametrize(
    ("weight", "settings", "sentence"),
    [
        (float("nan"), SETTINGS, "has numbers that are NaN or infinite"),
        (1.0, SETTINGS | {"temperature": float("nan")}, "has numbers that are NaN or infinite"),
        (1.0, SETTINGS | {"temperature": 0.0}, "Out of range float values"),
    ],
)
def test_a_probability_that_is_no_number_is_never_printed(weight, settings, sentence, model, command, capsys, tmp_path):
    save_checkpoint(tmp_path / "x.pt", model, LABELS, configuration=SETTINGS)
    checkpoint = torch.load(tmp_path / "x.pt", weights_only=True)
    checkpoint["weights"]["fusion.0.bias"][:] = weight
    torch.save(checkpoint | {"configuration": settings}, tmp_path / "x.pt")
    with pytest.raises(SystemExit, match=rf"^error: .*{sentence}.*\.$"):
        command("--image", "photo.jpg", "--json", "--checkpoint", str(tmp_path / "x.pt"))
    assert capsys.readouterr().out == ""


def test_neither_photo_nor_text_is_a_wrong_argument(command, capsys):
    with pytest.raises(SystemExit) as stopped:
        command()
    assert stopped.value.code == 2 and "--image, --text or both" in capsys.readouterr().err


def test_torch_is_not_imported_before_it_is_needed():
    code = "import predict_category, sys; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


def test_the_networks_of_a_training_answer(sample_folder):
    folder = trained_by_two_processes(sample_folder)
    photo = next((sample_folder / "clean_images_64").glob("*.jpg"))
    result = run_script("predict_category.py", "--data-dir", folder, "--image", photo, "--json", "--top", 2)
    assert result.returncode == 0, result.stderr
    found = json.loads(result.stdout)["predictions"]
    assert len(found) == 2
    assert {line["category"] for line in found} <= set(json.loads((folder / "main_categories.json").read_text()))
