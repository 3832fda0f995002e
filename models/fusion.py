"""How CombinedModel's last layer is fitted: on the logits of both branches for products they were not trained on."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy.optimize import minimize
from scipy.special import softmax
from sklearn.metrics import log_loss
from sklearn.model_selection import GroupKFold
from threadpoolctl import threadpool_limits
from torch import nn
from torch.nn import functional as F

from marketplace.data_folder import UserError
from marketplace.dataset import Photos, mean_per_product
from models.batches import Batches, Texts
from models.combined_model import CombinedModel
from models.image_model import evaluation_transform
from models.training import evaluate

L2_GRID = tuple(10.0 ** (exponent / 2) for exponent in range(-6, 2))


@dataclass
class Fusion:
    """A fitted last layer, and its predictions for products that it was not fitted on."""

    weight: np.ndarray  # (C, 2C) float32
    bias: np.ndarray  # (C,) float32
    mean_text_output: np.ndarray  # (C,) float32: replaces a missing text
    mean_image_output: np.ndarray  # (C,) float32: replaces a missing photo
    l2: float  # the regularisation, chosen by cross-validation
    out_of_fold: np.ndarray  # (N, C) float32: logits of each product from a fit without its fold

    def logits(self, text_logits: np.ndarray, image_logits: np.ndarray) -> np.ndarray:
        """Combined logits (N, C) float32 of the branches' logits (N, C); rows of NaN are missing."""
        text = np.where(np.isnan(text_logits), self.mean_text_output, text_logits)
        image = np.where(np.isnan(image_logits), self.mean_image_output, image_logits)
        features = np.concatenate([text, image], axis=1)  # (N, 2C)
        return (features @ self.weight.T + self.bias).astype(np.float32)


def fit_combined_model(
    text_logits: np.ndarray,
    image_logits: np.ndarray,
    labels: np.ndarray,
    groups: Sequence[str],
    *,
    grid: Sequence[float] = L2_GRID,
    folds: int = 5,
    seed: int = 7,
) -> Fusion:
    """Fit the last layer on the logits (N, C) of both branches for products with `labels` (N,).

    The image logits are the mean over a product's photos; rows of NaN are missing and become the branch's mean.
    Products of one group share a fold. The penalty is on the deviation from a weighted sum of the two logits, whose
    two weights are free: with few products the fit is that sum, with many it learns which branch to trust for which
    category.

    Raises UserError when all products are of one group, or when none has a photo.
    """
    outputs = [np.asarray(values, np.float64) for values in (text_logits, image_logits)]
    if np.isnan(outputs[1]).all():
        raise UserError(
            "CombinedModel needs a photo in the validation split: add photos, or leave combined out of --models."
        )
    folds = min(folds, len(set(groups)))
    if folds < 2:
        raise UserError("CombinedModel needs two different descriptions in the validation split: give more listings.")
    means = [np.nanmean(values, axis=0) for values in outputs]
    filled = [np.where(np.isnan(values), mean, values) for values, mean in zip(outputs, means, strict=True)]
    features, targets = np.concatenate(filled, axis=1), np.asarray(labels, np.int64)  # (N, 2C), (N,)
    splits = list(GroupKFold(folds, shuffle=True, random_state=seed).split(features, groups=np.asarray(groups)))
    predictions = {l2: _out_of_fold(features, targets, splits, l2) for l2 in grid}
    classes = range(len(means[0]))
    best = min(grid, key=lambda l2: log_loss(targets, softmax(predictions[l2], axis=1), labels=classes))
    weight, bias = _fit_layer(features, targets, best)
    arrays = [values.astype(np.float32) for values in (weight, bias, *means, predictions[best])]
    return Fusion(arrays[0], arrays[1], arrays[2], arrays[3], best, arrays[4])


def combined_model(text_model: nn.Module, image_model: nn.Module, fusion: Fusion) -> CombinedModel:
    """The CombinedModel of two trained branches and a fitted last layer, in evaluation mode."""
    model = CombinedModel(text_model, image_model, len(fusion.bias))
    layer = {"fusion.0.weight": fusion.weight, "fusion.0.bias": fusion.bias}
    means = {"mean_text_output": fusion.mean_text_output, "mean_image_output": fusion.mean_image_output}
    model.load_state_dict({name: torch.from_numpy(array) for name, array in (layer | means).items()}, strict=False)
    return model.eval()


def _out_of_fold(features: np.ndarray, targets: np.ndarray, splits: list, l2: float) -> np.ndarray:
    """Logits (N, C) of each product from a fit without its fold."""
    logits = np.zeros((len(targets), features.shape[1] // 2))
    for fitted, held_out in splits:
        weight, bias = _fit_layer(features[fitted], targets[fitted], l2)
        logits[held_out] = features[held_out] @ weight.T + bias
    return logits


def _fit_layer(features: np.ndarray, targets: np.ndarray, l2: float) -> tuple[np.ndarray, np.ndarray]:
    """Weight (C, 2C) and bias (C,) that minimise the mean cross-entropy plus `l2` times the squares of the bias and of
    the deviations of the weight from [a I, b I]; a and b are free."""
    classes = features.shape[1] // 2
    sizes = [2, classes, 2 * classes * classes]  # a and b, the bias, the deviations
    eye = torch.eye(classes, dtype=torch.float64)
    inputs, labels = torch.from_numpy(features), torch.from_numpy(targets)

    def layer(parameters: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        scales, bias, deviations = parameters.split(sizes)
        return torch.cat([scales[0] * eye, scales[1] * eye], 1) + deviations.view(classes, -1), bias

    def loss_and_gradient(values: np.ndarray) -> tuple[float, np.ndarray]:
        parameters = torch.tensor(values, requires_grad=True)
        weight, bias = layer(parameters)
        loss = F.cross_entropy(inputs @ weight.T + bias, labels) + l2 * parameters[2:].square().sum()
        (gradient,) = torch.autograd.grad(loss, parameters)
        return loss.item(), gradient.numpy()

    start = np.zeros(sum(sizes))
    start[:2] = 0.5
    with threadpool_limits(1):  # with arrays this small, threads only wait for each other
        found = minimize(loss_and_gradient, start, jac=True, method="L-BFGS-B", options={"maxiter": 300})
    weight, bias = layer(torch.from_numpy(found.x))
    return weight.numpy(), bias.numpy()


def text_outputs(model: nn.Module, texts: Texts, device: torch.device) -> np.ndarray:
    """Logits (N, C) float32 of every product: the mean over the windows of its text."""
    logits = _logits(model, texts.embeddings, torch.Tensor.float, device)
    return mean_per_product(logits, texts.product_rows, int(texts.product_rows[-1]) + 1).astype(np.float32)


def photo_outputs(model: nn.Module, photos: Photos, device: torch.device) -> np.ndarray:
    """Logits (P, C) float32 of every photo."""
    return _logits(model, photos.pixels, evaluation_transform, device)


def _logits(model: nn.Module, inputs, transform, device: torch.device) -> np.ndarray:
    count = len(inputs)
    batches = Batches(inputs, np.arange(count), np.zeros(count, np.int64), 128, transform=transform, device=device)
    return evaluate(model.to(device), batches, device)["logits"].numpy()
