"""One unit vector a product, out of its text and its photos, and the same of a query that has only one of the two.

A vector is made of blocks, each of length 1 (`models.product_index.join_blocks`):

- `words`: what the text encoder says, the mean over the tokens;
- `text_path`: how probable each leaf category is by the words, a linear discriminant fitted on the train products;
- `text_category`: how probable each main category is by TextModel;
- `look`, `photo_path`, `photo_category`: the same by the last hidden layer and the output of ImageModel, each the mean
  over the product's photos.

Of probabilities the square roots are taken: they have length 1, and their inner product (Bhattacharyya's coefficient)
is 1 for equal distributions. The weights of the blocks are chosen on validation products as queries among the train
products, by NDCG@10. Last, the vectors are turned onto the axes along which the train products differ most, and cut.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from marketplace.data_folder import UserError
from ranking.index import join_blocks, unit_rows
from ranking.quality import choose_weights, main_of, relevance_grades

TEXT_BLOCKS = ("words", "text_path", "text_category")
PHOTO_BLOCKS = ("look", "photo_path", "photo_category")
DIMENSION = 256  # costs nothing in NDCG that could be measured, and a kilobyte a product
SHRINKAGE = 0.1  # of the covariance within leaf categories towards a ball
TEMPERATURE = 3.0  # of the discriminants, which are too sure of themselves
LEAST_WEIGHTS = {"words": 0.1}  # so that within a leaf category, too, what reads alike comes first
LARGEST_FIT = 20_000  # train products that a fit looks at
LARGEST_CHOICE = (1_000, 5_000)  # validation queries and train products for the choice of weights


@dataclass
class Features:
    """What the networks say of N products; a row of NaN where a product has no text or no photo.

    words (N, 768): mean of the encoder's tokens; look (N, 256): ImageModel's last hidden layer, mean of the photos;
    text_output, photo_output (N, C): logits. A network that is not there leaves None.
    """

    words: np.ndarray | None = None
    text_output: np.ndarray | None = None
    look: np.ndarray | None = None
    photo_output: np.ndarray | None = None

    def rows(self, chosen: np.ndarray) -> "Features":
        """The features of some of the products."""
        return Features(*(None if part is None else part[chosen] for part in self.parts()))

    def parts(self) -> tuple[np.ndarray | None, ...]:
        return self.words, self.text_output, self.look, self.photo_output

    def without_photos(self) -> "Features":
        return Features(self.words, self.text_output, *(_all_missing(part) for part in self.parts()[2:]))

    def without_texts(self) -> "Features":
        return Features(*(_all_missing(part) for part in self.parts()[:2]), self.look, self.photo_output)


def _all_missing(part: np.ndarray | None) -> np.ndarray | None:
    return None if part is None else np.full_like(part, np.nan)


def root_of_probabilities(logits: np.ndarray) -> np.ndarray:
    """Square roots of the softmax of each row; their squares sum to 1. Rows of NaN become zeros."""
    missing = np.isnan(logits).any(axis=1, keepdims=True)
    logits = np.where(missing, 0, logits)
    exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
    probabilities = exponentials / exponentials.sum(axis=1, keepdims=True)
    return np.where(missing, 0, np.sqrt(probabilities)).astype(np.float32)


def fit_discriminant(features: np.ndarray, labels: np.ndarray, shrinkage: float = SHRINKAGE) -> dict[str, np.ndarray]:
    """Linear discriminant of classes 0..C-1 on features (N, D): logits are `features @ weights + bias`.

    All classes share the covariance within classes, shrunk towards a ball of the same volume; Hastie, Tibshirani and
    Friedman, The Elements of Statistical Learning, section 4.3.
    """
    features = np.asarray(features, np.float64)
    counts = np.bincount(labels).astype(float)
    sums = np.zeros((len(counts), features.shape[1]))
    np.add.at(sums, labels, features)
    means = sums / counts[:, None]
    residuals = features - means[labels]
    covariance = residuals.T @ residuals / len(features)
    ball = max(np.trace(covariance) / len(covariance), 1e-9) * np.eye(len(covariance))
    weights = np.linalg.solve((1 - shrinkage) * covariance + shrinkage * ball, means.T)
    bias = np.log(counts / counts.sum()) - 0.5 * np.sum(means.T * weights, axis=0)
    return {"weights": weights.astype(np.float32), "bias": bias.astype(np.float32)}


@dataclass
class VectorSpace:
    """How features become unit vectors; everything that was fitted lies in `arrays`, so that it can be saved."""

    arrays: dict[str, np.ndarray]
    weights: dict[str, float]
    validation_ndcg: float | None = None

    def blocks(self, features: Features) -> dict[str, np.ndarray]:
        """Blocks {name: (N, D) float32} of length 1, zeros where text or photo is missing."""
        blocks = {}
        for side, (seen, output) in {
            "text": (features.words, features.text_output),
            "photo": (features.look, features.photo_output),
        }.items():
            if seen is not None and f"{side}_mean" in self.arrays:
                likeness, inputs = self._centred(side, seen)
                blocks["words" if side == "text" else "look"] = likeness
                blocks[f"{side}_path"] = self._path(side, inputs)
            if output is not None:
                blocks[f"{side}_category"] = root_of_probabilities(output)
        return blocks

    def _centred(self, side: str, seen: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Unit features less the mean of the train products, for the inner product and for the discriminant.

        The encoder's two layers count alike for the discriminant; for likeness the last alone is better.
        """
        layers = np.split(np.asarray(seen, np.float32), 2, axis=1) if side == "text" else [seen]
        joined = np.concatenate([unit_rows(layer) for layer in layers], axis=1)
        present = joined.any(axis=1, keepdims=True)
        centred = (joined - self.arrays[f"{side}_mean"]) * present
        parts = [unit_rows(part) for part in np.split(centred, len(layers), axis=1)]
        return parts[-1], np.concatenate(parts, axis=1)

    def _path(self, side: str, inputs: np.ndarray) -> np.ndarray:
        logits = inputs @ self.arrays[f"{side}_weights"] + self.arrays[f"{side}_bias"]
        leaves = root_of_probabilities(logits / TEMPERATURE)
        mains = np.sqrt(leaves**2 @ self.arrays["main_of_leaf"])
        present = inputs.any(axis=1, keepdims=True)
        return unit_rows(np.concatenate([leaves, mains], axis=1) * present)

    def vectors(self, features: Features, weights: Mapping[str, float] | None = None, cut: bool = True) -> np.ndarray:
        """Unit vectors (N, D) float32; a block that the features lack is zeros, and the rest is made unit again.

        `weights` other than those chosen, and no `cut`, are for measurements.
        """
        blocks = self.blocks(features)
        count = len(next(iter(blocks.values())))
        for name, width in zip(self.weights, self.arrays["widths"], strict=True):
            if name not in blocks:
                blocks[name] = np.zeros((count, int(width)), np.float32)
        joined = join_blocks({name: blocks[name] for name in self.weights}, weights or self.weights)
        return unit_rows(joined @ self.arrays["axes"]) if cut and "axes" in self.arrays else joined

    def save_to(self) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """Arrays and plain values from which `VectorSpace(arrays, **values)` is the same again."""
        return self.arrays, {"weights": self.weights, "validation_ndcg": self.validation_ndcg}


def fit_space(
    features: Features, paths: Sequence[str], splits: Sequence[str], dimension: int = DIMENSION, seed: int = 7
) -> VectorSpace:
    """Fit the discriminants and axes on the train products, choose the weights on the validation products.

    `paths` are the category paths of the N products, `splits` their "train", "validation" or "test". Test products
    are not looked at.

    Raises UserError when there is no train product.
    """
    generator = np.random.default_rng(seed)
    paths, splits = np.asarray(paths, object), np.asarray(splits, object)
    train = _some(np.flatnonzero(splits == "train"), LARGEST_FIT, generator)
    if not len(train):
        raise UserError(
            "no listing is in the train split, so there is nothing to fit a ranking on: give more listings."
        )
    leaf_names, leaves = np.unique(paths[train].astype(str), return_inverse=True)
    main_names, mains = np.unique([main_of(name) for name in leaf_names], return_inverse=True)
    space = VectorSpace({"main_of_leaf": np.eye(len(main_names), dtype=np.float32)[mains]}, {})
    for side, seen in (("text", features.words), ("photo", features.look)):
        if seen is not None:
            _fit_side(space, side, seen[train], leaves)
    blocks = space.blocks(features.rows(train))
    space.arrays["widths"] = np.array([block.shape[1] for block in blocks.values()])
    space.weights = {name: 1 / len(blocks) for name in blocks}
    validation = np.flatnonzero(splits == "validation")
    if len(validation):
        queries = _some(validation, LARGEST_CHOICE[0], generator)
        corpus = _some(train, LARGEST_CHOICE[1], generator)
        least = {name: share for name, share in LEAST_WEIGHTS.items() if name in blocks}
        similarities, grades = similarities_and_grades(space, features, paths, queries, corpus)
        space.weights, space.validation_ndcg = choose_weights(similarities, grades, least=least)
    joined = space.vectors(features.rows(train), cut=False)
    if joined.shape[1] > dimension:
        _, turned = np.linalg.eigh(joined.T @ joined)  # ascending
        space.arrays["axes"] = np.ascontiguousarray(turned[:, ::-1][:, :dimension], dtype=np.float32)
    return space


def similarities_and_grades(
    space: VectorSpace, features: Features, paths: np.ndarray, queries: np.ndarray, corpus: np.ndarray
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Cosines (queries, corpus) of every block, and the relevance grades, of rows of the products."""
    of_queries, of_corpus = space.blocks(features.rows(queries)), space.blocks(features.rows(corpus))
    similarities = {name: of_queries[name] @ of_corpus[name].T for name in of_queries}
    return similarities, relevance_grades(paths[queries], paths[corpus])


def _fit_side(space: VectorSpace, side: str, seen: np.ndarray, leaves: np.ndarray) -> None:
    """Fit the mean and the discriminant of a side on the train products that have it."""
    there = ~np.isnan(seen).any(axis=1)
    if not there.any():
        return
    layers = np.split(seen[there], 2, axis=1) if side == "text" else [seen[there]]
    space.arrays[f"{side}_mean"] = np.concatenate([unit_rows(layer) for layer in layers], axis=1).mean(axis=0)
    _, inputs = space._centred(side, seen[there])
    used, labels = np.unique(leaves[there], return_inverse=True)
    fitted = fit_discriminant(inputs, labels)
    count = len(space.arrays["main_of_leaf"])
    weights = np.zeros((inputs.shape[1], count), np.float32)
    bias = np.full(count, -1e4, np.float32)  # a leaf without a product on this side is never said
    weights[:, used], bias[used] = fitted["weights"], fitted["bias"]
    space.arrays[f"{side}_weights"], space.arrays[f"{side}_bias"] = weights, bias


def _some(rows: np.ndarray, most: int, generator: np.random.Generator) -> np.ndarray:
    """At most `most` of the rows, drawn evenly, in order."""
    return rows if len(rows) <= most else np.sort(generator.choice(rows, most, replace=False))
