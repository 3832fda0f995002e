"""Training on leaf categories (`Sofas`, `Lamps`) a network that predicts main categories (`Home & Garden`).

Products of one main category have little in common in words or shape; the leaf category is the more informative label.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from models.training import Learner


class LeafCategories(Learner):
    """A network (`model`) for C main categories with a second last layer for their L leaf categories.

    In training mode the output is log P(main) + log P(leaf | main), (N, L); its cross-entropy with the leaf as label is
    that of the main category plus that of the leaf within it. In evaluation mode the output is the model's own, (N, C).
    Source: Morin and Bengio, Hierarchical Probabilistic Neural Network Language Model, 2005.
    """

    main_of_leaf: Tensor  # (L,)
    belongs: Tensor  # (C, L)

    def __init__(self, model: nn.Module, main_of_leaf: Sequence[int] | np.ndarray):
        super().__init__(model)
        last = self._last_layer()
        self.leaf_layer = nn.Linear(last.in_features, len(main_of_leaf))
        main = torch.as_tensor(np.asarray(main_of_leaf, np.int64))
        self.register_buffer("main_of_leaf", main, persistent=False)
        belongs = main[None] == torch.arange(last.out_features)[:, None]
        self.register_buffer("belongs", belongs, persistent=False)

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

    def as_validated(self, logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Outputs of training, (B, L), as log P(main), (B, C), and the main categories of the leaves in `labels`."""
        main = torch.where(self.belongs, logits[:, None], -1e4).logsumexp(2)
        return main, self.main_of_leaf[labels]


def leaf_labels(categories: Sequence[str], main_codes: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """Leaf numbers (N,) of N products from their category paths, and the main category (L,) of each leaf; int64."""
    paths = np.array([f"{code:09d}/{path}" for path, code in zip(categories, main_codes, strict=True)])
    leaves, labels = np.unique(paths, return_inverse=True)
    return labels.astype(np.int64), np.array([int(leaf[:9]) for leaf in leaves], np.int64)
