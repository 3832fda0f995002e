"""Trained models are loaded, and predict the category of many listings or of one, here."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.special import softmax
from torch import Tensor, nn

from marketplace.data_folder import MODEL_FILES, DataFolder, QueryError, UserError
from marketplace.listings import mean_per_product
from marketplace.photos import Photos
from models.device import autocast
from models.networks import EMBEDDING_SCALE, CombinedModel, ImageModel, TextModel, evaluation_transform
from models.text_encoder import TextEncoder, Texts, mean_embeddings
from shallow.fusion import Fusion
from shallow.saving import load_model
from shallow.words import log_probabilities

CONTENT = {"model", "weights", "labels", "configuration", "validation"}
NETWORKS = {"combined": CombinedModel, "text": TextModel, "image": ImageModel}


def checkpoint_path(data_dir: str | Path, name: str, kind: str = "best") -> Path:
    """Path of the checkpoint of the network `name` ("text", "image", "combined"): of its best epoch, or, as kind
    "last", of an unfinished training."""
    return DataFolder(data_dir).checkpoints / f"{name}_model_{kind}.pt"


def all_finite(value: Any) -> bool:
    """Whether no number in a nest of dicts, lists, tensors and plain values is NaN or infinite."""
    if isinstance(value, dict | list | tuple):
        return all(map(all_finite, value.values() if isinstance(value, dict) else value))
    return not isinstance(value, Tensor | float) or bool(torch.isfinite(torch.as_tensor(value)).all())


def load_checkpoint(
    path: str | Path,
    model: nn.Module | None = None,
    labels: list[str] | None = None,
    device: torch.device | str = "cpu",
) -> dict[str, Any]:
    """Read a checkpoint onto `device`, and its weights into `model` if one is given.

    Raises UserError when the file is missing, damaged, of another kind or of an earlier version, when it holds another
    network or another number of classes than `model`, and when its categories are not `labels`.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"the checkpoint {path} is missing: run train_models.py first.")
    with open(path, "rb") as file:
        try:
            checkpoint = torch.load(file, map_location=device, weights_only=True)
        except Exception as error:  # a damaged file fails in many ways, all of them harmless with weights_only
            raise UserError(
                f"the checkpoint {path} is damaged or of another kind ({type(error).__name__}): "
                "give another file, or run train_models.py again."
            ) from None
    if not isinstance(checkpoint, dict) or not checkpoint.keys() >= CONTENT:
        raise UserError(f"the checkpoint {path} is of another kind: give another file, or run train_models.py again.")
    settings = checkpoint["configuration"]
    if "encoder" in settings and settings.get("embedding_scale") != EMBEDDING_SCALE:
        raise UserError(
            f"the checkpoint {path} is of an earlier version, which learnt from other numbers of the text encoder: run "
            "train_models.py again, without --resume."
        )
    if labels is not None and checkpoint["labels"] != list(labels):
        different = sorted(set(checkpoint["labels"]) ^ set(labels)) or ["in another order"]
        raise UserError(
            f"the checkpoint {path} was trained on other categories than those of the data ({', '.join(different)}): "
            "run train_models.py again, without --resume."
        )
    if model is not None:
        load_weights(model, checkpoint, path)
    return checkpoint


def load_weights(model: nn.Module, checkpoint: dict[str, Any], path: Path) -> None:
    """Load the weights of a checkpoint read from `path` into `model`; raises UserError when they do not fit."""
    name = type(model).__name__
    if not all_finite(checkpoint):
        raise UserError(f"the checkpoint {path} has numbers that are NaN or infinite: run train_models.py again.")
    if checkpoint["model"] != name:
        raise UserError(f"the checkpoint {path} holds a {checkpoint['model']}, not a {name}: give another file.")
    try:
        model.load_state_dict(checkpoint["weights"])
    except RuntimeError:
        raise UserError(
            f"the checkpoint {path} holds a {name} of another version or number of categories "
            f"({len(checkpoint['labels'])}): give another file, or run train_models.py again."
        ) from None


def text_outputs(model: nn.Module, texts: Texts, device: torch.device) -> np.ndarray:
    """Logits (N, C) float32 of every product: the mean over the windows of its text."""
    logits = _logits(model, texts.embeddings, torch.Tensor.float, device)
    return mean_per_product(logits, texts.product_rows, int(texts.product_rows[-1]) + 1).astype(np.float32)


def photo_outputs(model: nn.Module, photos: Photos, device: torch.device) -> np.ndarray:
    """Logits (P, C) float32 of every photo."""
    return _logits(model, photos.pixels, evaluation_transform, device)


@torch.inference_mode()
def _logits(model: nn.Module, inputs, transform: Callable, device: torch.device, batch_size: int = 128) -> np.ndarray:
    """Logits (M, C) float32 of all inputs; raises UserError when one is not finite."""
    model.to(device).eval()
    batches = []
    for start in range(0, len(inputs), batch_size):
        batch = transform(torch.from_numpy(inputs[start : start + batch_size]).to(device))
        with autocast(device):
            batches.append(model(batch).float().cpu())
    logits = torch.cat(batches)
    if not logits.isfinite().all():
        raise UserError(
            f"the outputs of {type(model).__name__} are not numbers: lower the learning rate or look at the data."
        )
    return logits.numpy()


@dataclass(frozen=True)
class Prediction:
    """A main category and its probability."""

    category: str
    probability: float


@dataclass(frozen=True)
class Categories:
    """The most probable categories of a product, best first, and the name of the model that gave them."""

    model: str
    predictions: list[Prediction]


@dataclass
class Predictor:
    """A trained model and what it expects as input.

    `parts` give the outputs (1, C) of one product: "text" and "mean_embedding" those of the embedded windows of its
    text (W, 50, 768), "image" of the pixels of its photo (S, S, 3) uint8, "tfidf" of its text. If there are
    several, `fusion` combines them.
    """

    name: str
    path: Path
    device: torch.device
    labels: list[str]
    parts: dict[str, Callable[..., np.ndarray]]
    fusion: Fusion | None = None
    encoder: str | None = None  # of texts; None where none is needed
    image_size: int | None = None  # in pixels; None where no photo is looked at
    encoder_weights: str | None = None  # `TextEncoder.weights_hash`; unknown to checkpoints of earlier versions
    temperature: float = 1.0

    @property
    def reads_text(self) -> bool:
        return self.parts.keys() != {"image"}

    @property
    def photo_size(self) -> int:
        """Pixels of the side of a photo; raises QueryError when the model reads no photo."""
        if self.image_size is None:
            raise QueryError(f"the {self.name} model reads no photo: leave it out, or use another model.")
        return self.image_size

    @cached_property
    def text_encoder(self) -> TextEncoder | None:
        """That of `encoder`; raises UserError as TextEncoder."""
        return None if self.encoder is None else TextEncoder(self.encoder, self.device, self.encoder_weights)

    def predict(self, text: str | None, pixels: np.ndarray | None, count: int) -> Categories:
        """The `count` most probable categories of a product from a cleaned text, a photo (S, S, 3) uint8, or both.

        Raises QueryError when there is a text and the model reads none, UserError as `probabilities`.
        """
        windows = None
        if text is not None:
            if not self.reads_text:
                raise QueryError(f"the {self.name} model reads no text: leave it out, or use another model.")
            if self.text_encoder is not None:
                windows = self.text_encoder.encode(self.text_encoder.windows(text))
        return Categories(self.name, self.top(self.probabilities(text, windows, pixels), count))

    def main_category(self, text: str) -> tuple[str | None, str]:
        """The most probable category of a cleaned text, None when the model reads none; and how it was found, in
        words."""
        if not self.reads_text:
            return None, f"the {self.name} model reads no text: give --category"
        best = self.predict(text, None, 1).predictions[0]
        return best.category, f"{best.probability:.0%} by the {self.name} model, which knows main categories"

    @torch.inference_mode()
    def probabilities(self, text: str | None, windows: np.ndarray | None, pixels: np.ndarray | None) -> np.ndarray:
        """Probabilities (C,) of the categories from a text, its embedded windows where there is an encoder, a photo's
        pixels, or all of them."""
        inputs = {"text": windows, "mean_embedding": windows, "image": pixels, "tfidf": text}
        missing = np.full((1, len(self.labels)), np.nan)
        outputs = [missing if inputs[part] is None else output(inputs[part]) for part, output in self.parts.items()]
        logits = self.fusion.logits(*outputs) if self.fusion else outputs[0]
        probabilities = softmax(logits[0].astype(np.float64) / self.temperature)
        if not np.isfinite(probabilities).all():
            raise UserError(f"{self.path} gives probabilities that are not numbers: run train_models.py again.")
        return probabilities

    def top(self, probabilities: np.ndarray, count: int) -> list[Prediction]:
        """The `count` most probable categories, best first."""
        best = np.argsort(-probabilities, kind="stable")[:count]
        return [Prediction(self.labels[place], float(probabilities[place])) for place in best]


def load_predictor(
    folder: DataFolder, device: torch.device, name: str | None = None, checkpoint: Path | None = None
) -> Predictor:
    """The model `name` of a data folder, by default the first of `MODEL_FILES` that is there, or the network of a
    `checkpoint` file.

    Raises UserError as `load_checkpoint` and `load_model`, and when a fused model belongs to another CombinedModel.
    """
    paths = {name: folder.checkpoints / file for name, file in MODEL_FILES.items()}
    name = name or next(iter(folder.trained_models()), "combined")
    path = checkpoint or paths[name]
    if checkpoint or name in NETWORKS:
        predictor = _network_predictor(path, device)
        if not checkpoint and predictor.name != name:
            raise UserError(f"{path} holds a {predictor.name} model: run train_models.py again, or give --checkpoint.")
        return predictor
    words = ("combined_model",) if name == "fused" else ("mean_embedding", "encoder", "encoder_weights")
    content = load_model(path, "tfidf", "fusion", *words)
    labels = content["labels"]

    def tfidf(text: str) -> np.ndarray:
        return log_probabilities(content["tfidf"], np.array([text]), len(labels))

    def mean_embedding(windows: np.ndarray) -> np.ndarray:
        embedding = mean_embeddings(windows).mean(0, keepdims=True)
        return log_probabilities(content["mean_embedding"], embedding, len(labels))

    if name == "tfidf":
        return Predictor(name, path, device, labels, {"tfidf": tfidf})
    fusion = Fusion(**content["fusion"]) if name in ("fused", "shallow_text") else None
    if name == "fused":
        combined = _network_predictor(paths["combined"], device)
        if combined.fusion is None or content["combined_model"] != combined.fusion.layer_hash():
            raise UserError(
                f"{path} belongs to another CombinedModel than the one beside it: run train_models.py again, or give "
                "--model combined."
            )
        parts = combined.parts | {"tfidf": tfidf}
        return replace(combined, name=name, path=path, parts=parts, fusion=fusion, temperature=1.0)
    parts = {"tfidf": tfidf, "mean_embedding": mean_embedding} if fusion else {"mean_embedding": mean_embedding}
    encoder = {"encoder": content["encoder"], "encoder_weights": content["encoder_weights"]}
    return Predictor(name, path, device, labels, parts, fusion, **encoder)


def _network_predictor(path: Path, device: torch.device) -> Predictor:
    """The network of a checkpoint on `device`; raises UserError as `load_checkpoint`."""
    checkpoint = load_checkpoint(path, device=device)
    names = {network.__name__: name for name, network in NETWORKS.items()}
    if checkpoint["model"] not in names:
        raise UserError(f"the checkpoint {path} belongs to an unfinished training: give a *_best.pt file.")
    name = names[checkpoint["model"]]
    model = NETWORKS[name](num_classes=len(checkpoint["labels"]))
    load_weights(model, checkpoint, path)
    model.to(device).eval()
    combined = model if isinstance(model, CombinedModel) else None
    text_model = combined.text_model if combined else model
    image_model = combined.image_model if combined else model

    def text(windows: np.ndarray) -> np.ndarray:
        return text_model(torch.from_numpy(windows).float().to(device)).mean(0, keepdim=True).cpu().numpy()

    def image(pixels: np.ndarray) -> np.ndarray:
        return image_model(evaluation_transform(torch.tensor(pixels[None]).to(device))).cpu().numpy()

    parts = {"text": text, "image": image}
    settings = checkpoint["configuration"]
    if not settings.get("temperature", 1.0) > 0:
        raise UserError(f"the checkpoint {path} has a temperature that is not above 0: run train_models.py again.")
    return Predictor(
        name,
        path,
        device,
        checkpoint["labels"],
        parts if combined else {name: parts[name]},
        combined.last_layer() if combined else None,
        settings.get("encoder"),
        settings.get("image_size"),
        settings.get("encoder_weights"),
        settings.get("temperature", 1.0),
    )
