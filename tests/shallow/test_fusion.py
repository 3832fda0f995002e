"""Late fusion: fitted out of sample, better than each model, with an answer for what is missing."""

import numpy as np
import pandas as pd
import pytest
from scipy.special import softmax
from sklearn.metrics import log_loss

from marketplace.data_folder import UserError
from marketplace.listings import rows_of_split
from shallow.fusion import L2_BOUNDS, Fusion, fit_fusion, fuse_products

CLASSES = 5
STRONG = 1e3  # an l2 with which the layer is a weighted sum


def outputs(count: int, seed: int, photo_noise: float = 1.0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Logits of two models: texts separate classes 0 to 2 well, photos 2 to 4; some products have no photo."""
    generator = np.random.default_rng(seed)
    labels = generator.integers(CLASSES, size=count)
    signals = np.array([[3, 3, 3, 0.5, 0.5], [0.5, 0.5, 3, 3, 3]])
    text, image = (
        np.eye(CLASSES)[labels] * signal[labels][:, None] + generator.normal(size=(count, CLASSES)) * noise
        for signal, noise in zip(signals, (1.0, photo_noise), strict=True)
    )
    image[generator.random(count) < 0.1] = np.nan
    return text, image, labels


def three_outputs(count: int, seed: int) -> tuple[list[np.ndarray], np.ndarray]:
    """Logits of three models, of which each row lacks one."""
    text, image, labels = outputs(count, seed)
    words = np.eye(CLASSES)[labels] * 2 + np.random.default_rng(seed + 100).normal(size=(count, CLASSES))
    given = [text, np.nan_to_num(image), words]
    for row in range(count):
        given[row % 3][row] = np.nan
    return given, labels


def groups(count: int) -> list[str]:
    return [f"text {number}" for number in range(count)]


def accuracy(logits: np.ndarray, labels: np.ndarray) -> float:
    return float((np.nan_to_num(logits).argmax(axis=1) == labels).mean())


def loss(logits: np.ndarray, labels: np.ndarray) -> float:
    return log_loss(labels, softmax(logits.astype(np.float64), axis=1), labels=np.arange(logits.shape[1]))


@pytest.fixture(scope="module")
def fitted() -> tuple[Fusion, np.ndarray]:
    text, image, labels = outputs(300, seed=1)
    return fit_fusion([text, image], labels, groups(300))


def test_together_is_better_than_each_alone_on_new_products(fitted):
    text, image, labels = outputs(2000, seed=2)
    together = accuracy(fitted[0].logits(text, image), labels)
    assert together > accuracy(text, labels) + 0.05 and together > accuracy(image, labels) + 0.05


def test_a_model_of_noise_does_no_harm():
    text, image, labels = outputs(300, seed=1)
    noise = np.random.default_rng(3).normal(size=image.shape) * 5
    fusion, _ = fit_fusion([text, noise], labels, groups(300))
    new_text, _, new_labels = outputs(2000, seed=2)
    new_noise = np.random.default_rng(4).normal(size=new_text.shape) * 5
    assert accuracy(fusion.logits(new_text, new_noise), new_labels) > accuracy(new_text, new_labels) - 0.02


def test_three_models_of_which_each_product_lacks_one():
    given, labels = three_outputs(300, seed=1)
    fusion, out_of_fold = fit_fusion(given, labels, groups(300))
    assert fusion.weight.shape == (CLASSES, 3 * CLASSES) and fusion.means.shape == (3, CLASSES)
    assert np.isfinite(out_of_fold).all()
    new, new_labels = three_outputs(2000, seed=2)
    together = accuracy(fusion.logits(*new), new_labels)
    for values in new:
        assert together > accuracy(values, new_labels) + 0.05
    with pytest.raises(ValueError):  # as many outputs as models
        fusion.logits(*new[:2])


def test_figures_for_the_listings_of_the_fit_are_out_of_fold():
    generator = np.random.default_rng(0)
    text, image = generator.normal(size=(2, 60, CLASSES))  # nothing to learn: any skill on these rows is memory
    labels = generator.integers(CLASSES, size=60)
    fusion, out_of_fold = fit_fusion([text, image], labels, groups(60), l2=1e-6)
    assert accuracy(fusion.logits(text, image), labels) > 0.5
    assert accuracy(out_of_fold, labels) < 0.4


def test_copies_of_a_text_share_a_fold():
    text, image = np.random.default_rng(0).normal(size=(2, 60, CLASSES))
    labels = np.arange(60) % CLASSES
    text, image, labels = (np.concatenate([values, values]) for values in (text, image, labels))
    _, together = fit_fusion([text, image], labels, groups(60) * 2, l2=1e-6)
    _, apart = fit_fusion([text, image], labels, groups(120), l2=1e-6)
    assert accuracy(together, labels) < accuracy(apart, labels) - 0.1
    assert np.allclose(together[:60], together[60:], atol=1e-4)


def test_the_l2_has_the_least_loss_out_of_fold(fitted):
    text, image, labels = outputs(300, seed=1)
    fusion, out_of_fold = fitted
    assert L2_BOUNDS[0] * 1.5 < fusion.l2 < L2_BOUNDS[1] / 1.5
    for l2 in (1e-4, 1e-2, 1, 1e3):
        _, other = fit_fusion([text, image], labels, groups(300), l2=l2)
        assert loss(out_of_fold, labels) <= loss(other, labels) + 1e-3
    _, again = fit_fusion([text, image], labels, groups(300), l2=fusion.l2)
    assert np.allclose(again, out_of_fold)


def test_the_stronger_the_l2_the_more_the_layer_is_a_weighted_sum():
    text, image, labels = outputs(300, seed=1)
    fusion, _ = fit_fusion([text, image], labels, groups(300), l2=STRONG)
    for block in np.split(fusion.weight, 2, axis=1):  # (C, C) each
        scale = np.diag(block).mean()
        assert scale > 0.2 and np.allclose(block, scale * np.eye(CLASSES), atol=2e-3)
    assert np.abs(fusion.bias).max() < 2e-3
    free, _ = fit_fusion([text, image], labels, groups(300), l2=1e-4)
    assert max(np.ptp(np.diag(block)) for block in np.split(free.weight, 2, axis=1)) > 0.1


def test_something_missing_counts_as_the_mean_of_its_model(fitted):
    fusion, _ = fitted
    text, image, _ = outputs(300, seed=1)
    assert np.allclose(fusion.means[1], np.nanmean(image, axis=0), atol=1e-6)
    nothing = np.full_like(text, np.nan)
    mean_photo = np.broadcast_to(fusion.means[1], text.shape)
    assert (fusion.logits(text, nothing) == fusion.logits(text, mean_photo)).all()
    assert np.isfinite(fusion.logits(nothing, nothing)).all()


def test_a_class_without_a_product_and_few_products_are_no_obstacle():
    text, image, labels = outputs(12, seed=5)
    fusion, out_of_fold = fit_fusion([text, image], np.minimum(labels, 3), ["one", "two"] * 6)
    assert fusion.weight.shape == (CLASSES, 2 * CLASSES) and np.isfinite(out_of_fold).all()


def test_one_description_alone_or_no_photo_in_the_validation_split_is_one_sentence():
    text, image, labels = outputs(12, seed=5)
    with pytest.raises(UserError, match=r"^fusion needs two different descriptions [^\n]*\.$"):
        fit_fusion([text, image], labels, ["one"] * 12)
    with pytest.raises(UserError, match=r"^fusion needs a photo in the validation split: [^\n]*\.$"):
        fit_fusion([text, np.full_like(image, np.nan)], labels, groups(12))


def test_products_are_fused_by_those_of_the_validation_split():
    given, labels = three_outputs(120, seed=1)
    splits = np.array(["train", "validation", "validation", "test"] * 30)
    products = pd.DataFrame({"main_category_code": labels, "split": splits, "group": groups(120)})
    rows = rows_of_split(products, "validation")
    fusion, logits = fuse_products(given, products)
    alone, out_of_fold = fit_fusion([values[rows] for values in given], labels[rows], products["group"].iloc[rows])
    assert fusion.layer_hash() == alone.layer_hash() and logits.dtype == np.float32
    assert (logits[rows] == out_of_fold).all()
    rest = splits != "validation"
    assert (logits[rest] == fusion.logits(*given)[rest]).all()
