"""CombinedModel: the category of a product from its text and its photo together."""

import torch
from torch import Tensor, nn

from models.image_model import ImageModel
from models.text_model import TextModel
from shallow.fusion import Fusion


class CombinedModel(nn.Module):
    """A text model, an image model, and one linear layer on the logits of both.

    `mean_text_output` and `mean_image_output` (num_classes,) replace the logits of a missing text or photo; they are
    buffers, so that a checkpoint holds them.
    """

    mean_text_output: Tensor
    mean_image_output: Tensor

    def __init__(
        self, text_model: nn.Module | None = None, image_model: nn.Module | None = None, num_classes: int = 13
    ):
        super().__init__()
        self.text_model = TextModel(num_classes) if text_model is None else text_model
        self.image_model = ImageModel(num_classes) if image_model is None else image_model
        self.fusion = nn.Sequential(nn.Linear(2 * num_classes, num_classes))
        self.register_buffer("mean_text_output", torch.zeros(num_classes))
        self.register_buffer("mean_image_output", torch.zeros(num_classes))

    def forward(self, text: Tensor | None, image: Tensor | None) -> Tensor:
        """Logits (N, num_classes) of texts (N, 50, 768) and photos (N, 3, H, W); one of the two may be None."""
        return self.combine(
            None if text is None else self.text_model(text), None if image is None else self.image_model(image)
        )

    def combine(self, text_output: Tensor | None, image_output: Tensor | None) -> Tensor:
        """Logits (N, num_classes) from the logits of the branches, (N, num_classes) each; one may be None.

        The image output of a product with several photos is the mean of their logits.
        """
        present = text_output if image_output is None else image_output
        if present is None:
            raise ValueError("CombinedModel needs a text or a photo")
        if text_output is None:
            text_output = self.mean_text_output.to(present.dtype).expand_as(present)
        if image_output is None:
            image_output = self.mean_image_output.to(present.dtype).expand_as(present)
        return self.fusion(torch.cat([text_output, image_output], dim=1))  # (N, 2 * num_classes) -> (N, num_classes)

    def set_last_layer(self, fusion: Fusion) -> None:
        """Take the last layer, and the mean outputs, of a fusion of text and image model."""
        layer = {"fusion.0.weight": fusion.weight, "fusion.0.bias": fusion.bias}
        layer |= {"mean_text_output": fusion.means[0], "mean_image_output": fusion.means[1]}
        self.load_state_dict({name: torch.from_numpy(array) for name, array in layer.items()}, strict=False)

    def last_layer(self) -> Fusion:
        """The last layer and the mean outputs, for logits that are there already."""
        weight, bias = (tensor.numpy(force=True) for tensor in self.fusion.parameters())
        means = torch.stack([self.mean_text_output, self.mean_image_output])
        return Fusion(weight, bias, means.numpy(force=True))
