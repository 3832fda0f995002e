"""CombinedModel's last layer is the fusion of its branches; what training it leaves answers with the same numbers."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from marketplace.listings import rows_of_split
from marketplace.photos import Photos
from models import CombinedModel, ImageModel, TextModel
from models.networks import evaluation_transform
from models.predict import load_checkpoint
from models.text_encoder import Texts, product_embeddings
from models.training import TrainedModel, TrainingOptions, train_combined_model
from shallow.fusion import Fusion, fit_fusion
from shallow.saving import load_model
from shallow.words import TFIDF, fit_shallow_text

CLASSES = 5
CPU = torch.device("cpu")
NAMES = [f"category {number}" for number in range(CLASSES)]
WORDS = ("sofa", "kettle", "guitar", "bicycle", "jacket")


@pytest.fixture(scope="module")
def fusion() -> Fusion:
    """Of two models on invented logits, the second of which some products lack."""
    generator = np.random.default_rng(1)
    labels = generator.integers(CLASSES, size=60)
    text, image = np.eye(CLASSES)[labels] * 2 + generator.normal(size=(2, 60, CLASSES))
    image[::7] = np.nan
    return fit_fusion([text, image], labels, [str(row) for row in range(60)])[0]


def test_the_network_has_the_logits_of_the_fusion(fusion):
    model = CombinedModel(nn.Identity(), nn.Identity(), CLASSES)
    model.set_last_layer(fusion)
    text, image = np.random.default_rng(2).normal(size=(2, 20, CLASSES)).astype(np.float32)
    nothing = np.full_like(text, np.nan)
    with torch.inference_mode():
        both = model(torch.from_numpy(text), torch.from_numpy(image))
        text_only, image_only = model(torch.from_numpy(text), None), model(None, torch.from_numpy(image))
    assert np.allclose(both, fusion.logits(text, image), atol=1e-5)
    assert np.allclose(text_only, fusion.logits(text, nothing), atol=1e-5)
    assert np.allclose(image_only, fusion.logits(nothing, image), atol=1e-5)


def test_the_last_layer_is_the_fusion_that_was_set(fusion):
    model = CombinedModel(nn.Identity(), nn.Identity(), CLASSES)
    before = model.last_layer().layer_hash()
    model.set_last_layer(fusion)
    again = model.last_layer()
    assert again.layer_hash() == fusion.layer_hash() != before
    assert all((getattr(again, name) == getattr(fusion, name)).all() for name in ("weight", "bias", "means"))


def test_setting_the_last_layer_leaves_the_branches(fusion):
    model = CombinedModel(nn.Linear(3, CLASSES), nn.Linear(3, CLASSES), CLASSES)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items() if "_model." in name}
    model.set_last_layer(fusion)
    assert before and all(torch.equal(model.state_dict()[name], tensor) for name, tensor in before.items())


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Two branches with random weights and TF-IDF combined on 40 invented products; product 3 has no photo."""
    folder = tmp_path_factory.mktemp("combined")
    generator = np.random.default_rng(0)
    codes = np.arange(40) % CLASSES
    texts_of = [
        f"{WORDS[code if row % 4 else generator.integers(CLASSES)]} number{row}" for row, code in enumerate(codes)
    ]
    products = pd.DataFrame(
        {
            "main_category_code": codes,
            "text": texts_of,
            "split": np.array(["train", "validation", "validation", "test"])[np.arange(40) // CLASSES % 4],
            "group": texts_of,
        }
    )
    owners = np.array([0, 1, 1, 1, 2, *range(4, 40)])
    pixels = generator.integers(256, size=(len(owners), 32, 32, 3), dtype=np.uint8)
    photos = Photos(pixels, [str(number) for number in range(len(owners))], owners, {})
    windows = np.array([0, 0, *range(1, 40)])  # the text of product 0 has two
    texts = Texts(generator.normal(size=(41, 50, 768)).astype(np.float16) / 2, windows, "all-MiniLM-L6-v2", "0" * 64)
    torch.manual_seed(0)
    text = TrainedModel(TextModel(CLASSES), [], "all-MiniLM-L6-v2")
    image = TrainedModel(ImageModel(CLASSES), [], "none")
    options = TrainingOptions(device=CPU, data_dir=folder)
    shallow = fit_shallow_text(products, product_embeddings(texts, 40), CLASSES)
    combined = train_combined_model(products, texts, photos, NAMES, text, image, shallow, options)
    return SimpleNamespace(
        folder=folder, products=products, texts=texts, photos=photos, shallow=shallow, combined=combined
    )


def test_a_products_photo_output_is_the_mean_of_its_photos(trained):
    combined = trained.combined
    assert np.allclose(combined.image_logits[1], combined.photo_logits[1:4].mean(axis=0), atol=1e-6)
    assert np.isnan(combined.image_logits[3]).all() and np.isfinite(combined.logits).all()
    pixels = torch.from_numpy(trained.photos.pixels[1:4])
    with torch.inference_mode():
        direct = combined.model.image_model(evaluation_transform(pixels))
    assert np.allclose(direct, combined.photo_logits[1:4], rtol=0.03, atol=0.2)  # bfloat16, of logits up to 14


def test_only_validation_products_have_logits_out_of_fold(trained):
    combined = trained.combined
    rows = rows_of_split(trained.products, "validation")
    rest = (trained.products["split"] != "validation").to_numpy()
    branches = [combined.text_logits, combined.image_logits]
    for fusion, outputs, logits in (
        (combined.fusion, branches, combined.logits),
        (combined.with_tfidf, [*branches, trained.shallow.outputs[TFIDF]], combined.with_tfidf_logits),
    ):
        fitted = fusion.logits(*outputs)
        labels, groups = (trained.products[name].iloc[rows] for name in ("main_category_code", "group"))
        again, out_of_fold = fit_fusion([values[rows] for values in outputs], labels.to_numpy(), groups)
        assert again.layer_hash() == fusion.layer_hash() and (logits[rows] == out_of_fold).all()
        assert (logits[rest] == fitted[rest]).all() and not np.allclose(logits[rows], fitted[rows])


def test_the_checkpoint_holds_the_whole_network(trained):
    combined = trained.combined
    model = CombinedModel(num_classes=CLASSES)
    checkpoint = load_checkpoint(trained.folder / "checkpoints" / "combined_model_best.pt", model, NAMES)
    embeddings = torch.from_numpy(trained.texts.embeddings[:2]).float()
    inputs = embeddings, evaluation_transform(torch.from_numpy(trained.photos.pixels[:2]))
    with torch.inference_mode():
        assert torch.equal(model.eval()(*inputs), combined.model.eval()(*inputs))
    configuration = checkpoint["configuration"]
    assert configuration["temperature"] == combined.temperature and configuration["l2"] == combined.fusion.l2
    assert configuration["encoder_weights"] == "0" * 64
    assert model.last_layer().layer_hash() == combined.fusion.layer_hash()


def test_training_leaves_two_files(trained):
    names = {path.name for path in (trained.folder / "checkpoints").iterdir()}
    assert names == {"combined_model_best.pt", "fused_model.skops"}
    fused, expected = load_model(trained.folder / "checkpoints" / "fused_model.skops"), trained.combined.with_tfidf
    assert fused["labels"] == NAMES and Fusion(**fused["fusion"]).layer_hash() == expected.layer_hash()
