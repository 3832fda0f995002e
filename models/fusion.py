"""How CombinedModel's last layer is fitted: on what the two branches say about products they were not trained on."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy.optimize import minimize
from scipy.special import log_softmax
from sklearn.model_selection import GroupKFold
from threadpoolctl import threadpool_limits
from torch import nn

from marketplace.data_folder import UserError
from marketplace.dataset import Photos, mean_per_product
from models.batches import Batches, Texts
from models.combined_model import CombinedModel
from models.image_model import evaluation_transform
from models.training import evaluate

STRENGTHS = tuple(10.0 ** (exponent / 2) for exponent in range(-6, 2))


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

    def logits(self, text_logits: np.ndarray, image_logits: np.ndarray) -> np.ndarray:
        """Combined logits (N, C) float32 of the branches' outputs (N, C); rows of NaN are missing."""
        text = np.where(np.isnan(text_logits), self.mean_text_output.numpy(), text_logits)
        image = np.where(np.isnan(image_logits), self.mean_image_output.numpy(), image_logits)
        features = np.concatenate([text, image], axis=1)  # (N, 2C)
        return (features @ self.weight.numpy().T + self.bias.numpy()).astype(np.float32)


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

    Raises UserError when all products are of one group.
    """
    outputs = [np.asarray(values, np.float64) for values in (text_logits, image_logits)]
    means = [np.nanmean(values, axis=0) for values in outputs]
    filled = [np.where(np.isnan(values), mean, values) for values, mean in zip(outputs, means, strict=True)]
    features = np.concatenate(filled, axis=1)  # (N, 2C)
    targets = np.asarray(labels, np.int64)
    folds = min(folds, len(set(groups)))
    if folds < 2:
        raise UserError("CombinedModel needs two different descriptions in the validation split: give more listings.")
    splits = list(GroupKFold(folds, shuffle=True, random_state=seed).split(features, groups=np.asarray(groups)))
    predictions = {}
    for strength in strengths:
        predictions[strength] = np.zeros((len(targets), len(means[0])))
        for fitted, held_out in splits:
            weight, bias = _fit_layer(features[fitted], targets[fitted], strength)
            predictions[strength][held_out] = features[held_out] @ weight.T + bias
    every = np.arange(len(targets))
    losses = {s: float(-log_softmax(logits, axis=1)[every, targets].mean()) for s, logits in predictions.items()}
    best = min(losses, key=losses.get)
    weight, bias = _fit_layer(features, targets, best)
    return Fusion(
        *(torch.from_numpy(values).float() for values in (weight, bias, *means)),
        strength=best,
        losses=losses,
        out_of_fold=predictions[best].astype(np.float32),
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


def _fit_layer(features: np.ndarray, targets: np.ndarray, strength: float) -> tuple[np.ndarray, np.ndarray]:
    """Weight (C, 2C) and bias (C,) of least mean cross-entropy plus `strength` times the squared deviations.

    The weight is [a I, b I] + deviations; a and b are free.
    """
    classes = features.shape[1] // 2
    wanted = np.eye(classes)[targets]  # (N, C)

    def layer(numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        weight = numbers[2 + classes :].reshape(classes, 2 * classes).copy()
        diagonal = np.arange(classes)
        weight[diagonal, diagonal] += numbers[0]
        weight[diagonal, classes + diagonal] += numbers[1]
        return weight, numbers[2 : 2 + classes]

    def loss(numbers: np.ndarray) -> tuple[float, np.ndarray]:
        weight, bias = layer(numbers)
        logits = features @ weight.T + bias
        log_probabilities = log_softmax(logits, axis=1)
        value = -(wanted * log_probabilities).sum() / len(targets) + strength * np.square(numbers[2:]).sum()
        by_logits = (np.exp(log_probabilities) - wanted) / len(targets)  # (N, C)
        by_weight = by_logits.T @ features  # (C, 2C)
        by_scales = [np.trace(by_weight[:, :classes]), np.trace(by_weight[:, classes:])]
        gradient = np.concatenate([by_scales, by_logits.sum(0), by_weight.ravel()])
        gradient[2:] += 2 * strength * numbers[2:]
        return value, gradient

    start = np.zeros(2 + classes + 2 * classes * classes)
    start[:2] = 0.5
    with threadpool_limits(1):  # on arrays this small threads only wait for each other
        return layer(minimize(loss, start, jac=True, method="L-BFGS-B", options={"maxiter": 300}).x)


def text_outputs(model: nn.Module, texts, device: torch.device) -> np.ndarray:
    """Logits (N, C) of every product: the mean of the windows of its text, or, where `texts` is an array
    (N, 50, 768), of the one text that it has there."""
    texts = texts if isinstance(texts, Texts) else Texts.one_each(texts)
    outputs = _outputs(model, texts.embeddings, torch.Tensor.float, device)
    return mean_per_product(outputs, texts.product_rows, int(texts.product_rows[-1]) + 1).astype(np.float32)


def photo_outputs(model: nn.Module, photos: Photos, device: torch.device) -> np.ndarray:
    """Logits (P, C) of every photo; `mean_per_product` makes those of the products of them."""
    return _outputs(model, photos.pixels, evaluation_transform, device)


def _outputs(model: nn.Module, inputs, transform, device: torch.device) -> np.ndarray:
    count = len(inputs)
    batches = Batches(inputs, np.arange(count), np.zeros(count, np.int64), 128, transform=transform, device=device)
    return evaluate(model.to(device), batches, device)["logits"].numpy()
