"""CombinedModel's last layer: fitted out of sample, better than its branches, with an answer for what is missing."""

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.special import softmax
from sklearn.metrics import log_loss

from marketplace.data_folder import UserError
from marketplace.dataset import Photos, rows_of_split
from models import CombinedModel, ImageModel, TextModel
from models.batches import Texts
from models.checkpoints import load_checkpoint
from models.fusion import L2_GRID, combined_model, fit_combined_model
from models.image_model import evaluation_transform
from models.recipes import TrainedModel, train_combined_model
from models.training import TrainingOptions

CLASSES = 5


def branches(count: int, seed: int, photo_noise: float = 1.0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Logits of two branches: texts separate classes 0 to 2 well, photos 2 to 4; some products have no photo."""
    generator = np.random.default_rng(seed)
    labels = generator.integers(CLASSES, size=count)
    signals = np.array([[3, 3, 3, 0.5, 0.5], [0.5, 0.5, 3, 3, 3]])
    text, image = (
        np.eye(CLASSES)[labels] * signal[labels][:, None] + generator.normal(size=(count, CLASSES)) * noise
        for signal, noise in zip(signals, (1.0, photo_noise), strict=True)
    )
    image[generator.random(count) < 0.1] = np.nan
    return text, image, labels


def groups(count: int) -> list[str]:
    return [f"text {number}" for number in range(count)]


def accuracy(logits: np.ndarray, labels: np.ndarray) -> float:
    return float((np.nan_to_num(logits).argmax(axis=1) == labels).mean())


@pytest.fixture(scope="module")
def fusion():
    text, image, labels = branches(300, seed=1)
    return fit_combined_model(text, image, labels, groups(300))


def test_together_is_better_than_each_alone_on_new_products(fusion):
    text, image, labels = branches(2000, seed=2)
    together = accuracy(fusion.logits(text, image), labels)
    assert together > accuracy(text, labels) + 0.05 and together > accuracy(image, labels) + 0.05


def test_a_branch_of_noise_does_no_harm():
    text, image, labels = branches(300, seed=1, photo_noise=1.0)
    noise = np.random.default_rng(3).normal(size=image.shape) * 5
    fusion = fit_combined_model(text, noise, labels, groups(300))
    new_text, _, new_labels = branches(2000, seed=2)
    new_noise = np.random.default_rng(4).normal(size=new_text.shape) * 5
    assert accuracy(fusion.logits(new_text, new_noise), new_labels) > accuracy(new_text, new_labels) - 0.02


def test_figures_for_validation_are_out_of_fold():
    generator = np.random.default_rng(0)
    text, image = generator.normal(size=(2, 60, CLASSES))  # nothing to learn: any skill on these rows is memory
    labels = generator.integers(CLASSES, size=60)
    fusion = fit_combined_model(text, image, labels, groups(60), grid=(1e-6,))
    assert accuracy(fusion.logits(text, image), labels) > 0.5
    assert accuracy(fusion.out_of_fold, labels) < 0.4


def test_copies_of_a_text_share_a_fold():
    text, image = np.random.default_rng(0).normal(size=(2, 60, CLASSES))
    labels = np.arange(60) % CLASSES
    twice = [np.concatenate([values, values]) for values in (text, image, labels)]
    together = fit_combined_model(*twice, groups(60) * 2, grid=(1e-6,))
    apart = fit_combined_model(*twice, groups(120), grid=(1e-6,))
    assert accuracy(together.out_of_fold, twice[2]) < accuracy(apart.out_of_fold, twice[2]) - 0.1
    assert np.allclose(together.out_of_fold[:60], together.out_of_fold[60:], atol=1e-4)


def test_the_l2_is_the_one_with_the_least_loss_out_of_fold(fusion):
    text, image, labels = branches(300, seed=1)
    fits = {l2: fit_combined_model(text, image, labels, groups(300), grid=(l2,)) for l2 in L2_GRID}
    losses = {l2: log_loss(labels, softmax(fit.out_of_fold, axis=1)) for l2, fit in fits.items()}
    assert fusion.l2 == min(losses, key=losses.get) and 0 < L2_GRID.index(fusion.l2) < len(L2_GRID) - 1


def test_the_same_seed_gives_the_same_layer(fusion):
    text, image, labels = branches(300, seed=1)
    again = fit_combined_model(text, image, labels, groups(300))
    assert (again.weight == fusion.weight).all() and (again.out_of_fold == fusion.out_of_fold).all()


def test_something_missing_counts_as_the_mean_of_its_branch(fusion):
    text, image, _ = branches(300, seed=1)
    assert np.allclose(fusion.mean_image_output, np.nanmean(image, axis=0), atol=1e-6)
    nothing = np.full_like(text, np.nan)
    mean_photo = np.broadcast_to(fusion.mean_image_output, text.shape)
    assert (fusion.logits(text, nothing) == fusion.logits(text, mean_photo)).all()
    assert np.isfinite(fusion.logits(nothing, nothing)).all()


def test_a_class_without_a_product_and_few_products_are_no_obstacle():
    text, image, labels = branches(12, seed=5)
    labels = np.minimum(labels, 3)
    fusion = fit_combined_model(text, image, labels, ["one", "two"] * 6)
    assert fusion.weight.shape == (CLASSES, 2 * CLASSES) and np.isfinite(fusion.out_of_fold).all()


def test_one_description_alone_is_one_sentence():
    text, image, labels = branches(12, seed=5)
    with pytest.raises(UserError, match=r"^CombinedModel needs two different descriptions [^\n]*\.$"):
        fit_combined_model(text, image, labels, ["one"] * 12)


def test_no_photo_in_the_validation_split_is_one_sentence():
    text, image, labels = branches(12, seed=5)
    with pytest.raises(UserError, match=r"^CombinedModel needs a photo in the validation split: [^\n]*\.$"):
        fit_combined_model(text, np.full_like(image, np.nan), labels, groups(12))


def test_the_network_has_the_logits_of_the_fit(fusion):
    text, image, _ = branches(20, seed=6)
    model = combined_model(torch.nn.Identity(), torch.nn.Identity(), fusion)
    as_tensors = [torch.from_numpy(np.nan_to_num(values)).float() for values in (text, image)]
    with torch.inference_mode():
        assert np.allclose(model(*as_tensors), fusion.logits(*(values.numpy() for values in as_tensors)), atol=1e-5)
        text_only = model(as_tensors[0], None)
    assert np.allclose(text_only, fusion.logits(as_tensors[0].numpy(), np.full_like(image, np.nan)), atol=1e-5)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Two branches with random weights combined on 24 invented products, of which product 3 has no photo."""
    folder = tmp_path_factory.mktemp("combined")
    generator = np.random.default_rng(0)
    products = pd.DataFrame(
        {
            "main_category_code": np.arange(24) % CLASSES,
            "split": ["train", "validation", "validation", "test"] * 6,
            "group": groups(24),
        }
    )
    embeddings = generator.normal(size=(24, 50, 768)).astype(np.float16)
    owners = np.array([0, 1, 1, 1, 2, *range(4, 24)])
    pixels = generator.integers(256, size=(len(owners), 32, 32, 3), dtype=np.uint8)
    photos = Photos(pixels, [str(number) for number in range(len(owners))], owners, {})
    text = TrainedModel(TextModel(CLASSES), [], "all-MiniLM-L6-v2")
    image = TrainedModel(ImageModel(CLASSES), [], "none")
    names = [f"category {number}" for number in range(CLASSES)]
    texts = Texts(embeddings, np.arange(24))
    options = TrainingOptions(device=torch.device("cpu"), data_dir=folder)
    combined = train_combined_model(products, texts, photos, names, text, image, options)
    return folder, products, embeddings, photos, names, combined


def test_a_products_photo_output_is_the_mean_of_its_photos(trained):
    _, _, _, photos, _, combined = trained
    assert np.allclose(combined.image_logits[1], combined.photo_logits[1:4].mean(axis=0), atol=1e-6)
    assert np.isnan(combined.image_logits[3]).all() and np.isfinite(combined.logits).all()
    pixels = torch.from_numpy(photos.pixels[1:4])
    with torch.inference_mode():
        direct = combined.model.image_model(evaluation_transform(pixels))
    assert np.allclose(direct, combined.photo_logits[1:4], rtol=0.03, atol=0.05)  # bfloat16


def test_only_validation_products_have_logits_out_of_fold(trained):
    _, products, _, _, _, combined = trained
    fitted = combined.fusion.logits(combined.text_logits, combined.image_logits)
    held = rows_of_split(products, "validation")
    assert (combined.logits[held] == combined.fusion.out_of_fold).all()
    assert (np.delete(combined.logits, held, axis=0) == np.delete(fitted, held, axis=0)).all()


def test_the_checkpoint_holds_the_whole_network(trained):
    folder, _, embeddings, photos, names, combined = trained
    model = CombinedModel(num_classes=CLASSES)
    checkpoint = load_checkpoint(folder / "checkpoints" / "combined_model_best.pt", model, names)
    inputs = torch.from_numpy(embeddings[:2]).float(), evaluation_transform(torch.from_numpy(photos.pixels[:2]))
    with torch.inference_mode():
        assert torch.equal(model.eval()(*inputs), combined.model.eval()(*inputs))
    assert checkpoint["configuration"]["temperature"] == combined.temperature
    assert (model.mean_image_output.numpy() == combined.fusion.mean_image_output).all()
