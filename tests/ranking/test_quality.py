"""ranking/quality.py: metrics against scikit-learn's and values worked out by hand, and the choice of weights."""

import numpy as np
import pytest
from sklearn.metrics import ndcg_score

from ranking.quality import best_columns, choose_weights, ndcg, ranking_metrics, relevance_grades


def test_same_leaf_is_two_same_main_one_else_nothing():
    corpus = ["Home / Mirrors", "Home / Lamps", "Home", "Garden / Mirrors"]
    grades = relevance_grades(["Home / Mirrors", "Home"], corpus)
    assert grades.tolist() == [[2, 1, 1, 0], [1, 1, 2, 0]]


def test_a_main_category_is_not_taken_for_the_beginning_of_another():
    assert relevance_grades(["Home / Lamps"], ["Home & Garden / Lamps"]).tolist() == [[0]]


def test_ndcg_is_that_of_scikit_learn():
    generator = np.random.default_rng(2)
    grades = generator.choice(3, size=(50, 40), p=[0.8, 0.15, 0.05])
    scores = generator.normal(size=grades.shape)
    ours = ranking_metrics(scores, grades, top=10)["ndcg"]
    theirs = [ndcg_score([grades[row]], [scores[row]], k=10, ignore_ties=True) for row in range(len(grades))]
    assert ours == pytest.approx(theirs, abs=1e-6)


def test_ndcg_by_hand():
    # gain: 1/log2(2) + 0 + 2/log2(4) = 2; ideal list 2, 2, 1: 2 + 2/log2(3) + 1/2
    ranked = np.array([[1, 0, 2]])
    corpus = np.array([[0, 1, 2, 2, 0]])
    assert ndcg(ranked, corpus, top=3) == pytest.approx(2 / (2.5 + 2 / np.log2(3)))
    assert ndcg(np.array([[0, 0]]), np.array([[0, 0, 0]]), top=2) == pytest.approx(0)


def test_precision_and_reciprocal_rank_by_hand():
    grades = np.array([[0, 1, 2, 0], [0, 0, 0, 0], [2, 0, 0, 0]])
    metrics = ranking_metrics(np.array([[4, 3, 2, 1]] * 3), grades, top=4)
    assert metrics["precision"].tolist() == [0.5, 0, 0.25]
    assert metrics["mrr"].tolist() == [0.5, 0, 1]
    # empty places are misses
    assert ranking_metrics(np.ones((1, 2)), np.array([[1, 1]]), top=10)["precision"].tolist() == [0.2]


def test_best_columns_are_those_of_a_full_sort():
    scores = np.random.default_rng(0).integers(0, 9, size=(40, 60)).astype(float)  # many ties
    expected = np.argsort(-scores, axis=1, kind="stable")
    assert np.array_equal(best_columns(scores, 10), expected[:, :10])
    assert np.array_equal(best_columns(scores, 100), expected)


def test_the_informative_block_gets_the_weight():
    generator = np.random.default_rng(1)
    paths = [f"{main} / {leaf}" for main in "ABC" for leaf in "xyz" for _ in range(10)]
    grades = relevance_grades(paths, paths)
    blocks = {"informative": grades + generator.normal(size=grades.shape), "noise": generator.normal(size=grades.shape)}
    weights = choose_weights(blocks, grades, minimum={})
    assert sum(weights.values()) == pytest.approx(1)
    assert weights["informative"] > 0.9
    assert choose_weights(blocks, grades, minimum={"noise": 0.3})["noise"] >= 0.3


def test_one_block_has_all_the_weight():
    assert choose_weights({"text": np.eye(3)}, np.eye(3, dtype=np.int8), minimum={"photo": 0.1}) == {"text": 1.0}
