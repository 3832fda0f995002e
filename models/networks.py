"""TextModel, ImageModel and CombinedModel."""

import torch
from torch import Tensor, nn
from torchvision.models import resnet50
from torchvision.models.resnet import Bottleneck
from torchvision.transforms.v2.functional import normalize

from shallow.fusion import Fusion

TOKENS = 50  # of a text, [CLS] and [SEP] among them
EMBEDDING_SIZE = 768  # numbers per token
EMBEDDING_SCALE = 0.5  # their root mean square: MiniLM's own, four times that of all-mpnet-base-v2
FROZEN_TENSORS = 47  # conv1 to layer2.1.bn1.weight
IMAGENET_MEAN = (0.485, 0.456, 0.406)  # of red, green and blue in 0 to 1, as torchvision's weights expect them
IMAGENET_STD = (0.229, 0.224, 0.225)
DROPOUT = 0.2  # of the head


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


def make_head(features: int, num_classes: int) -> nn.Sequential:
    """The layers from the features (N, features) of a pretrained network to logits (N, num_classes)."""
    head = nn.Sequential(
        nn.Linear(features, 512),
        nn.ReLU(),
        nn.Dropout(DROPOUT),
        nn.Linear(512, 256),
        nn.ReLU(),
        nn.Linear(256, num_classes),
    )
    for layer in head:
        if isinstance(layer, nn.Linear):  # PyTorch's default shrinks the activations from layer to layer
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            nn.init.zeros_(layer.bias)
    return head


class ImageModel(nn.Module):
    """ResNet50 with a head of its own; the first `frozen_tensors` of its parameter tensors are not trained.

    Source: He et al., Deep Residual Learning for Image Recognition, 2015, https://arxiv.org/abs/1512.03385.
    """

    def __init__(self, num_classes: int = 13, frozen_tensors: int = FROZEN_TENSORS):
        super().__init__()
        self.resnet = resnet50(weights=None)
        self.resnet.fc = make_head(self.resnet.fc.in_features, num_classes)
        for parameter in list(self.resnet.parameters())[:frozen_tensors]:
            parameter.requires_grad_(False)
        self.train()

    def train(self, mode: bool = True) -> "ImageModel":
        """Set training mode. Batch normalisation keeps its statistics while layers are frozen: they belong to the
        pretrained weights, and in small batches of few photos they would be worse."""
        super().train(mode)
        if self.frozen_parameters():
            for module in self.modules():
                if isinstance(module, nn.BatchNorm2d):
                    module.eval()
        return self

    def forward(self, image: Tensor) -> Tensor:
        """Logits (N, num_classes) of normalised photos (N, 3, H, W), float."""
        return self.resnet(image)

    def features(self, image: Tensor) -> Tensor:
        """What the last layer reads (N, 256), for normalised photos (N, 3, H, W)."""
        net = self.resnet
        image = net.maxpool(net.relu(net.bn1(net.conv1(image))))  # (N, 64, H / 4, W / 4)
        image = net.layer4(net.layer3(net.layer2(net.layer1(image))))  # (N, 2048, H / 32, W / 32)
        return net.fc[:-1](net.avgpool(image).flatten(1))

    @property
    def output_layer(self) -> nn.Linear:
        """From the features to the logits."""
        return self.resnet.fc[-1]

    def start_from_scratch(self) -> None:
        """Unfreeze every parameter, and start each residual block near the identity, which trains better from random
        initialisation: its last scale is the inverse square root of the number of blocks. With 0, as is common with
        SGD, AdamW's small steps need hundreds of steps to let the blocks take part.

        Source: De and Smith, Batch Normalization Biases Residual Blocks, 2020, https://arxiv.org/abs/2002.10444.
        """
        self.requires_grad_(True)
        blocks = [module for module in self.modules() if isinstance(module, Bottleneck)]
        for block in blocks:
            nn.init.constant_(block.bn3.weight, len(blocks) ** -0.5)
        self.train(self.training)

    def frozen_parameters(self) -> int:
        """The number of frozen parameters."""
        return sum(parameter.numel() for parameter in self.parameters() if not parameter.requires_grad)


def evaluation_transform(pixels: Tensor) -> Tensor:
    """Normalised photos (N, 3, S, S), float32 in channels_last, of pixels (N, S, S, 3), uint8."""
    return normalised(pixels.permute(0, 3, 1, 2) / 255)


def normalised(image: Tensor) -> Tensor:
    """Photos (N, 3, S, S), 0 to 1, on the scale that torchvision's weights expect."""
    return normalize(image, IMAGENET_MEAN, IMAGENET_STD).contiguous(memory_format=torch.channels_last)


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
