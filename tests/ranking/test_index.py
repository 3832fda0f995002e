"""ranking/index.py: search among unit vectors, filters, copies of a listing, the file of an index."""

import faiss
import numpy as np
import pytest

from marketplace.data_folder import UserError
from ranking.index import ProductIndex, build_search, exact_neighbours, join_blocks, read_about, recall, unit_rows


def clustered_vectors(count: int, dimension: int = 16, seed: int = 3) -> np.ndarray:
    generator = np.random.default_rng(seed)
    centres = generator.normal(size=(30, dimension))
    return unit_rows(centres[generator.integers(30, size=count)] + generator.normal(size=(count, dimension)) / 2)


def an_index(vectors, text_keys=None, photo_keys=(), exact_up_to=100_000, **columns) -> ProductIndex:
    count = len(vectors)
    search, about = build_search(vectors, exact_up_to)
    listings = {"id": [f"p{row}" for row in range(count)], **columns}
    keys = np.arange(count) if text_keys is None else text_keys
    return ProductIndex(search, listings, keys, np.array(photo_keys).reshape(-1, 2), about=about)


def test_unit_rows_have_length_one_and_nothing_stays_nothing():
    rows = unit_rows(np.array([[3.0, 4.0], [0.0, 0.0], [np.nan, 1.0]]))
    assert np.allclose(rows, [[0.6, 0.8], [0, 0], [0, 1]])
    assert rows.dtype == np.float32


def test_inner_product_of_joined_blocks_is_the_weighted_mean_of_cosines():
    generator = np.random.default_rng(0)
    blocks = {"text": generator.normal(size=(2, 5)), "photo": 100 * generator.normal(size=(2, 3))}
    first, second = join_blocks(blocks, {"text": 0.7, "photo": 0.3})
    cosines = {name: float(np.prod(unit_rows(block) @ unit_rows(block).T, axis=0)[0]) for name, block in blocks.items()}
    assert np.isclose(first @ first, 1)
    assert np.isclose(first @ second, 0.7 * cosines["text"] + 0.3 * cosines["photo"], atol=1e-6)


def test_a_product_without_photo_still_has_a_unit_vector():
    vectors = join_blocks({"text": np.ones((1, 4)), "photo": np.zeros((1, 2))}, {"text": 0.5, "photo": 0.5})
    assert np.isclose(np.linalg.norm(vectors), 1)
    assert not vectors[0, 4:].any()


def test_few_products_are_compared_exactly():
    vectors = clustered_vectors(500)
    index = an_index(vectors)
    expected = np.argsort(-(vectors @ vectors[7]), kind="stable")[:10]
    found = index.search(vectors[7], 10)
    assert index.about["kind"] == "exact"
    assert found.rows == expected.tolist()
    assert np.allclose(found.scores, (vectors @ vectors[7])[expected], atol=1e-6)


def test_many_products_are_searched_with_the_recall_that_was_measured():
    vectors = clustered_vectors(6_000)
    search, about = build_search(vectors, exact_up_to=5_000)
    assert about["kind"] == "IVF"
    assert about["recall_at_10"] >= 0.95
    assert about["probes"] < about["lists"]
    queries = clustered_vectors(300, seed=3)
    assert recall(search.search(queries, 10)[1], exact_neighbours(queries, vectors, 10)) > 0.9


def test_recall_is_the_share_of_the_exact_neighbours_found():
    assert recall(np.array([[1, 2, 3, 9]]), np.array([[3, 2, 1, 0]])) == 0.75


@pytest.mark.parametrize("exact_up_to", [100_000, 1_000])
def test_filters_give_as_many_as_were_asked_for(exact_up_to):
    vectors = clustered_vectors(3_000)
    index = an_index(vectors, exact_up_to=exact_up_to)
    allowed = np.zeros(3_000, bool)
    allowed[np.argsort(vectors @ vectors[0])[:25]] = True  # the 25 least like the query
    assert len(index.search(vectors[0], 25, allowed).rows) == 25
    assert set(index.search(vectors[0], 10, allowed).rows) <= set(np.flatnonzero(allowed))
    assert len(index.search(vectors[0], 60, allowed).rows) == 25  # all that exist
    assert index.search(vectors[0], 5, np.zeros(3_000, bool)).rows == []


@pytest.mark.parametrize("exact_up_to", [100_000, 1_000])
def test_copies_do_not_fill_the_page(exact_up_to):
    vectors = np.concatenate([np.repeat(clustered_vectors(1), 1_500, axis=0), clustered_vectors(1_500, seed=9)])
    text_keys = np.concatenate([np.zeros(1_500, int), np.arange(1, 1_501)])  # one listing posted 1,500 times
    index = an_index(vectors, text_keys, exact_up_to=exact_up_to)
    found = index.search(vectors[0], 10)
    assert len(found.rows) == 10
    assert sum(row < 1_500 for row in found.rows) == 1
    assert found.collapsed == 1_499
    assert len(index.search(vectors[0], 10, collapse=False).rows) == 10


def test_the_same_photo_collapses_and_chains_do_not():
    vectors = unit_rows(np.array([[1, 0], [1, 0.1], [1, 0.2], [1, 0.3]]))
    index = an_index(vectors, photo_keys=[[0, 5], [1, 5], [1, 6], [2, 6]])
    found = index.search(vectors[0], 4)
    # 1 has a photo of 0; 2 shares one with 1, which is not shown, and none with 0
    assert (found.rows, found.collapsed) == ([0, 2, 3], 1)


def test_the_query_product_and_its_copies_are_left_out():
    vectors = unit_rows(np.array([[1, 0], [1, 0.01], [1, 0.2], [0, 1]]))
    index = an_index(vectors, text_keys=[4, 4, 5, 6])
    found = index.search(index.vector(0), 3, left_out=[0])
    assert (found.rows, found.collapsed) == ([2, 3], 1)


def test_equal_scores_keep_the_order_of_the_products():
    assert an_index(np.repeat(clustered_vectors(1), 50, axis=0)).search(clustered_vectors(1)[0], 5).rows == [
        0,
        1,
        2,
        3,
        4,
    ]


@pytest.mark.parametrize("exact_up_to", [100_000, 100])
def test_a_saved_index_is_the_same_index(tmp_path, exact_up_to):
    vectors = clustered_vectors(400)
    index = an_index(vectors, photo_keys=[[2, 7]], exact_up_to=exact_up_to, name=["Stühle 🪑"] * 400, price=[1.5] * 400)
    index.arrays["mean"] = np.arange(3.0)
    index.about["fingerprint"] = {"table": "abc"}
    path = tmp_path / "index" / "product_index.npz"
    index.save(path)
    loaded = ProductIndex.load(path)
    assert loaded.listings == index.listings
    assert loaded.about == index.about == read_about(path)
    assert np.array_equal(loaded.arrays["mean"], np.arange(3.0))
    assert loaded.keys_of(2) == {("text", 2), ("photo", 7)}
    assert np.allclose(loaded.vector(17), vectors[17])
    assert loaded.search(vectors[5], 10) == index.search(vectors[5], 10)
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_a_file_with_pickled_objects_or_half_a_file_is_refused(tmp_path):
    path = tmp_path / "product_index.npz"
    np.savez(path, about=np.array([{"a": 1}], dtype=object))
    with pytest.raises(ValueError, match="no product index"):
        ProductIndex.load(path)
    an_index(clustered_vectors(50)).save(path)
    path.write_bytes(path.read_bytes()[:-2000])
    with pytest.raises(ValueError, match="no product index"):
        ProductIndex.load(path)
    assert read_about(path) is None
    assert read_about(tmp_path / "missing.npz") is None


def test_an_unknown_product_is_a_sentence():
    with pytest.raises(UserError, match="no product has the id 'nothing'"):
        an_index(clustered_vectors(5)).row("nothing")


def test_a_query_of_another_index_is_refused():
    with pytest.raises(ValueError, match="3 numbers"):
        an_index(clustered_vectors(5)).search(np.ones(3))


def test_missing_numbers_become_nan():
    column = an_index(clustered_vectors(2), price=[None, 3.0]).column("price")
    assert np.isnan(column[0])
    assert column[1] == 3.0


def test_the_library_takes_the_selector_we_give():
    # the bitmap is read by FAISS without a copy: it has to outlive the search
    index = an_index(clustered_vectors(20_000))
    allowed = np.arange(20_000) % 7 == 3
    assert all(row % 7 == 3 for row in index.search(index.vector(0), 500, allowed).rows)
    assert isinstance(index.search_index, faiss.IndexFlatIP)
