"""One unit vector for each listing from its text and its photos; a query may have only one of the two.

A vector is made of six blocks, each of length 1:

- `text_embedding`: the mean of the text encoder's tokens;
- `text_leaf_category`: probabilities of the leaf and main categories, by a linear discriminant on that embedding;
- `text_main_category`: probabilities of the main categories, by TextModel;
- `image_embedding`, `image_leaf_category`, `image_main_category`: the same from the last hidden layer and the logits
  of ImageModel, each the mean over the photos of a listing.

Probabilities enter as square roots, which have length 1; the inner product of two is the Bhattacharyya coefficient.
The weights of the blocks are chosen by NDCG@10 with validation listings as queries among train listings. Finally the
vectors are projected on their principal axes among the train listings.
"""

import warnings
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import softmax
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

from marketplace.data_folder import UserError
from marketplace.listings import main_of
from ranking.index import unit_rows
from ranking.quality import choose_weights, relevance_grades

TEXT_LAYERS = 2  # all-MiniLM-L6-v2: two hidden layers side by side
DIMENSION = 256  # without measurable loss of NDCG; one kilobyte for each listing
SHRINKAGE = 0.1  # of the covariance towards a multiple of the identity
TEMPERATURE = 3.0  # of the discriminants, whose probabilities are overconfident
# similar texts come first within a leaf category, and a query by photo alone never has a vector of zeros
MINIMUM_WEIGHTS = {"text_embedding": 0.1, "image_embedding": 0.01}
MAXIMUM_FIT = 20_000  # train listings
MAXIMUM_QUERIES, MAXIMUM_CORPUS = 1_000, 5_000  # validation and train listings for the choice of weights


@dataclass
class Features:
    """Outputs of the networks for N listings; rows of NaN for a missing text or photo, None without the network."""

    text_embedding: np.ndarray | None = None  # (N, 768) float32
    text_logits: np.ndarray | None = None  # (N, C) float32
    image_embedding: np.ndarray | None = None  # (N, 256) float32
    image_logits: np.ndarray | None = None  # (N, C) float32

    def rows(self, chosen: np.ndarray) -> "Features":
        """The features of the listings `chosen` (int64)."""
        return Features(**{name: part[chosen] for name, part in vars(self).items() if part is not None})


def root_of_probabilities(logits: np.ndarray) -> np.ndarray:
    """Square roots (N, C) of the softmax of each row, float32; rows of NaN become zeros."""
    return np.nan_to_num(np.sqrt(softmax(logits, axis=1))).astype(np.float32)


def join_blocks(blocks: Mapping[str, np.ndarray], weights: Mapping[str, float]) -> np.ndarray:
    """Unit vectors (N, sum of D) float32 from blocks {name: (N, D)} with rows of length 1, or 0 where missing.

    Each block is multiplied by the square root of its weight, so that the inner product of two vectors is the
    weighted mean of the blocks' cosines.
    """
    return unit_rows(np.concatenate([np.float32(np.sqrt(weights[name])) * blocks[name] for name in blocks], axis=1))


def fit_discriminant(embeddings: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Coefficients (D, C) and intercepts (C,) of a linear discriminant of classes 0 to C-1 on embeddings (N, D).

    Logits are `embeddings @ coefficients + intercepts`. scikit-learn gives one column for two classes, and refuses
    one class or as many classes as listings: then all logits are 0, the probabilities uniform.
    """
    classes = int(labels.max()) + 1
    if classes <= 2 or classes == len(labels):
        return np.zeros((embeddings.shape[1], classes), np.float32), np.zeros(classes, np.float32)
    discriminant = LinearDiscriminantAnalysis(solver="lsqr", shrinkage=SHRINKAGE)
    with warnings.catch_warnings():  # of classes with one listing, whose covariance is zero
        warnings.filterwarnings("ignore", "Only one sample available")
        discriminant.fit(np.asarray(embeddings, np.float64), labels)
    return discriminant.coef_.T.astype(np.float32), discriminant.intercept_.astype(np.float32)


def category_names(paths: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The leaf categories (L,) and main categories (M,) of paths (N,): what the numbers of a leaf category block stand
    for, one after the other."""
    leaf_names = np.unique(paths.astype(str))
    return leaf_names, np.unique([main_of(name) for name in leaf_names])


@dataclass
class EmbeddingSpace:
    """Turns embeddings, of texts or of photos, into two blocks."""

    mean: np.ndarray  # (layers, D / layers) float32, of the embeddings with each layer at length 1
    coefficients: np.ndarray  # (D, L) float32, of the discriminant of the leaf categories
    intercepts: np.ndarray  # (L,) float32
    main_of_leaf: np.ndarray  # (L, M) float32: 1 where a leaf category belongs to a main category, else 0

    @classmethod
    def fit(cls, embeddings: np.ndarray, paths: np.ndarray, layers: int) -> "EmbeddingSpace":
        """Fit on embeddings (N, D) of `layers` hidden layers side by side, and on category paths (N,)."""
        leaf_names, main_names = category_names(paths)
        labels = np.searchsorted(leaf_names, paths.astype(str))
        mains = np.searchsorted(main_names, [main_of(name) for name in leaf_names])
        mean = _unit_layers(embeddings, layers).mean(axis=0).reshape(layers, -1)
        coefficients, intercepts = fit_discriminant(_centred(embeddings, mean), labels)
        return cls(mean, coefficients, intercepts, np.eye(len(main_names), dtype=np.float32)[mains])

    def blocks(self, embeddings: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The embedding block (N, D / layers) and the leaf category block (N, L + M), zeros for missing embeddings.

        The discriminant uses all layers; as a block the last layer alone gives the better ranking.
        """
        centred = _centred(embeddings, self.mean)
        logits = centred @ self.coefficients + self.intercepts
        logits[~centred.any(axis=1)] = np.nan
        leaves = root_of_probabilities(logits / TEMPERATURE)
        mains = np.sqrt(leaves**2 @ self.main_of_leaf)
        last_layer = centred[:, -self.mean.shape[1] :]
        return last_layer, unit_rows(np.concatenate([leaves, mains], axis=1))


def _unit_layers(embeddings: np.ndarray, layers: int) -> np.ndarray:
    """Embeddings (N, D) with each layer at length 1; zeros for missing ones."""
    return unit_rows(embeddings.reshape(-1, embeddings.shape[1] // layers)).reshape(embeddings.shape)


def _centred(embeddings: np.ndarray, mean: np.ndarray) -> np.ndarray:
    """Embeddings (N, D) less the mean (layers, D / layers), each layer at length 1; zeros for missing ones."""
    unit = _unit_layers(embeddings, len(mean))
    return _unit_layers((unit - mean.ravel()) * unit.any(axis=1, keepdims=True), len(mean))


def feature_blocks(sides: Mapping[str, EmbeddingSpace], features: Features) -> dict[str, np.ndarray]:
    """Blocks {name: (N, width) float32} with rows of length 1, zeros for missing texts or photos.

    `sides` holds the fitted spaces of "text" and "image"; without one its two blocks are left out.
    """
    blocks = {}
    for side, embeddings, logits in (
        ("text", features.text_embedding, features.text_logits),
        ("image", features.image_embedding, features.image_logits),
    ):
        if side in sides and embeddings is not None:
            blocks[f"{side}_embedding"], blocks[f"{side}_leaf_category"] = sides[side].blocks(embeddings)
        if logits is not None:
            blocks[f"{side}_main_category"] = root_of_probabilities(logits)
    return blocks


@dataclass
class VectorSpace:
    """Turns features into unit vectors."""

    sides: dict[str, EmbeddingSpace]  # "text" and "image"
    weights: dict[str, float]  # of the blocks; they sum to 1
    axes: dict[str, np.ndarray]  # (width, D) float32 of each block

    def vectors(self, features: Features) -> np.ndarray:
        """Unit vectors (N, D) float32; missing blocks count as zeros."""
        blocks = feature_blocks(self.sides, features)
        return unit_rows(join_blocks(blocks, self.weights) @ np.concatenate([self.axes[name] for name in blocks]))

    def to_arrays(self) -> dict[str, np.ndarray]:
        """Arrays of numbers, from which `from_arrays` makes an equal space."""
        arrays = {f"axes.{name}": axes for name, axes in self.axes.items()}
        arrays |= {f"weight.{name}": np.array(weight) for name, weight in self.weights.items()}
        for side, space in self.sides.items():
            arrays |= {f"{side}.{name}": array for name, array in vars(space).items()}
        return arrays

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray]) -> "VectorSpace":
        parts: dict[str, dict[str, np.ndarray]] = defaultdict(dict)
        for key, array in arrays.items():
            part, _, name = key.partition(".")
            parts[part][name] = array
        weights = {name: float(weight) for name, weight in parts.pop("weight").items()}
        axes = parts.pop("axes")
        return cls({side: EmbeddingSpace(**fitted) for side, fitted in parts.items()}, weights, axes)


def fit_space(
    features: Features, paths: Sequence[str], splits: Sequence[str], dimension: int = DIMENSION, seed: int = 7
) -> VectorSpace:
    """Fit discriminants and axes on the train listings and choose the weights on the validation listings.

    `paths` are the category paths of the N listings, `splits` their "train", "validation" or "test". Test listings
    are not used.

    Raises UserError when there is no train listing.
    """
    generator = np.random.default_rng(seed)
    path_array, split_array = np.asarray(paths, object), np.asarray(splits, object)
    train = _sample(np.flatnonzero(split_array == "train"), MAXIMUM_FIT, generator)
    if not len(train):
        raise UserError("no listing is in the train split, so no ranking can be fitted: give more listings.")
    sides: dict[str, EmbeddingSpace] = {}
    for side, embeddings, layers in (
        ("text", features.text_embedding, TEXT_LAYERS),
        ("image", features.image_embedding, 1),
    ):
        if embeddings is not None:
            present = train[~np.isnan(embeddings[train]).any(axis=1)]
            if len(present):
                sides[side] = EmbeddingSpace.fit(embeddings[present], path_array[present], layers)
    queries = _sample(np.flatnonzero(split_array == "validation"), MAXIMUM_QUERIES, generator)
    corpus = _sample(train, MAXIMUM_CORPUS, generator)
    query_blocks = feature_blocks(sides, features.rows(queries))
    corpus_blocks = feature_blocks(sides, features.rows(corpus))
    similarities = {name: query_blocks[name] @ corpus_blocks[name].T for name in corpus_blocks}
    weights = choose_weights(similarities, relevance_grades(path_array[queries], path_array[corpus]), MINIMUM_WEIGHTS)
    axes = principal_axes(feature_blocks(sides, features.rows(train)), weights, dimension)
    return VectorSpace(sides, weights, axes)


def principal_axes(
    blocks: Mapping[str, np.ndarray], weights: Mapping[str, float], dimension: int
) -> dict[str, np.ndarray]:
    """The rows (width, D) of the D <= `dimension` leading eigenvectors of the joined blocks, for each block."""
    joined = join_blocks(blocks, weights)
    _, eigenvectors = np.linalg.eigh(joined.T @ joined)  # ascending eigenvalues
    leading = np.ascontiguousarray(eigenvectors[:, ::-1][:, :dimension])
    ends = np.cumsum([block.shape[1] for block in blocks.values()])
    return dict(zip(blocks, np.split(leading, ends[:-1]), strict=True))


def _sample(rows: np.ndarray, maximum: int, generator: np.random.Generator) -> np.ndarray:
    """At most `maximum` of the rows, drawn evenly, in order."""
    return rows if len(rows) <= maximum else np.sort(generator.choice(rows, maximum, replace=False))
