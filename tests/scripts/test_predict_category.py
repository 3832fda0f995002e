"""predict_category.py: a photo, words, or both, by every model, and every way to get them wrong."""

import json
import pickle
import re
import shutil
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from repository import ROOT, run_script
from small_encoder import write_small_encoder
from trained_folder import trained_by_two_processes

import predict_category
from marketplace.command_line import run
from marketplace.data_folder import MODEL_FILES, DataFolder
from models import CombinedModel
from models.networks import EMBEDDING_SCALE
from models.predict import Prediction, Predictor, load_predictor
from models.text_encoder import ENCODER_SHA256, TextEncoder
from models.training import save_checkpoint
from shallow.fusion import Fusion
from shallow.saving import load_model, save_model
from shallow.words import mean_embedding_model, tfidf_model

LABELS = ["Boats", "Hats", "Music & Maps"]
TEXTS = {"encoder": "all-MiniLM-L6-v2", "embedding_scale": EMBEDDING_SCALE}
SETTINGS = {**TEXTS, "image_size": 32}
CPU = torch.device("cpu")
READS = {"image": ("image",), "combined": ("image", "text"), "fused": ("image", "text")}  # the others read texts


@pytest.fixture(scope="module")
def model() -> CombinedModel:
    torch.manual_seed(3)
    model = CombinedModel(num_classes=3).eval()
    torch.nn.init.normal_(model.mean_text_output)
    torch.nn.init.normal_(model.mean_image_output)
    return model


def random_fusion(models: int) -> dict:
    generator = np.random.default_rng(models)
    sizes = (3, 3 * models), (3,), (models, 3)
    weight, bias, means = (generator.normal(size=size).astype(np.float32) for size in sizes)
    return asdict(Fusion(weight, bias, means))


@pytest.fixture(scope="module")
def folder(model, tmp_path_factory):
    """A data folder with every model: networks that never learnt, regressions of a few words, and a photo."""
    folder = tmp_path_factory.mktemp("predict")
    checkpoints = folder / "checkpoints"
    for name, network, settings in (
        ("combined", model, {**SETTINGS, "temperature": 2.0}),
        ("text", model.text_model, TEXTS),
        ("image", model.image_model, {"image_size": 32}),
    ):
        save_checkpoint(checkpoints / f"{name}_model_best.pt", network, LABELS, configuration=settings)
    tfidf = tfidf_model().fit(["a red boat", "a felt hat", "a violin", "a straw hat"], [0, 1, 2, 1])
    mean_embedding = mean_embedding_model().fit(np.random.default_rng(0).normal(size=(6, 768)), [0, 1, 2] * 2)
    encoder = {"encoder": SETTINGS["encoder"], "encoder_weights": ENCODER_SHA256}
    words = {"labels": LABELS, "tfidf": tfidf, "mean_embedding": mean_embedding, "fusion": random_fusion(2), **encoder}
    save_model(checkpoints / "shallow_text.skops", words)
    fused = {"labels": LABELS, "tfidf": tfidf, "fusion": random_fusion(3)}
    save_model(checkpoints / "fused_model.skops", fused | {"combined_model": model.last_layer().layer_hash()})
    pixels = np.random.default_rng(5).integers(0, 256, (30, 60, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(folder / "photo.jpg")
    (folder / "broken.jpg").write_bytes((folder / "photo.jpg").read_bytes()[:100])
    (folder / "note.jpg").write_text("not a photo")
    return folder


@pytest.fixture
def own_folder(folder, tmp_path) -> Path:
    """A copy whose models may be changed; the networks are links."""
    (tmp_path / "own" / "checkpoints").mkdir(parents=True)
    for path in (folder / "checkpoints").iterdir():
        (tmp_path / "own" / "checkpoints" / path.name).symlink_to(path)
    shutil.copy(folder / "photo.jpg", tmp_path / "own" / "photo.jpg")
    return tmp_path / "own"


@pytest.fixture
def predictor(folder) -> Predictor:
    return load_predictor(DataFolder(folder), CPU, "combined")


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
    assert predictor.temperature == 2.0
    found = [predictor.probabilities(None, *pair) for pair in ((windows, pixels), (windows, None), (None, pixels))]
    for probabilities in found:
        assert probabilities.shape == (3,) and probabilities.sum() == pytest.approx(1)
    assert not np.allclose(found[0], found[1]) and not np.allclose(found[0], found[2])
    assert np.array_equal(predictor.probabilities(None, windows, pixels), found[0])
    predictor.temperature = 50.0
    assert np.ptp(predictor.probabilities(None, windows, pixels)) < np.ptp(found[0])


def test_a_missing_photo_counts_as_the_mean_output_of_its_branch(predictor, model):
    windows, _ = inputs()
    output = model.text_model(torch.from_numpy(windows).float())
    expected = (model.combine(output, model.mean_image_output[None]) / 2).softmax(1)[0]
    assert predictor.probabilities(None, windows, None) == pytest.approx(expected.detach().numpy(), abs=1e-5)


def test_a_text_of_several_windows_has_the_mean_of_their_logits(folder, model):
    windows = np.concatenate([inputs(seed)[0] for seed in (1, 2, 3)])
    text = load_predictor(DataFolder(folder), CPU, "text")
    with torch.inference_mode():
        expected = model.text_model(torch.from_numpy(windows).float()).mean(0).softmax(0).numpy()
    assert text.probabilities(None, windows, None) == pytest.approx(expected, abs=1e-5)


def test_the_fused_model_reads_the_words_beside_the_networks(folder):
    fused = load_predictor(DataFolder(folder), CPU, "fused")
    windows, pixels = inputs()
    found = [fused.probabilities(text, windows, pixels) for text in ("a felt hat", "a violin")]
    assert not np.allclose(*found) and fused.parts.keys() == {"text", "image", "tfidf"}
    assert (fused.encoder, fused.image_size, fused.temperature) == (SETTINGS["encoder"], 32, 1.0)


def test_best_first_and_no_more_than_there_are(predictor):
    found = predictor.top(np.array([0.2, 0.5, 0.3]), 2)
    assert found == [Prediction("Hats", 0.5), Prediction("Music & Maps", 0.3)]
    assert len(predictor.top(np.array([0.2, 0.5, 0.3]), 99)) == 3


def test_json_holds_the_model_and_the_categories_best_first(command, capsys):
    command("--image", "photo.jpg", "--text", "a hat", "--json")
    captured = capsys.readouterr()
    found = json.loads(captured.out)
    assert found.keys() == {"model", "predictions"} and found["model"] == "fused"
    assert captured.err == f"model: fused, from {Path('checkpoints') / 'fused_model.skops'}.\n"
    assert {line["category"] for line in found["predictions"]} == set(LABELS)
    probabilities = [line["probability"] for line in found["predictions"]]
    assert probabilities == sorted(probabilities, reverse=True) and sum(probabilities) == pytest.approx(1)


def test_the_first_model_that_is_there_answers(own_folder, command, capsys):
    for name in ("fused", "combined", "shallow_text", "text", "image"):
        words = ("--image", "photo.jpg") if name == "image" else ("--text", "a hat")
        command("--data-dir", str(own_folder), *words, "--json")
        captured = capsys.readouterr()
        path = own_folder / "checkpoints" / MODEL_FILES[name]
        assert json.loads(captured.out)["model"] == name and captured.err == f"model: {name}, from {path}.\n"
        path.unlink()
    with pytest.raises(SystemExit, match=r"^error: the checkpoint .*combined_model_best\.pt is missing: [^\n]*\.$"):
        command("--data-dir", str(own_folder), "--text", "a hat")


def test_a_model_is_chosen_by_its_name(command, capsys):
    answers = {}
    for name in MODEL_FILES:
        words = ("--image", "photo.jpg") if name == "image" else ("--text", "a felt hat")
        command("--model", name, *words, "--json")
        found = json.loads(capsys.readouterr().out)
        assert found["model"] == name
        answers[name] = {line["category"]: line["probability"] for line in found["predictions"]}
        assert sum(answers[name].values()) == pytest.approx(1)
    assert max(answers["tfidf"], key=lambda label: answers["tfidf"][label]) == "Hats"
    assert len({round(answer["Hats"], 6) for answer in answers.values()}) == len(MODEL_FILES)


def test_a_fused_model_of_another_combined_model_is_refused(own_folder, model, command, capsys):
    torch.manual_seed(4)
    other = CombinedModel(model.text_model, model.image_model, 3)
    path = own_folder / "checkpoints" / "combined_model_best.pt"
    path.unlink()
    save_checkpoint(path, other, LABELS, configuration=SETTINGS)
    words = ("--data-dir", str(own_folder), "--text", "a hat")
    with pytest.raises(SystemExit, match=r"^error: .*fused_model\.skops belongs to another CombinedModel [^\n]*\.$"):
        command(*words)
    assert capsys.readouterr() == ("", "")
    command(*words, "--model", "combined")  # as the sentence says
    assert capsys.readouterr().out
    path.unlink()
    with pytest.raises(SystemExit, match=r"^error: the checkpoint .*combined_model_best\.pt is missing: [^\n]*\.$"):
        command(*words)


@pytest.mark.parametrize("name", ["fused", "shallow_text", "tfidf", "mean_embedding"])
def test_a_pickle_or_a_damaged_file_is_one_sentence(name, own_folder, command, capsys):
    path = own_folder / "checkpoints" / MODEL_FILES[name]
    whole = path.read_bytes()
    path.unlink()
    for content in (pickle.dumps({"labels": LABELS}), whole[:-500]):
        path.write_bytes(content)
        with pytest.raises(SystemExit, match=r"^error: the model .* is damaged or of another kind \([^\n]*\.$"):
            command("--data-dir", str(own_folder), "--model", name, "--text", "a hat")
    path.unlink()
    with pytest.raises(SystemExit, match=r"^error: the model .* is missing: run train_models\.py first\.$"):
        command("--data-dir", str(own_folder), "--model", name, "--text", "a hat")
    assert capsys.readouterr() == ("", "")


def test_regressions_of_another_encoder_are_refused(own_folder, command, capsys):
    path = own_folder / "checkpoints" / "shallow_text.skops"
    content = load_model(path)
    path.unlink()
    save_model(path, content | {"encoder_weights": "0" * 64})
    words = ("--data-dir", str(own_folder), "--text", "a felt hat", "--model")
    for name in ("shallow_text", "mean_embedding"):
        with pytest.raises(SystemExit, match=r"^error: the files of the text encoder .* not those .*\.$"):
            command(*words, name)
    assert capsys.readouterr().out == ""
    command(*words, "tfidf")
    assert "Hats" in capsys.readouterr().out.splitlines()[0]


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
        (["--text", "hat", "--checkpoint", "checkpoints/image_model_best.pt"], "reads no text: leave it out"),
        (["--image", "photo.jpg", "--checkpoint", "checkpoints/text_model_best.pt"], "reads no photo"),
        (
            ["--text", "hat", "--model", "image"],
            "the image model reads no text: leave it out, or use another model",
        ),
        (
            ["--text", "hat", "--image", "photo.jpg", "--model", "image"],
            "the image model reads no text: leave it out",
        ),
        (["--image", "photo.jpg", "--model", "text"], "the text model reads no photo: leave it out"),
        (["--image", "photo.jpg", "--model", "tfidf"], "the tfidf model reads no photo: leave it out"),
        (["--image", "photo.jpg", "--text", "hat", "--model", "shallow_text"], "the shallow_text model reads no photo"),
        (["--text", "hat", "--data-dir", "nowhere"], "there is no data folder nowhere"),
    ],
)
def test_what_cannot_be_done_is_one_sentence(command, arguments, sentence, capsys):
    with pytest.raises(SystemExit) as stopped:
        command(*arguments)
    assert re.fullmatch(rf"error: {sentence}[^\n]*\.|error: .*{sentence}[^\n]*\.", str(stopped.value.code))
    assert capsys.readouterr().out == ""


def test_a_network_at_the_place_of_another_does_not_answer_for_it(folder, command, tmp_path):
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "combined_model_best.pt").symlink_to(folder / "checkpoints" / "text_model_best.pt")
    with pytest.raises(SystemExit, match=r"^error: .*combined_model_best\.pt holds a text model: [^\n]*\.$"):
        command("--text", "hat", "--model", "combined", "--data-dir", str(tmp_path))


def test_an_encoder_with_other_weights_in_the_same_folder_is_refused(folder, model, command, capsys, tmp_path):
    encoder = write_small_encoder(tmp_path / "encoder")
    old = {**TEXTS, "encoder": str(encoder)}
    new = {**old, "encoder_weights": TextEncoder(str(encoder)).weights_hash}
    for name, settings in (("new", new), ("old", old)):
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


def test_a_network_that_learnt_from_embeddings_of_another_scale_is_refused(model, command, capsys, tmp_path):
    save_checkpoint(tmp_path / "old.pt", model.text_model, LABELS, configuration={"encoder": TEXTS["encoder"]})
    with pytest.raises(SystemExit, match=r"^error: the checkpoint .*old\.pt is of an earlier version, [^\n]*\.$"):
        command("--text", "hat", "--checkpoint", str(tmp_path / "old.pt"))
    assert capsys.readouterr() == ("", "")


@pytest.mark.filterwarnings("ignore:(divide by zero|invalid value) encountered")
@pytest.mark.parametrize(
    ("weight", "settings", "sentence"),
    [
        (float("nan"), SETTINGS, "has numbers that are NaN or infinite"),
        (1.0, SETTINGS | {"temperature": float("nan")}, "has numbers that are NaN or infinite"),
        (1.0, SETTINGS | {"temperature": 0.0}, "has a temperature that is not above 0"),
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


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ((), "--image, --text or both"),
        (("--text", "hat", "--model", "sound"), "invalid choice: 'sound'"),
        (("--text", "hat", "--model", "text", "--checkpoint", "x.pt"), "not allowed with argument"),
    ],
)
def test_wrong_arguments(arguments, sentence, command, capsys):
    with pytest.raises(SystemExit) as stopped:
        command(*arguments)
    assert stopped.value.code == 2 and sentence in capsys.readouterr().err


def test_torch_is_not_imported_before_it_is_needed():
    code = "import predict_category, sys; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


@pytest.fixture(scope="module")
def trained(sample_folder) -> Path:
    return trained_by_two_processes(sample_folder)


def test_what_a_training_leaves_answers(trained, sample_folder):
    photo = next((sample_folder / "clean_images_64").glob("*.jpg"))
    result = run_script("predict_category.py", "--data-dir", trained, "--image", photo, "--json", "--top", 2)
    assert result.returncode == 0, result.stderr
    assert result.stderr == f"model: fused, from {trained / 'checkpoints' / 'fused_model.skops'}.\n"
    found = json.loads(result.stdout)["predictions"]
    assert len(found) == 2
    assert {line["category"] for line in found} <= set(json.loads((trained / "main_categories.json").read_text()))


@pytest.mark.parametrize("name", MODEL_FILES)
def test_every_model_of_a_training_answers(name, trained, sample_folder, command, capsys):
    photo = next((sample_folder / "clean_images_64").glob("*.jpg"))
    given = {"image": str(photo), "text": "Oak table. Six chairs, a few marks."}
    words = [word for part in READS.get(name, ("text",)) for word in (f"--{part}", given[part])]
    command("--data-dir", str(trained), "--model", name, *words, "--json", "--top", "99")
    found = json.loads(capsys.readouterr().out)
    categories = json.loads((trained / "main_categories.json").read_text())
    assert found["model"] == name and {line["category"] for line in found["predictions"]} == set(categories)
    assert sum(line["probability"] for line in found["predictions"]) == pytest.approx(1)
