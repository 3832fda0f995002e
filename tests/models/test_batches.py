"""Embedded texts of a data folder, and batches of inputs and labels."""

import numpy as np
import pandas as pd
import pytest
import torch

from models.text_encoder import TextEncoder, Texts, load_texts, mean_embeddings, product_embeddings
from models.training import Batches

ROWS = np.array([1, 3, 5, 7, 9, 11, 13, 15])


def batches(count: int = 8, size: int = 3, **options) -> Batches:
    inputs = np.arange(20, dtype=np.float16)[:, None] * np.ones((1, 3), np.float16)
    return Batches(inputs, ROWS[:count], ROWS[:count] * 10, size, **options)


def labels_of(batches: Batches) -> list[list[int]]:
    return [labels.tolist() for _, labels in batches]


def test_an_epoch_has_every_row_once_with_its_own_label():
    for shuffle in (False, True):
        epoch = list(batches(shuffle=shuffle))
        assert [len(labels) for _, labels in epoch] == [3, 3, 2] and len(batches()) == 3
        seen = torch.cat([inputs[:, 0] for inputs, _ in epoch])
        assert sorted(seen.tolist()) == ROWS.tolist()
        assert (torch.cat([labels for _, labels in epoch]) == seen * 10).all()


def test_a_shuffled_epoch_has_no_batch_of_one():
    assert [len(labels) for labels in labels_of(batches(7))] == [3, 3, 1]
    assert [len(labels) for labels in labels_of(batches(7, shuffle=True))] == [3, 3]


def test_a_restored_random_state_gives_the_same_order_again():
    shuffled = batches(shuffle=True)
    state = torch.get_rng_state()
    first, second = labels_of(shuffled), labels_of(shuffled)
    torch.set_rng_state(state)
    assert labels_of(shuffled) == first != second


@pytest.mark.parametrize(("count", "shuffle", "expected"), [(8, True, 2), (7, True, 1), (6, False, 2), (1, False, 0)])
def test_processes_have_equal_parts_of_every_batch(count, shuffle, expected):
    state, parts = torch.get_rng_state(), []
    for rank in (0, 1):
        torch.set_rng_state(state)
        parts.append(labels_of(batches(count, 4, shuffle=shuffle, rank=rank, world_size=2)))
    torch.set_rng_state(state)
    whole = labels_of(batches(count, 4, shuffle=shuffle))
    assert len(parts[0]) == len(parts[1]) == expected
    for batch, one, other in zip(whole, *parts, strict=False):
        assert len(one) == len(other) and {*one, *other} == set(batch) and set(one).isdisjoint(other)


def test_a_transform_gets_the_whole_batch():
    inputs, _ = next(iter(batches(transform=lambda inputs: inputs.float() - inputs.float().mean(0))))
    assert inputs[:, 0].tolist() == [-2, 0, 2]


def test_the_mean_is_over_the_tokens_without_padding():
    embeddings = np.zeros((3, 50, 768), np.float16)
    embeddings[0, :2] = [[1.0], [3.0]]
    embeddings[1, :1] = 4
    assert mean_embeddings(embeddings, block=2)[:, 0].tolist() == [2, 4, 0]
    assert product_embeddings(Texts(embeddings, np.array([0, 0, 1])), 2)[:, 0].tolist() == [3, 0]


def test_every_window_of_a_listing_begins_with_its_name(tmp_path):
    names, descriptions = ["Approx. 5 m HDMI cable", "Lamp"], ["Hardly used, in its box. " * 20, "Brass."]
    texts = load_texts(tmp_path, pd.DataFrame({"product_name": names, "product_description": descriptions}))
    encoder = TextEncoder()
    windows = [encoder.windows(*pair) for pair in zip(names, descriptions, strict=True)]
    assert len(windows[0]) > 1 and all(window.startswith("Approx. 5 m HDMI cable. ") for window in windows[0])
    assert texts.product_rows.tolist() == [0] * len(windows[0]) + [1]
    expected = encoder.encode([*windows[0], *windows[1]])
    assert np.abs(texts.embeddings[:].astype(float) - expected).max() < 0.4  # bfloat16
