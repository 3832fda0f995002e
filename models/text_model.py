"""TextModel: the category of a product from the embedded tokens of its name and description."""

import torch
from torch import Tensor, nn

TOKENS = 50  # of a text, [CLS] and [SEP] among them
EMBEDDING_SIZE = 768  # numbers per token
EMBEDDING_SCALE = 0.5  # their root mean square: MiniLM's own, four times that of all-mpnet-base-v2


class TextModel(nn.Module):
    """A convolution over embedded tokens, then two linear layers.

    The tokens are the channels of the convolution, which runs along the 768 numbers of the embedding.
    """

    def __init__(self, num_classes: int = 13):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv1d(TOKENS, 256, kernel_size=3, padding=1),  # (N, 256, 768)
            nn.ReLU(),
            nn.MaxPool1d(2),  # (N, 256, 384)
            nn.Flatten(),  # (N, 98304)
            nn.Linear(256 * EMBEDDING_SIZE // 2, 256),
            nn.ReLU(),
            nn.Linear(256, num_classes),
        )

    def forward(self, text: Tensor) -> Tensor:
        """Logits (N, num_classes) of embedded texts (N, 50, 768), float."""
        if len(text) == 16:  # oneDNN crashes in bfloat16 products of 16 rows of 98,304 on CPUs with AMX
            return torch.cat([self.layers(half) for half in text.split(8)])
        return self.layers(text)
