"""Batches of inputs and labels: every example once, shared equally by the processes."""

import numpy as np
import pytest
import torch

from marketplace.data_folder import UserError
from models.training import Batches

ROWS = np.array([1, 3, 5, 7, 9, 11, 13, 15])


def batches(count: int = 8, size: int = 3, **options) -> Batches:
    inputs = np.arange(20, dtype=np.float16)[:, None] * np.ones((1, 3), np.float16)
    transform = options.pop("transform", torch.Tensor.float)
    return Batches(inputs, ROWS[:count], ROWS[:count] * 10, size, transform, torch.device("cpu"), **options)


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


@pytest.mark.parametrize(("count", "expected"), [(8, 2), (7, 1), (1, 0)])
def test_processes_have_equal_parts_of_every_batch(count, expected):
    state, parts = torch.get_rng_state(), []
    for rank in (0, 1):
        torch.set_rng_state(state)
        parts.append(labels_of(batches(count, 4, shuffle=True, process=(rank, 2))))
    torch.set_rng_state(state)
    whole = labels_of(batches(count, 4, shuffle=True))
    assert len(parts[0]) == len(parts[1]) == expected
    for batch, one, other in zip(whole, *parts, strict=False):
        assert len(one) == len(other) and {*one, *other} == set(batch) and set(one).isdisjoint(other)


@pytest.mark.parametrize(("size", "processes"), [(32, 3), (4, 4), (1, 1)])
def test_batches_that_the_processes_cannot_share_are_refused(size, processes):
    with pytest.raises(UserError, match=f"batches of {size} cannot be shared equally by {processes} processes"):
        batches(size=size, shuffle=True, process=(0, processes))


def test_a_transform_gets_the_whole_batch():
    inputs, _ = next(iter(batches(transform=lambda inputs: inputs.float() - inputs.float().mean(0))))
    assert inputs[:, 0].tolist() == [-2, 0, 2]
