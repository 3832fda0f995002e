"""A trained network that predicts the category of one product."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from marketplace.data_folder import UserError
from models.checkpoints import load_checkpoint, load_weights
from models.combined_model import CombinedModel
from models.image_model import ImageModel, evaluation_transform
from models.text_model import TextModel


@dataclass
class Predictor:
    """A trained network in evaluation mode, and what it expects as input."""

    model: nn.Module
    labels: list[str]
    encoder: str | None  # of texts; None for an ImageModel
    image_size: int | None  # in pixels; None for a TextModel
    temperature: float = 1.0
    encoder_weights: str | None = None  # `TextEncoder.weights_hash`; unknown to checkpoints of earlier versions

    @torch.inference_mode()
    def probabilities(self, windows: np.ndarray | None, pixels: np.ndarray | None) -> np.ndarray:
        """Probabilities (C,) of the categories from the embedded windows of a text (W, 50, 768), from the pixels of a
        photo (S, S, 3) uint8, or from both."""
        combined = self.model if isinstance(self.model, CombinedModel) else None
        device = next(self.model.parameters()).device
        text_output: Tensor | None = None
        image_output: Tensor | None = None
        if windows is not None:
            text_model = combined.text_model if combined else self.model
            text_output = text_model(torch.from_numpy(windows).float().to(device)).mean(0, keepdim=True)
        if pixels is not None:
            image_model = combined.image_model if combined else self.model
            image_output = image_model(evaluation_transform(torch.tensor(pixels[None]).to(device)))
        if combined:
            logits = combined.combine(text_output, image_output)
        else:
            [logits] = [output for output in (text_output, image_output) if output is not None]
        return torch.softmax(logits[0].cpu().double() / self.temperature, 0).numpy()

    def top(self, probabilities: np.ndarray, count: int) -> list[dict[str, str | float]]:
        """The `count` most probable categories, best first."""
        best = np.argsort(-probabilities, kind="stable")[:count]
        return [{"category": self.labels[place], "probability": float(probabilities[place])} for place in best]


def load_predictor(path: Path, device: torch.device) -> Predictor:
    """The network of a checkpoint on `device`; raises UserError as `load_checkpoint`."""
    checkpoint = load_checkpoint(path, device=device)
    classes = {"TextModel": TextModel, "ImageModel": ImageModel, "CombinedModel": CombinedModel}
    if checkpoint["model"] not in classes:
        raise UserError(f"the checkpoint {path} belongs to an unfinished training: give a *_best.pt file.")
    model = classes[checkpoint["model"]](num_classes=len(checkpoint["labels"]))
    load_weights(model, checkpoint, path)
    settings = checkpoint["configuration"]
    return Predictor(
        model.to(device).eval(),
        checkpoint["labels"],
        settings.get("encoder"),
        settings.get("image_size"),
        settings.get("temperature", 1.0),
        settings.get("encoder_weights"),
    )
