"""How CombinedModel's last layer is fitted: on what the two branches say about products they were not trained on."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from sklearn.model_selection import GroupKFold
from torch import nn
from torch.nn import functional as F

from models.combined_model import CombinedModel

STRENGTHS = tuple(10.0**exponent for exponent in np.arange(-4, 1.5, 0.5))


@dataclass
class Fusion:
    """A fitted last layer and how well it did on products that it was not fitted on."""

    weight: torch.Tensor  # (C, 2C) float32
    bias: torch.Tensor  # (C,) float32
    mean_text_output: torch.Tensor  # (C,) float32: stands in for a missing text
    mean_image_output: torch.Tensor  # (C,) float32: stands in for a missing photo
    strength: float  # of the regularisation, chosen by cross-validation
    losses: dict[float, float]  # out-of-fold cross-entropy of every strength
    out_of_fold: np.ndarray  # (N, C) float32: logits of each product from a fit without its fold


def fit_combined_model(
    text_logits: np.ndarray,
    image_logits: np.ndarray,
    labels: np.ndarray,
    groups: Sequence[str],
    *,
    strengths: Sequence[float] = STRENGTHS,
    folds: int = 5,
    seed: int = 7,
) -> Fusion:
    """Fit the last layer on the outputs (N, C) of both branches for products with `labels` (N,).

    An image output is the mean of a product's photos; rows of NaN are missing and become the branch's mean. Products
    of one group share a fold. The layer is L2-regularised towards a weighted sum of the two outputs, the two weights
    free: with few products the fit is that sum, with many it learns which branch to trust for which category. Classes
    without a product are no obstacle.
    """
    outputs = [np.asarray(values, np.float64) for values in (text_logits, image_logits)]
    means = [np.nanmean(values, axis=0) for values in outputs]
    filled = [np.where(np.isnan(values), mean, values) for values, mean in zip(outputs, means, strict=True)]
    features = torch.from_numpy(np.concatenate(filled, axis=1))  # (N, 2C)
    targets = torch.from_numpy(np.asarray(labels, np.int64))
    folds = min(folds, len(set(groups)))
    splits = list(GroupKFold(folds, shuffle=True, random_state=seed).split(features, groups=np.asarray(groups)))
    predictions = {}
    for strength in strengths:
        predictions[strength] = torch.zeros(len(targets), len(means[0]), dtype=torch.float64)
        for fitted, held_out in splits:
            weight, bias = _fit_layer(features[fitted], targets[fitted], strength)
            predictions[strength][held_out] = F.linear(features[held_out], weight, bias)
    losses = {strength: F.cross_entropy(logits, targets).item() for strength, logits in predictions.items()}
    best = min(losses, key=losses.get)
    weight, bias = _fit_layer(features, targets, best)
    return Fusion(
        weight.float(),
        bias.float(),
        *(torch.from_numpy(mean).float() for mean in means),
        strength=float(best),
        losses=losses,
        out_of_fold=predictions[best].float().numpy(),
    )


def combined_model(text_model: nn.Module, image_model: nn.Module, fusion: Fusion) -> CombinedModel:
    """The CombinedModel of two trained branches and a fitted last layer, in evaluation mode."""
    model = CombinedModel(text_model, image_model, len(fusion.bias))
    with torch.no_grad():
        model.fusion[0].weight.copy_(fusion.weight)
        model.fusion[0].bias.copy_(fusion.bias)
        model.mean_text_output.copy_(fusion.mean_text_output)
        model.mean_image_output.copy_(fusion.mean_image_output)
    return model.eval()


def _fit_layer(features: torch.Tensor, targets: torch.Tensor, strength: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Weight (C, 2C) and bias (C,) of least mean cross-entropy plus `strength` times the squared deviations."""
    classes = features.shape[1] // 2
    scales = torch.full((2, 1), 0.5, dtype=features.dtype, requires_grad=True)
    deviations = torch.zeros(classes, 2 * classes, dtype=features.dtype, requires_grad=True)
    bias = torch.zeros(classes, dtype=features.dtype, requires_grad=True)
    identities = torch.eye(classes, dtype=features.dtype).repeat(2, 1, 1)  # (2, C, C)

    def weight() -> torch.Tensor:
        return torch.cat(list(scales[:, :, None] * identities), dim=1) + deviations

    optimizer = torch.optim.LBFGS([scales, deviations, bias], max_iter=200, line_search_fn="strong_wolfe")

    def loss() -> torch.Tensor:
        optimizer.zero_grad()
        value = F.cross_entropy(F.linear(features, weight(), bias), targets)
        value = value + strength * (deviations.square().sum() + bias.square().sum())
        value.backward()
        return value

    optimizer.step(loss)
    return weight().detach(), bias.detach()
