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
from dataclasses import dataclass, field

import numpy as np
from scipy.special import softmax
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

from marketplace.data_folder import UserError
from marketplace.listings import main_of
from ranking.index import unit_rows
from ranking.quality import choose_weights, relevance_grades

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

    text_embedding: np.ndarray | None = None  # (N, layers, 768 / layers) float32: the hidden layers of the encoder
    text_logits: np.ndarray | None = None  # (N, C) float32
    image_embedding: np.ndarray | None = None  # (N, 1, 256) float32
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

    mean: np.ndarray  # (layers, D) float32, of the embeddings with each layer at length 1
    coefficients: np.ndarray  # (layers * D, L) float32, of the discriminant of the leaf categories
    intercepts: np.ndarray  # (L,) float32
    main_of_leaf: np.ndarray  # (L, M) float32: 1 where a leaf category belongs to a main category, else 0

    @classmethod
    def fit(cls, embeddings: np.ndarray, paths: np.ndarray) -> "EmbeddingSpace":
        """Fit on embeddings (N, layers, D) and category paths (N,)."""
        leaf_names, main_names = category_names(paths)
        labels = np.searchsorted(leaf_names, paths.astype(str))
        mains = np.searchsorted(main_names, [main_of(name) for name in leaf_names])
        mean = unit_rows(embeddings).mean(axis=0)
        coefficients, intercepts = fit_discriminant(_centred(embeddings, mean).reshape(len(embeddings), -1), labels)
        return cls(mean, coefficients, intercepts, np.eye(len(main_names), dtype=np.float32)[mains])

    def blocks(self, embeddings: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The embedding block (N, D) and the leaf category block (N, L + M), zeros for missing embeddings.

        The discriminant uses all layers; as a block the last layer alone gives the better ranking.
        """
        centred = _centred(embeddings, self.mean)
        logits = centred.reshape(len(centred), self.mean.size) @ self.coefficients + self.intercepts
        logits[~centred.any(axis=(1, 2))] = np.nan
        leaves = root_of_probabilities(logits / TEMPERATURE)
        mains = np.sqrt(leaves**2 @ self.main_of_leaf)
        return centred[:, -1], unit_rows(np.concatenate([leaves, mains], axis=1))


def _centred(embeddings: np.ndarray, mean: np.ndarray) -> np.ndarray:
    """Embeddings (N, layers, D) less the mean (layers, D), each layer at length 1; zeros for missing ones."""
    unit = unit_rows(embeddings)
    return unit_rows((unit - mean) * unit.any(axis=(1, 2), keepdims=True))


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
    axes: dict[str, np.ndarray]  # (width, D) float32: what each block is multiplied with
    weights: dict[str, float] = field(default_factory=dict)  # of the blocks, summing to 1; the axes contain them

    def vectors(self, features: Features) -> np.ndarray:
        """Unit vectors (N, D) float32; missing blocks count as zeros."""
        blocks = feature_blocks(self.sides, features)
        return unit_rows(sum(block @ self.axes[name] for name, block in blocks.items()))

    def to_arrays(self) -> dict[str, np.ndarray]:
        """Arrays from which `from_arrays` makes a space that gives the same vectors."""
        arrays = {f"axes {name}": axes for name, axes in self.axes.items()}
        return arrays | {f"{side} {name}": a for side, space in self.sides.items() for name, a in vars(space).items()}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray]) -> "VectorSpace":
        parts: dict[str, dict[str, np.ndarray]] = defaultdict(dict)
        for key, array in arrays.items():
            part, name = key.split(" ")
            parts[part][name] = array
        axes = parts.pop("axes")
        return cls({side: EmbeddingSpace(**fitted) for side, fitted in parts.items()}, axes)


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
    for side, embeddings in (("text", features.text_embedding), ("image", features.image_embedding)):
        if embeddings is not None:
            present = train[~np.isnan(embeddings[train]).any(axis=(1, 2))]
            if len(present):
                sides[side] = EmbeddingSpace.fit(embeddings[present], path_array[present])
    queries = _sample(np.flatnonzero(split_array == "validation"), MAXIMUM_QUERIES, generator)
    corpus = _sample(train, MAXIMUM_CORPUS, generator)
    query_blocks = feature_blocks(sides, features.rows(queries))
    corpus_blocks = feature_blocks(sides, features.rows(corpus))
    similarities = {name: query_blocks[name] @ corpus_blocks[name].T for name in corpus_blocks}
    weights = choose_weights(similarities, relevance_grades(path_array[queries], path_array[corpus]), MINIMUM_WEIGHTS)
    blocks = feature_blocks(sides, features.rows(train))
    joined = join_blocks(blocks, weights)
    eigenvectors = np.linalg.eigh(joined.T @ joined)[1]  # ascending eigenvalues
    leading = eigenvectors[:, ::-1][:, :dimension]
    ends = np.cumsum([block.shape[1] for block in blocks.values()])[:-1]
    axes = {
        name: np.float32(np.sqrt(weights[name])) * rows
        for name, rows in zip(blocks, np.split(leading, ends), strict=True)
    }
    return VectorSpace(sides, axes, weights)


def _sample(rows: np.ndarray, maximum: int, generator: np.random.Generator) -> np.ndarray:
    """At most `maximum` of the rows, drawn evenly, in order."""
    return rows if len(rows) <= maximum else np.sort(generator.choice(rows, maximum, replace=False))
