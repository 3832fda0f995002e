"""Late fusion: a linear layer on the outputs of several models, fitted on listings that none was trained on."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.optimize import minimize, minimize_scalar
from scipy.special import log_softmax
from sklearn.model_selection import GroupKFold
from threadpoolctl import threadpool_limits

from marketplace.data_folder import UserError
from marketplace.listings import rows_of_split

FOLDS = 5
L2_BOUNDS = (1e-4, 1e3)  # from a free layer to a weighted sum


@dataclass
class Fusion:
    """A fitted linear layer on the outputs (N, C) of k models.

    Outputs are logits or log probabilities; rows of NaN are missing and count as the model's mean output.
    """

    weight: np.ndarray  # (C, kC) float32
    bias: np.ndarray  # (C,) float32
    means: np.ndarray  # (k, C) float32: the mean output of each model
    l2: float | None = None  # the regularisation, chosen by cross-validation

    def logits(self, *outputs: np.ndarray) -> np.ndarray:
        """Logits (N, C) float32 of the k models' outputs (N, C)."""
        return (_features(outputs, self.means) @ self.weight.T + self.bias).astype(np.float32)

    def layer_hash(self) -> str:
        """sha256 of the numbers: equal for equal layers only."""
        return hashlib.sha256(b"".join(array.tobytes() for array in (self.weight, self.bias, self.means))).hexdigest()


def fit_fusion(
    outputs: Sequence[np.ndarray],
    labels: np.ndarray,
    groups: Sequence[str],
    *,
    l2: float | None = None,
    seed: int = 7,
) -> tuple[Fusion, np.ndarray]:
    """Fit the layer on the outputs (N, C) of k models for listings with `labels` (N,); also returns logits (N, C)
    float32 of each listing from a fit without its fold.

    The layer minimises the mean cross-entropy plus `l2` times the squares of its bias and of its deviation from a
    weighted sum of the outputs, whose k weights are free. With few listings it is that sum, with many it has weights
    for each category. Without `l2` the one with the lowest cross-entropy out of fold is taken; listings of one group
    share a fold.

    Raises UserError when all listings are of one group, or when a model has no output at all.
    """
    folds = min(FOLDS, len(set(groups)))
    if folds < 2:
        raise UserError("fusion needs two different descriptions in the validation split: give more listings.")
    if any(np.isnan(values).all() for values in outputs):
        raise UserError("fusion needs a photo in the validation split: add photos, or train without fusion.")
    means = np.stack([np.nanmean(values, axis=0, dtype=np.float64) for values in outputs])
    features, targets = _features(outputs, means), np.asarray(labels, np.int64)
    splits = list(GroupKFold(folds, shuffle=True, random_state=seed).split(features, groups=np.asarray(groups)))

    def out_of_fold(strength: float) -> np.ndarray:
        logits = np.zeros((len(targets), means.shape[1]))
        for fitted, held_out in splits:
            weight, bias = _fit_layer(features[fitted], targets[fitted], strength, len(means))
            logits[held_out] = features[held_out] @ weight.T + bias
        return logits

    def loss(log_l2: float) -> float:
        return -float(log_softmax(out_of_fold(np.exp(log_l2)), axis=1)[np.arange(len(targets)), targets].mean())

    with threadpool_limits(1):  # with arrays this small, threads only wait for each other
        if l2 is None:
            result = minimize_scalar(loss, bounds=np.log(L2_BOUNDS), method="bounded", options={"xatol": 0.3})
            l2 = float(np.exp(result.x))
        held_out = out_of_fold(l2)
        weight, bias = _fit_layer(features, targets, l2, len(means))
    layer = [values.astype(np.float32) for values in (weight, bias, means)]
    return Fusion(layer[0], layer[1], layer[2], l2), held_out.astype(np.float32)


def fuse_products(outputs: Sequence[np.ndarray], products: pd.DataFrame, seed: int = 7) -> tuple[Fusion, np.ndarray]:
    """The fusion of k models by their outputs (N, C) for all products, fitted on those of the validation split, and its
    logits (N, C) float32, out of fold on that split. Raises UserError as `fit_fusion`."""
    rows = rows_of_split(products, "validation")
    labels = products["main_category_code"].to_numpy(np.int64)[rows]
    held_out = [values[rows] for values in outputs]
    fusion, out_of_fold = fit_fusion(held_out, labels, products["group"].iloc[rows], seed=seed)
    logits = fusion.logits(*outputs)
    logits[rows] = out_of_fold
    return fusion, logits


def _features(outputs: Sequence[np.ndarray], means: np.ndarray) -> np.ndarray:
    """The outputs side by side (N, kC), with means (k, C) in place of rows of NaN."""
    filled = [np.where(np.isnan(values), mean, values) for values, mean in zip(outputs, means, strict=True)]
    return np.concatenate(filled, axis=1, dtype=np.float64)


def _fit_layer(features: np.ndarray, targets: np.ndarray, l2: float, models: int) -> tuple[np.ndarray, np.ndarray]:
    """Weight (C, kC) and bias (C,) with the lowest penalised cross-entropy on features (N, kC)."""
    classes = features.shape[1] // models
    sums = np.tile(np.eye(classes), models)  # (C, kC): k identity matrices, the weight of a plain sum
    one_hot = np.eye(classes)[targets]  # (N, C)

    def layer(parameters: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        # parameters (k + C + C * kC,): one scale for each model, the bias, and deviations (C, kC) from the scaled sum
        scales, bias, deviations = np.split(parameters, [models, models + classes])
        return np.repeat(scales, classes) * sums + deviations.reshape(classes, -1), bias

    def loss_and_gradient(parameters: np.ndarray) -> tuple[float, np.ndarray]:
        weight, bias = layer(parameters)
        log_probabilities = log_softmax(features @ weight.T + bias, axis=1)
        error = (np.exp(log_probabilities) - one_hot) / len(targets)  # (N, C)
        slope = error.T @ features  # (C, kC): the gradient of the weight
        scales = (slope * sums).reshape(classes, models, classes).sum(axis=(0, 2))  # (k,): that of the scales
        penalised = np.concatenate([np.zeros(models), parameters[models:]])  # all but the scales
        gradient = np.concatenate([scales, error.sum(axis=0), slope.ravel()]) + 2 * l2 * penalised
        loss = -(one_hot * log_probabilities).sum() / len(targets) + l2 * (penalised**2).sum()
        return loss, gradient

    start = np.zeros(models + classes + classes * models * classes)
    start[:models] = 1 / models
    return layer(minimize(loss_and_gradient, start, jac=True, method="L-BFGS-B", options={"maxiter": 300}).x)
