"""ranking/index.py: search among unit vectors, filters, near-duplicates."""

import numpy as np
import pytest

from ranking.index import ProductIndex, build_inverted_file, unit_rows

SEARCHES = pytest.mark.parametrize("exact_limit", [100_000, 100], ids=["exact", "IVF"])


def clustered_vectors(count: int, dimension: int = 16, seed: int = 3) -> np.ndarray:
    generator = np.random.default_rng(seed)
    centres = generator.normal(size=(30, dimension))
    return unit_rows(centres[generator.integers(30, size=count)] + generator.normal(size=(count, dimension)) / 2)


def an_index(vectors, keys=None, exact_limit=100_000) -> ProductIndex:
    """An index of vectors with a list of keys for each; without it there are no near-duplicates."""
    keys = keys or [[row] for row in range(len(vectors))]
    return ProductIndex(
        vectors,
        listings={},
        keys=np.concatenate(keys),
        key_rows=np.repeat(np.arange(len(vectors)), [len(of_row) for of_row in keys]),
        image_ids=np.array(["a", "b", "c"]),
        image_rows=np.array([1, 1, 3]),
        image_size=64,
        space={},
        inverted_file=build_inverted_file(vectors) if len(vectors) > exact_limit else None,
    )


def test_unit_rows_have_length_one_and_missing_rows_stay_zero():
    rows = unit_rows(np.array([[3.0, 4.0], [0.0, 0.0], [np.nan, np.nan]]))
    assert np.allclose(rows, [[0.6, 0.8], [0, 0], [0, 0]])
    assert rows.dtype == np.float32


def test_few_listings_are_compared_exactly():
    vectors = clustered_vectors(500)
    expected = np.argsort(-(vectors @ vectors[7]), kind="stable")[:10]
    result = an_index(vectors).search(vectors[7], 10)
    assert result.rows == expected.tolist()
    assert np.allclose(result.scores, (vectors @ vectors[7])[expected], atol=1e-5)


def test_many_listings_are_searched_with_high_recall():
    vectors, queries = np.split(clustered_vectors(6_300), [6_000])
    exact, approximate = an_index(vectors), an_index(vectors, exact_limit=5_000)
    assert approximate.inverted_file.nprobe < approximate.inverted_file.nlist
    shares = [len(set(approximate.search(query).rows) & set(exact.search(query).rows)) / 10 for query in queries]
    assert np.mean(shares) > 0.9


@SEARCHES
def test_filters_give_as_many_as_exist(exact_limit):
    vectors = clustered_vectors(3_000)
    index = an_index(vectors, exact_limit=exact_limit)
    allowed = np.zeros(3_000, bool)
    allowed[np.argsort(vectors @ vectors[0])[:25]] = True  # the 25 least similar to the query
    assert len(index.search(vectors[0], 25, allowed).rows) == 25
    assert set(index.search(vectors[0], 10, allowed).rows) <= set(np.flatnonzero(allowed))
    assert len(index.search(vectors[0], 60, allowed).rows) == 25
    assert index.search(vectors[0], 5, np.zeros(3_000, bool)).rows == []


@SEARCHES
def test_near_duplicates_do_not_fill_the_results(exact_limit):
    vectors = np.concatenate([np.repeat(clustered_vectors(1), 1_500, axis=0), clustered_vectors(1_500, seed=9)])
    keys = [[0]] * 1_500 + [[number] for number in range(1, 1_501)]  # one listing posted 1,500 times
    result = an_index(vectors, keys, exact_limit).search(vectors[0], 10)
    assert len(result.rows) == 10
    assert sum(row < 1_500 for row in result.rows) == 1
    assert result.hidden_duplicates == 1_499


def test_listings_that_share_any_key_are_near_duplicates_and_chains_are_not():
    vectors = unit_rows(np.array([[1, 0], [1, 0.1], [1, 0.2], [1, 0.3]]))
    result = an_index(vectors, [[0, 5], [1, 5, 6], [2, 6], [3]]).search(vectors[0], 4)
    # 1 shares a key with 0; 2 shares one with 1, which is not shown, and none with 0
    assert (result.rows, result.hidden_duplicates) == ([0, 2, 3], 1)


@SEARCHES
def test_an_excluded_listing_and_its_near_duplicates_are_not_shown(exact_limit):
    vectors = clustered_vectors(500)
    vectors[8] = vectors[7]
    keys = [[0]] * 7 + [[7], [7]] + [[row] for row in range(9, 500)]
    result = an_index(vectors, keys, exact_limit).search(vectors[7], 500, exclude=7)
    assert not {7, 8} & set(result.rows)
    assert (len(result.rows), result.hidden_duplicates) == (492, 7)


@pytest.mark.parametrize("dimension", [48, 255])
def test_equal_scores_keep_the_order_of_the_rows(dimension):
    vectors = np.repeat(clustered_vectors(1, dimension), 50, axis=0)
    assert an_index(vectors).search(vectors[0], 5).rows == [0, 1, 2, 3, 4]


def test_a_listing_has_its_photos():
    index = an_index(clustered_vectors(4))
    assert [index.photos_of(row) for row in range(4)] == [[], ["a", "b"], [], ["c"]]
