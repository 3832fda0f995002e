"""Training by the leaf categories: a network for main categories learns what tells `Sofas` from `Lamps`, too.

A main category holds things that look and read nothing like each other. A network that is told the leaf learns from
each example what it is, and not only which heap of different things it lies on.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn


class LeafCategories(nn.Module):
    """A network (`model`) for C main categories, and while it trains a second last layer for their L leaves.

    In training the output is log P(main) + log P(leaf | main), a logit for each leaf (N, L), for a cross-entropy with
    the leaf as label: that is the cross-entropy of the main category plus that of the leaf within it. In evaluation it
    is the model's own output, (N, C). Source: Morin and Bengio, Hierarchical Probabilistic Neural Network Language
    Model, 2005.
    """

    def __init__(self, model: nn.Module, main_of_leaf: Sequence[int] | np.ndarray):
        super().__init__()
        self.model = model
        last = self._last_layer()
        self.leaf_layer = nn.Linear(last.in_features, len(main_of_leaf))
        main = torch.as_tensor(np.asarray(main_of_leaf, np.int64))
        self.register_buffer("main_of_leaf", main, persistent=False)
        belongs = main[None] == torch.arange(last.out_features)[:, None]
        self.register_buffer("belongs", belongs, persistent=False)  # (C, L)

    def _last_layer(self) -> nn.Linear:
        return [module for module in self.model.modules() if isinstance(module, nn.Linear)][-1]

    def forward(self, inputs: Tensor) -> Tensor:
        if not self.training:
            return self.model(inputs)
        hidden: list[Tensor] = []
        hook = self._last_layer().register_forward_pre_hook(lambda module, arguments: hidden.append(arguments[0]))
        try:
            main = self.model(inputs).float().log_softmax(1)  # (N, C)
        finally:
            hook.remove()
        leaf = self.leaf_layer(hidden[0]).float()  # (N, L)
        totals = torch.where(self.belongs, leaf[:, None], -1e4).logsumexp(2)  # (N, C)
        return main[:, self.main_of_leaf] + leaf - totals[:, self.main_of_leaf]


def leaf_labels(categories: Sequence[str], main_codes: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """Numbers (N,) of the category paths of N products, and the main category (L,) of each number; both int64."""
    paths = np.array([f"{code:09d}/{path}" for path, code in zip(categories, main_codes, strict=True)])
    leaves, labels = np.unique(paths, return_inverse=True)
    return labels.astype(np.int64), np.array([int(leaf[:9]) for leaf in leaves], np.int64)


def soft_leaf_labels(leaves: np.ndarray, main_of_leaf: np.ndarray, teacher: np.ndarray, share: float) -> np.ndarray:
    """Targets (N, L) float32 of a cross-entropy over leaves: 1 - `share` for the true leaf (N,) of each row, and
    `share` for what the `teacher` (N, C) says of its main categories.

    What goes to the true main category goes to the true leaf; what goes to another is spread over its leaves as they
    are frequent.
    """
    rows = np.arange(len(leaves))
    frequencies = np.bincount(leaves, minlength=len(main_of_leaf)).astype(np.float64)
    frequencies /= np.bincount(main_of_leaf, frequencies)[main_of_leaf]
    targets = teacher[:, main_of_leaf] * frequencies
    true = main_of_leaf[leaves]
    targets[main_of_leaf == true[:, None]] = 0
    targets[rows, leaves] = teacher[rows, true]
    targets *= share / targets.sum(axis=1, keepdims=True)
    targets[rows, leaves] += 1 - share
    return targets.astype(np.float32)
