"""Trained models of a product's category: how they are loaded, and their logits for many products or for one."""

import sys
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.special import softmax
from sklearn.pipeline import Pipeline
from torch import Tensor, nn

from marketplace.data_folder import DataFolder, QueryError, UserError
from marketplace.listing_text import joined_text, query_parts
from marketplace.listings import load_main_categories, mean_per_product
from marketplace.photos import Photos
from models.device import autocast
from models.networks import EMBEDDING_SCALE, CombinedModel, ImageModel, TextModel, evaluation_transform
from models.text_encoder import TextEncoder, Texts
from shallow.fusion import Fusion
from shallow.saving import load_model
from shallow.words import log_probabilities

NETWORKS: dict[str, type[nn.Module]] = {"combined": CombinedModel, "text": TextModel, "image": ImageModel}


def load_checkpoint(
    path: str | Path,
    model: nn.Module | None = None,
    labels: list[str] | None = None,
    device: torch.device | str = "cpu",
) -> dict[str, Any]:
    """Read a checkpoint onto `device`, and its weights into `model` if one is given.

    Raises UserError when the file is missing or unreadable, was trained on other categories than `labels`, or does not
    fit `model`.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"the checkpoint {path} is missing: run train_models.py first.")
    try:
        checkpoint = torch.load(path, map_location=device, weights_only=True)
        trained_on, configuration = checkpoint["labels"], checkpoint["configuration"]
    except Exception as error:  # a damaged file fails in many ways, all of them harmless with weights_only
        raise UserError(
            f"the checkpoint {path} is unreadable ({type(error).__name__}): run train_models.py again."
        ) from None
    if labels is not None and trained_on != labels:
        raise UserError(
            f"the checkpoint {path} was trained on other categories than those of the data: "
            "run train_models.py again, without --resume."
        )
    if model is not None:
        try:
            if "encoder" in configuration and configuration.get("embedding_scale") != EMBEDDING_SCALE:
                raise RuntimeError("it was trained on embeddings of another scale")
            model.load_state_dict(checkpoint["weights"])
        except RuntimeError:
            raise UserError(
                f"the checkpoint {path} does not fit {type(model).__name__}, as another network or version wrote it: "
                "run train_models.py again, without --resume."
            ) from None
    return checkpoint


def load_network(
    folder: DataFolder, name: str, categories: list[str], device: torch.device
) -> tuple[nn.Module, dict[str, Any]]:
    """The trained network `name` of `NETWORKS` on `device`, in evaluation mode, and its configuration.

    Raises UserError when its checkpoint is missing, unreadable or not one for these categories.
    """
    model = NETWORKS[name](num_classes=len(categories))
    checkpoint = load_checkpoint(folder.checkpoint(name), model, categories, device)
    return model.to(device).eval(), checkpoint["configuration"]


@torch.inference_mode()
def network_outputs(
    model: nn.Module, inputs, transform: Callable[[Tensor], Tensor], device: torch.device, batch_size: int = 128
) -> np.ndarray:
    """Outputs (M, C) float32 of a network for all inputs (M, ...), which `transform` prepares in batches on `device`.

    Raises UserError when an output is not finite.
    """
    model.to(device).eval()
    batches = []
    for start in range(0, len(inputs), batch_size):
        batch = transform(torch.from_numpy(inputs[start : start + batch_size]).to(device))
        with autocast(device):
            batches.append(model(batch).float().cpu())
    outputs = torch.cat(batches)
    if not outputs.isfinite().all():
        raise UserError(
            f"the outputs of {type(model).__name__} are not numbers: train it again, with a lower learning rate."
        )
    return outputs.numpy()


def text_outputs(model: nn.Module, texts: Texts, device: torch.device) -> np.ndarray:
    """Logits (N, C) float32 of every product: the mean over the windows of its text."""
    outputs = network_outputs(model, texts.embeddings, Tensor.float, device)
    return mean_per_product(outputs, texts.product_rows, int(texts.product_rows[-1]) + 1).astype(np.float32)


def photo_outputs(model: nn.Module, photos: Photos, device: torch.device) -> np.ndarray:
    """Logits (P, C) float32 of every photo."""
    return network_outputs(model, photos.pixels, evaluation_transform, device)


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
    """A trained model of a data folder: a network for texts, one for photos, TF-IDF, or several of them with a fusion
    of their logits in this order."""

    name: str
    labels: list[str]
    device: torch.device
    text_model: nn.Module | None = None
    text_encoder: TextEncoder | None = None
    image_model: nn.Module | None = None
    image_size: int | None = None  # pixels
    tfidf: Pipeline | None = None
    fusion: Fusion | None = None
    temperature: float = 1.0

    @property
    def photo_size(self) -> int:
        """Pixels of the side of a photo for `predict`; raises QueryError when the model reads no photo."""
        if self.image_size is None:
            raise QueryError(f"the {self.name} model reads no photo: leave it out, or train all networks.")
        return self.image_size

    def logits(self, text: tuple[str, str] | None, pixels: np.ndarray | None) -> np.ndarray:
        """Logits (C,), divided by the temperature, of a product from a text (cleaned name and description), a photo
        (S, S, 3) uint8, or both. What is missing counts as the mean output of its part.

        Raises QueryError when there is a text and the model reads none.
        """
        if text is not None and self.text_model is None:
            raise QueryError(f"the {self.name} model reads no text: leave it out, or train all networks.")
        missing = np.full((1, len(self.labels)), np.nan)
        outputs = []  # (1, C) each
        if self.text_model is not None and self.text_encoder is not None:
            outputs.append(missing)
            if text is not None:
                windows = self.text_encoder.encode(self.text_encoder.windows(*text))
                texts = Texts(windows, np.zeros(len(windows), np.int64))
                outputs[-1] = text_outputs(self.text_model, texts, self.device)
        if self.image_model is not None:
            outputs.append(missing)
            if pixels is not None:
                outputs[-1] = network_outputs(self.image_model, np.array([pixels]), evaluation_transform, self.device)
        if self.tfidf is not None:
            words = None if text is None else np.array([joined_text(*text)])
            outputs.append(missing if words is None else log_probabilities(self.tfidf, words, len(self.labels)))
        logits = self.fusion.logits(*outputs) if self.fusion else outputs[0]
        return logits[0].astype(np.float64) / self.temperature

    def predict(
        self, text: str | None, pixels: np.ndarray | None, count: int = 3, name: str | None = None
    ) -> Categories:
        """The `count` most probable categories of a product from a text, a photo (S, S, 3) uint8, or both.

        The text may be uncleaned; without a `name`, its first line is the name. Raises QueryError as `query_parts`, and
        when there is a text and the model reads none.
        """
        probabilities = softmax(self.logits(None if text is None else query_parts(text, name), pixels))
        best = np.argsort(-probabilities, kind="stable")[:count]
        return Categories(self.name, [Prediction(self.labels[row], float(probabilities[row])) for row in best])

    def main_category(self, text: str, name: str | None, known: Collection[str]) -> tuple[str | None, str]:
        """The most probable category of a text if it is one of `known`, else None; and how it was found, in words."""
        if self.text_model is None:
            return None, f"the {self.name} model reads no text: give --category"
        best = self.predict(text, None, 1, name).predictions[0]
        if best.category not in known:
            return None, f"the {self.name} model predicts {best.category}, for which the price model has no data"
        return best.category, f"{best.probability:.0%} by the {self.name} model, which predicts main categories"


def load_predictor(folder: DataFolder, device: torch.device) -> Predictor:
    """The best trained model of a data folder: "fused" (CombinedModel and TF-IDF), else "combined", "text" or "image".

    A model that is unreadable, or that does not belong to the categories or the networks of the folder, is left out
    with a warning on stderr. Raises UserError when no model is left.
    """
    categories = load_main_categories(folder.path)
    paths = {"fused": folder.fused_model} | {name: folder.checkpoint(name) for name in NETWORKS}
    faults: list[UserError] = []
    for name in [name for name, path in paths.items() if path.is_file()]:
        try:
            if name == "fused":
                predictor = _fused_predictor(folder, categories, device)
            else:
                predictor = _network_predictor(folder, name, categories, device)
        except UserError as error:
            faults.append(error)
            continue
        for fault in faults:
            print(f"warning: {fault}", file=sys.stderr)
        return predictor
    raise faults[0] if faults else UserError(f"no model is in {folder.checkpoints}: run train_models.py first.")


def _network_predictor(folder: DataFolder, name: str, categories: list[str], device: torch.device) -> Predictor:
    """One network; raises UserError as `load_network` and TextEncoder."""
    model, configuration = load_network(folder, name, categories, device)
    predictor = Predictor(name, categories, device, temperature=configuration.get("temperature", 1.0))
    if name != "image":
        predictor.text_model = getattr(model, "text_model", model)  # of CombinedModel, or the network itself
        predictor.text_encoder = TextEncoder(configuration["encoder"], device, configuration.get("encoder_weights"))
    if name != "text":
        predictor.image_model = getattr(model, "image_model", model)
        predictor.image_size = configuration["image_size"]
    if isinstance(model, CombinedModel):
        predictor.fusion = model.last_layer()
    return predictor


def _fused_predictor(folder: DataFolder, categories: list[str], device: torch.device) -> Predictor:
    """CombinedModel with TF-IDF; raises UserError when the two do not belong together or to the categories."""
    combined = _network_predictor(folder, "combined", categories, device)
    content = load_model(folder.fused_model)
    hashed = combined.fusion and combined.fusion.layer_hash()
    if (content["labels"], content["combined_model"]) != (categories, hashed):
        raise UserError(
            f"{folder.fused_model} belongs to other categories or another CombinedModel: run train_models.py again."
        )
    fusion = Fusion(**content["fusion"])
    return replace(combined, name="fused", tfidf=content["tfidf"], fusion=fusion, temperature=1.0)
