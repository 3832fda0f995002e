"""ranking/vectors.py: how words and photos become one unit vector of a product."""

import json

import numpy as np
import pytest
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

from marketplace.data_folder import UserError
from ranking.quality import ranking_metrics, relevance_grades
from ranking.vectors import Features, VectorSpace, fit_discriminant, fit_space, root_of_probabilities

PATHS = [f"{main} / {leaf}" for main in ("Home", "Sport", "Music") for leaf in ("one", "two", "three")]
SPLITS = ["train"] * 6 + ["validation", "validation", "test"]


def some_features(per_path: int = 18, noise: float = 4.0, seed: int = 5) -> tuple[Features, list[str], list[str]]:
    """Features of products whose words tell the leaf category and whose photos tell nothing; some have no photo."""
    generator = np.random.default_rng(seed)
    paths = [path for path in PATHS for _ in range(per_path)]
    leaf = np.repeat(np.arange(len(PATHS)), per_path)
    main = leaf // 3
    signal = np.concatenate([generator.normal(size=(len(PATHS), 768))[leaf] / 6], axis=1)
    words = signal + noise * generator.normal(size=(len(paths), 768)) / 4 + 1
    look = generator.normal(size=(len(paths), 32))
    photo_output = generator.normal(size=(len(paths), 3))
    look[::10], photo_output[::10] = np.nan, np.nan
    features = Features(words, 4 * np.eye(3)[main] + generator.normal(size=(len(paths), 3)), look, photo_output)
    return features, paths, [SPLITS[row % 9] for row in range(len(paths))]


@pytest.fixture(scope="module")
def fitted():
    features, paths, splits = some_features()
    return fit_space(features, paths, splits, dimension=48), features, np.array(paths, object), np.array(splits)


def test_roots_of_probabilities_are_unit_vectors_and_missing_ones_are_zero():
    roots = root_of_probabilities(np.array([[0.0, 0.0], [1000.0, 0.0], [np.nan, 1.0]]))
    assert np.allclose(roots, [[np.sqrt(0.5), np.sqrt(0.5)], [1, 0], [0, 0]])


def test_the_discriminant_is_that_of_scikit_learn_where_nothing_is_shrunk():
    generator = np.random.default_rng(0)
    labels = np.repeat([0, 1, 2], [30, 50, 20])
    features = generator.normal(size=(100, 4)) + np.eye(4)[labels]
    ours = fit_discriminant(features, labels, shrinkage=0.0)
    logits = features @ ours["weights"] + ours["bias"]
    expected = LinearDiscriminantAnalysis(solver="lsqr").fit(features, labels).predict_log_proba(features)
    probabilities = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    assert np.allclose(probabilities, expected, atol=1e-3)


def test_every_product_has_a_unit_vector_with_or_without_photo(fitted):
    space, features, _, _ = fitted
    for some in (features, features.without_photos(), features.without_texts().rows(np.array([1, 2, 3]))):
        vectors = space.vectors(some)
        assert vectors.shape[1] == 48
        assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)


def test_blocks_are_as_wide_as_their_parts_and_of_length_one(fitted):
    space, features, _, _ = fitted
    blocks = space.blocks(features)
    assert list(blocks) == ["words", "text_path", "text_category", "look", "photo_path", "photo_category"]
    assert [block.shape[1] for block in blocks.values()] == [384, 12, 3, 32, 12, 3]
    assert np.allclose(np.linalg.norm(blocks["text_path"], axis=1), 1, atol=1e-5)
    assert not blocks["look"][::10].any()


def test_photos_that_tell_nothing_weigh_next_to_nothing(fitted):
    space = fitted[0]
    assert sum(space.weights.values()) == pytest.approx(1)
    assert sum(space.weights[name] for name in ("look", "photo_path", "photo_category")) < 0.15
    assert space.weights["words"] >= 0.1


def test_the_ranking_of_test_products_beats_their_words_alone(fitted):
    space, features, paths, splits = fitted
    train, test = np.flatnonzero(splits == "train"), np.flatnonzero(splits == "test")
    grades = relevance_grades(paths[test], paths[train])
    ranked = space.vectors(features.rows(test)) @ space.vectors(features.rows(train)).T
    words = space.blocks(features)["words"]
    both = ranking_metrics(ranked, grades)["ndcg"].mean()
    assert both > ranking_metrics(words[test] @ words[train].T, grades)["ndcg"].mean()
    assert both > 0.8


def test_test_products_have_no_say():
    features, paths, splits = some_features()
    test = np.flatnonzero(np.array(splits) == "test")
    changed = Features(*(part.copy() for part in features.parts()))
    for part in changed.parts():
        part[test] = 7.0
    first, second = fit_space(features, paths, splits), fit_space(changed, paths, splits)
    assert first.weights == second.weights
    assert all(np.array_equal(first.arrays[name], second.arrays[name]) for name in first.arrays)


def test_cutting_the_vectors_hardly_changes_their_inner_products(fitted):
    space, features, _, splits = fitted
    train = features.rows(np.flatnonzero(splits == "train"))
    whole = space.vectors(train, cut=False)
    cut = fit_space(*some_features(), dimension=100).vectors(train)
    assert cut.shape[1] == 100 < whole.shape[1]
    assert np.abs(cut @ cut.T - whole @ whole.T).max() < 0.1


def test_a_space_out_of_its_saved_parts_is_the_same(fitted):
    space, features, _, _ = fitted
    arrays, values = space.save_to()
    again = VectorSpace(arrays, **json.loads(json.dumps(values)))
    assert np.array_equal(again.vectors(features), space.vectors(features))


def test_text_alone_and_a_leaf_with_one_product_are_enough():
    features, paths, splits = some_features(per_path=9)
    paths = ["Alone / here", *paths[1:]]
    space = fit_space(Features(words=features.words), paths, splits)
    assert set(space.weights) == {"words", "text_path"}
    assert np.allclose(np.linalg.norm(space.vectors(Features(words=features.words)), axis=1), 1, atol=1e-5)


def test_without_validation_products_the_blocks_weigh_the_same():
    features, paths, _ = some_features(per_path=4)
    space = fit_space(features, paths, ["train"] * len(paths))
    assert set(space.weights.values()) == {1 / 6}


def test_without_train_products_the_fault_is_a_sentence():
    features, paths, _ = some_features(per_path=2)
    with pytest.raises(UserError, match="no listing is in the train split"):
        fit_space(features, paths, ["test"] * len(paths))


def test_photos_of_which_train_has_none_are_left_out():
    features, paths, splits = some_features(per_path=9)
    train = np.array(splits) == "train"
    features.look[train], features.photo_output[train] = np.nan, np.nan
    space = fit_space(features, paths, splits)
    assert "look" not in space.weights
    assert np.allclose(np.linalg.norm(space.vectors(features), axis=1), 1, atol=1e-5)
