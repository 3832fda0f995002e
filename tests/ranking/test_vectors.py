"""ranking/vectors.py: how outputs of the networks become one unit vector of a listing."""

import numpy as np
import pytest
from small_encoder import write_small_encoder

from marketplace.data_folder import UserError
from models.text_encoder import TextEncoder
from ranking.index import unit_rows
from ranking.vectors import (
    SHRINKAGE,
    Features,
    VectorSpace,
    category_names,
    feature_blocks,
    fit_discriminant,
    fit_space,
    join_blocks,
    root_of_probabilities,
)

PATHS = [f"{main} / {leaf}" for main in ("Home", "Sport", "Music") for leaf in ("one", "two", "three")]
SPLITS = ["train"] * 6 + ["validation", "validation", "test"]


def some_features(per_path: int = 18, noise: float = 4.0, seed: int = 5) -> tuple[Features, list[str], list[str]]:
    """Features of listings whose texts tell the leaf category and whose photos tell nothing; some have no photo."""
    generator = np.random.default_rng(seed)
    paths = [path for path in PATHS for _ in range(per_path)]
    leaf = np.repeat(np.arange(len(PATHS)), per_path)
    signal = generator.normal(size=(len(PATHS), 768))[leaf] / 6
    image_embedding = generator.normal(size=(len(paths), 1, 32))
    image_logits = generator.normal(size=(len(paths), 3))
    image_embedding[::10], image_logits[::10] = np.nan, np.nan
    features = Features(
        text_embedding=(signal + noise * generator.normal(size=(len(paths), 768)) / 4 + 1).reshape(-1, 2, 384),
        text_logits=4 * np.eye(3)[leaf // 3] + generator.normal(size=(len(paths), 3)),
        image_embedding=image_embedding,
        image_logits=image_logits,
    )
    return features, paths, [SPLITS[row % 9] for row in range(len(paths))]


@pytest.fixture(scope="module")
def fitted():
    features, paths, splits = some_features()
    return fit_space(features, paths, splits, dimension=48), features, np.array(paths, object), np.array(splits)


def test_roots_of_probabilities_are_unit_vectors_and_missing_ones_are_zero():
    roots = root_of_probabilities(np.array([[0.0, 0.0], [1000.0, 0.0], [np.nan, 1.0]]))
    assert np.allclose(roots, [[np.sqrt(0.5), np.sqrt(0.5)], [1, 0], [0, 0]])
    assert roots.dtype == np.float32


def test_inner_product_of_joined_blocks_is_the_weighted_mean_of_cosines():
    generator = np.random.default_rng(0)
    blocks = {name: unit_rows(generator.normal(size=(2, width))) for name, width in (("text", 5), ("image", 3))}
    first, second = join_blocks(blocks, {"text": 0.7, "image": 0.3})
    cosines = {name: float(block[0] @ block[1]) for name, block in blocks.items()}
    assert np.isclose(first @ first, 1)
    assert np.isclose(first @ second, 0.7 * cosines["text"] + 0.3 * cosines["image"], atol=1e-6)


def test_the_discriminant_has_the_logits_of_the_formula():
    """Hastie, Tibshirani and Friedman, The Elements of Statistical Learning, section 4.3, with a shrunk covariance."""
    generator = np.random.default_rng(0)
    sizes = [30, 50, 20, 1]
    labels = np.repeat(np.arange(4), sizes)
    embeddings = generator.normal(size=(len(labels), 8)) + np.eye(8)[labels]
    means = np.stack([embeddings[labels == label].mean(axis=0) for label in range(4)])
    residuals = embeddings - means[labels]
    covariance = residuals.T @ residuals / len(labels)
    covariance = (1 - SHRINKAGE) * covariance + SHRINKAGE * np.trace(covariance) / 8 * np.eye(8)
    weights = np.linalg.solve(covariance, means.T)
    expected = (
        embeddings @ weights + np.log(np.bincount(labels) / len(labels)) - 0.5 * np.sum(means.T * weights, axis=0)
    )
    coefficients, intercepts = fit_discriminant(embeddings, labels)
    assert np.allclose(embeddings @ coefficients + intercepts, expected, atol=3e-4)


@pytest.mark.parametrize("labels", [[0, 0, 0], [0, 1, 1], [0, 1, 2]])
def test_a_discriminant_that_cannot_be_fitted_gives_uniform_probabilities(labels):
    coefficients, intercepts = fit_discriminant(np.eye(3), np.array(labels))
    assert not coefficients.any() and not intercepts.any()
    assert coefficients.shape == (3, len(set(labels)))


def test_blocks_have_length_one_and_are_zero_without_photo(fitted):
    space, features, _, _ = fitted
    blocks = feature_blocks(space.sides, features)
    assert {name: block.shape[1] for name, block in blocks.items()} == {
        "text_embedding": 384,
        "text_leaf_category": 12,
        "text_main_category": 3,
        "image_embedding": 32,
        "image_leaf_category": 12,
        "image_main_category": 3,
    }
    for name, block in blocks.items():
        lengths = np.ones(len(block))
        lengths[::10] = 0 if name.startswith("image") else 1
        assert np.allclose(np.linalg.norm(block, axis=1), lengths, atol=1e-5)


def test_the_leaf_category_block_has_the_probabilities_of_the_named_categories(fitted):
    space, features, paths, splits = fitted
    train = np.flatnonzero(splits == "train")
    leaves, mains = category_names(paths[train])
    assert [*mains] == ["Home", "Music", "Sport"]
    block = feature_blocks(space.sides, features.rows(train))["text_leaf_category"]
    leaf_block, main_block = block[:, : len(leaves)], block[:, len(leaves) :]
    assert (leaves[leaf_block.argmax(axis=1)] == paths[train]).mean() > 0.9
    assert np.allclose((leaf_block**2).sum(axis=1), 0.5, atol=1e-5)
    for column, name in enumerate(mains):
        of_main = [leaf.startswith(name) for leaf in leaves]
        assert np.allclose((leaf_block[:, of_main] ** 2).sum(axis=1), main_block[:, column] ** 2, atol=1e-5)


def test_uninformative_photos_get_little_weight(fitted):
    space = fitted[0]
    assert sum(space.weights.values()) == pytest.approx(1)
    assert sum(weight for name, weight in space.weights.items() if name.startswith("image")) < 0.15
    assert space.weights["text_embedding"] >= 0.1


def test_test_listings_have_no_influence():
    features, paths, splits = some_features(per_path=9)
    changed = Features(**{name: part.copy() for name, part in vars(features).items()})
    for part in vars(changed).values():
        part[np.array(splits) == "test"] = 7.0
    first, second = fit_space(features, paths, splits).to_arrays(), fit_space(changed, paths, splits).to_arrays()
    assert first.keys() == second.keys()
    assert all(np.array_equal(first[name], second[name]) for name in first)


def test_the_projection_hardly_changes_inner_products(fitted):
    space, features, _, splits = fitted
    train = features.rows(np.flatnonzero(splits == "train"))
    whole = join_blocks(feature_blocks(space.sides, train), space.weights)
    projected = fit_space(*some_features(), dimension=100).vectors(train)
    assert projected.shape[1] == 100 < whole.shape[1]
    assert np.abs(projected @ projected.T - whole @ whole.T).max() < 0.1


def test_a_space_of_its_arrays_gives_the_same_vectors(fitted):
    space, features, _, _ = fitted
    again = VectorSpace.from_arrays(space.to_arrays())
    photo_only = Features(image_embedding=features.image_embedding[1:4], image_logits=features.image_logits[1:4])
    for some in (features, Features(features.text_embedding, features.text_logits), photo_only):
        vectors = again.vectors(some)
        assert np.array_equal(vectors, space.vectors(some))
        assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)


def test_the_number_of_layers_is_that_of_the_encoder(tmp_path):
    assert TextEncoder().layers == 2  # of all-MiniLM-L6-v2
    assert TextEncoder(str(write_small_encoder(tmp_path / "bert"))).layers == 1


@pytest.mark.parametrize(("layers", "width"), [(1, 768), (2, 384)])
def test_the_whole_last_layer_of_an_encoder_is_used(layers, width):
    features, paths, splits = some_features(per_path=9)
    text_only = Features(text_embedding=features.text_embedding.reshape(-1, layers, width))
    space = fit_space(text_only, paths, splits)
    assert feature_blocks(space.sides, text_only)["text_embedding"].shape[1] == width


def test_text_alone_and_a_leaf_with_one_listing_are_enough():
    features, paths, splits = some_features(per_path=9)
    text_only = Features(text_embedding=features.text_embedding)
    space = fit_space(text_only, ["Alone / here", *paths[1:]], splits)
    assert set(space.weights) == {"text_embedding", "text_leaf_category"}
    assert np.allclose(np.linalg.norm(space.vectors(text_only), axis=1), 1, atol=1e-5)


def test_without_validation_listings_the_blocks_have_equal_weights():
    features, paths, _ = some_features(per_path=4)
    space = fit_space(features, paths, ["train"] * len(paths))
    assert set(space.weights.values()) == {1 / 6}


def test_without_train_listings_there_is_one_sentence():
    features, paths, _ = some_features(per_path=2)
    with pytest.raises(UserError, match="no listing is in the train split"):
        fit_space(features, paths, ["test"] * len(paths))


def test_photos_that_only_other_splits_have_are_not_used():
    features, paths, splits = some_features(per_path=9)
    train = np.array(splits) == "train"
    features.image_embedding[train], features.image_logits[train] = np.nan, np.nan
    space = fit_space(features, paths, splits)
    assert "image_embedding" not in space.weights
    assert np.allclose(np.linalg.norm(space.vectors(features), axis=1), 1, atol=1e-5)
