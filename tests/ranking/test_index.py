"""ranking/index.py: search among unit vectors, filters, near-duplicates, the file of an index."""

import numpy as np
import pytest

from ranking.index import ProductIndex, build_inverted_file, unit_rows

SEARCHES = pytest.mark.parametrize("exact_limit", [100_000, 100], ids=["exact", "IVF"])


def clustered_vectors(count: int, dimension: int = 16, seed: int = 3) -> np.ndarray:
    generator = np.random.default_rng(seed)
    centres = generator.normal(size=(30, dimension))
    return unit_rows(centres[generator.integers(30, size=count)] + generator.normal(size=(count, dimension)) / 2)


def an_index(vectors, duplicate_keys=None, exact_limit=100_000, **columns) -> ProductIndex:
    rows = range(len(vectors))
    columns |= {"id": [f"p{row}" for row in rows], "duplicate_keys": duplicate_keys or [[row] for row in rows]}
    inverted_file = build_inverted_file(vectors)[0] if len(vectors) > exact_limit else None
    return ProductIndex(vectors, columns, {}, {}, inverted_file)


def test_unit_rows_have_length_one_and_missing_rows_stay_zero():
    rows = unit_rows(np.array([[3.0, 4.0], [0.0, 0.0], [np.nan, np.nan]]))
    assert np.allclose(rows, [[0.6, 0.8], [0, 0], [0, 0]])
    assert rows.dtype == np.float32


def test_few_listings_are_compared_exactly():
    vectors = clustered_vectors(500)
    index = an_index(vectors)
    expected = np.argsort(-(vectors @ vectors[7]), kind="stable")[:10]
    found = index.search(vectors[7], 10)
    assert found.rows == expected.tolist()
    assert np.allclose(found.scores, (vectors @ vectors[7])[expected], atol=1e-5)


def test_many_listings_are_searched_with_the_measured_recall():
    vectors, queries = np.split(clustered_vectors(6_300), [6_000])
    inverted_file, recall = build_inverted_file(vectors)
    assert recall >= 0.95
    assert inverted_file.nprobe < inverted_file.nlist
    exact, approximate = an_index(vectors), an_index(vectors, exact_limit=5_000)
    shares = []
    for query in queries:
        expected = exact.search(query).rows
        shares.append(len(set(approximate.search(query).rows) & set(expected)) / 10)
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
    found = an_index(vectors, keys, exact_limit).search(vectors[0], 10)
    assert len(found.rows) == 10
    assert sum(row < 1_500 for row in found.rows) == 1
    assert found.collapsed == 1_499


def test_listings_that_share_any_key_are_near_duplicates_and_chains_are_not():
    vectors = unit_rows(np.array([[1, 0], [1, 0.1], [1, 0.2], [1, 0.3]]))
    found = an_index(vectors, [[0, 5], [1, 5, 6], [2, 6], [3]]).search(vectors[0], 4)
    # 1 shares a key with 0; 2 shares one with 1, which is not shown, and none with 0
    assert (found.rows, found.collapsed) == ([0, 2, 3], 1)


@SEARCHES
def test_an_excluded_listing_and_its_near_duplicates_are_not_shown(exact_limit):
    vectors = clustered_vectors(500)
    vectors[8] = vectors[7]
    keys = [[0]] * 7 + [[7], [7]] + [[row] for row in range(9, 500)]
    found = an_index(vectors, keys, exact_limit).search(vectors[7], 500, exclude=7)
    assert not {7, 8} & set(found.rows)
    assert (len(found.rows), found.collapsed) == (492, 7)


@pytest.mark.parametrize("count", [7, 50])
@pytest.mark.parametrize("dimension", [16, 48, 255, 256])
def test_equal_scores_keep_the_order_of_the_rows(count, dimension):
    vectors = np.repeat(clustered_vectors(1, dimension), count, axis=0)
    assert an_index(vectors).search(vectors[0], 5).rows == [0, 1, 2, 3, 4]


@SEARCHES
def test_a_saved_index_is_the_same_index(tmp_path, exact_limit):
    vectors = clustered_vectors(400)
    index = an_index(vectors, exact_limit=exact_limit, name=["Stühle 🪑"] * 400, price=[1.5] * 400)
    index.space["text.mean"] = np.arange(3.0)
    index.metadata["fingerprint"] = {"table": [1, 2]}
    path = tmp_path / "index" / "product_index.npz"
    index.save(path)
    loaded = ProductIndex.load(path)
    assert (loaded.listings, loaded.metadata) == (index.listings, index.metadata)
    assert np.array_equal(loaded.space["text.mean"], np.arange(3.0))
    assert np.array_equal(loaded.vectors, vectors)
    assert loaded.search(vectors[5], 10) == index.search(vectors[5], 10)
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_a_file_with_pickled_objects_or_half_a_file_is_refused(tmp_path):
    path = tmp_path / "product_index.npz"
    np.savez(path, metadata=np.array([{"a": 1}], dtype=object))
    with pytest.raises(ValueError, match="damaged"):
        ProductIndex.load(path)
    an_index(clustered_vectors(50)).save(path)
    path.write_bytes(path.read_bytes()[:-2000])
    with pytest.raises(ValueError, match="damaged"):
        ProductIndex.load(path)


def test_a_file_of_another_version_is_refused(tmp_path):
    path = tmp_path / "product_index.npz"
    np.savez(path, about=np.zeros(3))  # as version 2 had it
    with pytest.raises(ValueError, match="another version"):
        ProductIndex.load(path)
