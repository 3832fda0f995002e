"""models/ranking_quality.py: NDCG, precision and reciprocal rank against values worked out by hand."""

import numpy as np
import pytest

from ranking.quality import (
    best_columns,
    choose_weights,
    ndcg,
    precision,
    ranking_metrics,
    reciprocal_rank,
    relevance_grades,
)


def test_same_leaf_is_two_same_main_one_else_nothing():
    corpus = ["Home / Mirrors", "Home / Lamps", "Home", "Garden / Mirrors"]
    grades = relevance_grades(["Home / Mirrors", "Home"], corpus)
    assert grades.tolist() == [[2, 1, 1, 0], [1, 1, 2, 0]]


def test_a_main_category_is_not_taken_for_the_beginning_of_another():
    assert relevance_grades(["Home / Lamps"], ["Home & Garden / Lamps"]).tolist() == [[0]]


def test_ndcg_by_hand():
    # gained: 1/log2(2) + 0 + 2/log2(4) = 2; ideal list 2, 2, 1: 2 + 2/log2(3) + 1/2
    ranked = np.array([[1, 0, 2]])
    corpus = np.array([[0, 1, 2, 2, 0]])
    assert ndcg(ranked, corpus, top=3) == pytest.approx(2 / (2.5 + 2 / np.log2(3)))


def test_ndcg_is_one_for_the_ideal_list_even_when_little_suits():
    assert ndcg(np.array([[2, 1, 0, 0]]), np.array([[0, 0, 0, 1, 2, 0]]), top=4) == pytest.approx(1)
    assert ndcg(np.array([[0, 0]]), np.array([[0, 0, 0]]), top=2) == pytest.approx(0)


def test_ndcg_takes_its_ideal_from_the_whole_corpus():
    shown = np.array([[1, 1]])
    assert ndcg(shown, np.array([[1, 1]]), top=2) == pytest.approx(1)
    assert ndcg(shown, np.array([[1, 1, 2, 2]]), top=2) == pytest.approx(0.5)


def test_precision_and_reciprocal_rank_by_hand():
    ranked = np.array([[0, 1, 2, 0], [0, 0, 0, 0], [2, 0, 0, 0]])
    assert precision(ranked, 4).tolist() == [0.5, 0, 0.25]
    assert reciprocal_rank(ranked).tolist() == [0.5, 0, 1]
    assert reciprocal_rank(ranked, least_grade=2).tolist() == [pytest.approx(1 / 3), 0, 1]


def test_places_that_stay_empty_are_misses():
    assert precision(np.array([[1, 1]]), 10).tolist() == [0.2]


def test_best_columns_are_those_of_a_full_sort():
    scores = np.random.default_rng(0).integers(0, 9, size=(40, 60)).astype(float)  # many ties
    expected = np.argsort(-scores, axis=1, kind="stable")
    assert np.array_equal(best_columns(scores, 10), expected[:, :10])
    assert np.array_equal(best_columns(scores, 100), expected)


def test_metrics_of_a_perfect_and_of_a_reversed_ranking():
    grades = relevance_grades(["A / x"], ["A / x"] * 3 + ["A / y"] * 3 + ["B / x"] * 20)
    best = ranking_metrics(grades.astype(float), grades)
    worst = ranking_metrics(-grades.astype(float), grades)
    assert best["ndcg"] == pytest.approx(1)
    assert best["precision"] == pytest.approx(0.6)
    assert (best["mrr"], best["mrr_leaf"]) == (1, 1)
    assert worst["ndcg"] == worst["precision"] == worst["mrr"] == 0


def test_the_weights_find_the_block_that_says_something():
    generator = np.random.default_rng(1)
    paths = [f"{main} / {leaf}" for main in "ABC" for leaf in "xyz" for _ in range(10)]
    grades = relevance_grades(paths, paths)
    informative = grades + generator.normal(size=grades.shape)
    noise = generator.normal(size=grades.shape)
    weights, value = choose_weights({"informative": informative, "noise": noise}, grades)
    assert sum(weights.values()) == pytest.approx(1)
    assert weights["informative"] > 0.9
    assert value == pytest.approx(
        ranking_metrics(sum(weights[n] * s for n, s in (("informative", informative), ("noise", noise))), grades)[
            "ndcg"
        ].mean(),
        abs=0.01,
    )


def test_one_block_has_all_the_weight():
    weights, _ = choose_weights({"text": np.eye(3)}, np.eye(3, dtype=np.int8))
    assert weights == {"text": 1.0}
