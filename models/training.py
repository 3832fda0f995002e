"""Training of the three networks: one epoch, evaluation, `Trainer`, and the recipes of the marketplace."""

import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, distributed, nn
from torch.nn import functional as F
from torch.nn.parallel import DistributedDataParallel
from torch.optim.swa_utils import AveragedModel

from evaluation.metrics import check_splits, fit_temperature
from marketplace.data_folder import DataFolder, UserError, write_whole
from marketplace.listings import examples_of_split, mean_per_product, rows_of_split
from marketplace.photos import Photos
from models.device import autocast, from_first_process, pick_device, process_rank, rank_and_world_size
from models.image_weights import initialisation, load_image_weights
from models.networks import EMBEDDING_SCALE, CombinedModel, ImageModel, TextModel, evaluation_transform, normalised
from models.predict import load_checkpoint, photo_outputs, text_outputs
from models.text_encoder import Texts
from shallow.fusion import Fusion, fuse_products
from shallow.saving import save_model
from shallow.words import TFIDF, ShallowText

MAXIMUM_ANGLE = 5  # degrees, either way
ZOOM = (0.9, 1.1)  # smallest and largest factor
MAXIMUM_SHIFT = 0.1  # of the photo's side, either way
MAXIMUM_TINT = 0.1  # largest change of the factors for brightness, contrast and saturation
MIN_SIDE = 17  # of the photos in training, in pixels
CHECKPOINT_SECONDS = 60  # between two checkpoints of an unfinished training, which are written at the end of an epoch


@dataclass(frozen=True)
class Recipe:
    """Hyperparameters of one training run."""

    epochs: int
    learning_rate: float  # the highest of the one-cycle schedule, for layers that start from random initialisation
    batch_size: int = 32  # of all processes together
    pretrained_factor: float = 1.0  # of that rate, for pretrained layers
    weight_decay: float = 0.05
    warm_up: float = 0.3  # share of the steps in which the rate rises
    label_smoothing: float = 0.05
    average_decay: float = 0.0  # of the moving average of the weights; 0 uses the last weights
    scales: tuple[float, ...] = (1.0,)  # of the photos' sides, in equal parts of the epochs: progressive resizing


TEXT_RECIPE = Recipe(epochs=8, learning_rate=2e-4, average_decay=0.98)
IMAGE_RECIPE = Recipe(epochs=22, learning_rate=1e-3, warm_up=0.15)
FINE_TUNING_RECIPE = Recipe(  # from trials with EfficientNet-Lite0 on real photos; benchmarks/transfer.py measures it
    epochs=8,
    learning_rate=5e-4,
    pretrained_factor=0.6,
    warm_up=0.15,
    average_decay=0.98,
    scales=(0.5, 0.5, 0.75, 1.0),
)


@dataclass(frozen=True)
class TrainingOptions:
    """How a training is run, apart from its recipe."""

    seed: int = 7
    device: torch.device = field(default_factory=pick_device)
    data_dir: str | Path | None = None  # where checkpoints are written; None writes none
    resume: bool = False  # continue an interrupted training, and load the result of a finished one
    print_every: int = 1  # epochs from one printed line to the next; the first and the last are always printed


class Learner(nn.Module):
    """The module that is trained: the network `model` and, in a subclass, what only its training needs."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model

    def forward(self, inputs: Tensor) -> Tensor:
        return self.model(inputs)

    def to_main_category(self, logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Outputs (B, L) and labels (B,) of training in the classes of validation: (B, C) and (B,)."""
        return logits, labels


class LeafCategories(Learner):
    """A photo network with two heads: its own for C main categories, and one for their L leaf categories.

    In training mode the output is log P(main) + log P(leaf | main), (N, L); its cross-entropy with the leaf as label is
    that of the main category plus that of the leaf within it. In evaluation mode the output is the model's own, (N, C).
    The model has `features` and `output_layer`, as ImageModel.
    Source: Morin and Bengio, Hierarchical Probabilistic Neural Network Language Model, 2005.
    """

    model: Any
    main_of_leaf: Tensor  # (L,)
    belongs: Tensor  # (C, L)

    def __init__(self, model: nn.Module, main_of_leaf: Sequence[int] | np.ndarray):
        super().__init__(model)
        self.leaf_layer = nn.Linear(self.model.output_layer.in_features, len(main_of_leaf))
        main = torch.as_tensor(np.asarray(main_of_leaf, np.int64))
        belongs = main[None] == torch.arange(self.model.output_layer.out_features)[:, None]
        self.register_buffer("main_of_leaf", main, persistent=False)
        self.register_buffer("belongs", belongs, persistent=False)

    def forward(self, inputs: Tensor) -> Tensor:
        if not self.training:
            return self.model(inputs)
        features = self.model.features(inputs)  # (N, F)
        main = self.model.output_layer(features).float().log_softmax(1)  # (N, C)
        leaf = self.leaf_layer(features).float()  # (N, L)
        return main[:, self.main_of_leaf] + leaf - self._logsumexp(leaf)[:, self.main_of_leaf]

    def to_main_category(self, logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Outputs of training, (B, L), as log P(main), (B, C), and the main categories of the leaves in `labels`."""
        return self._logsumexp(logits), self.main_of_leaf[labels]

    def _logsumexp(self, leaf: Tensor) -> Tensor:
        """The logsumexp (N, C) of the numbers (N, L) of the leaves of each main category."""
        return torch.where(self.belongs, leaf[:, None], -1e4).logsumexp(2)


def leaf_labels(categories: Sequence[str], main_codes: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """Leaf numbers (N,) of N products from their category paths, and the main category (L,) of each leaf; int64."""
    paths = np.array([f"{code:09d}/{path}" for path, code in zip(categories, main_codes, strict=True)])
    leaves, labels = np.unique(paths, return_inverse=True)
    return labels.astype(np.int64), np.array([int(leaf[:9]) for leaf in leaves], np.int64)


def train_transform(pixels: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Normalised photos (N, 3, S, S) of pixels (N, S, S, 3), uint8, on the same device, each photo flipped, rotated,
    zoomed, shifted and tinted at random.

    The random numbers are drawn on the CPU from `generator`, so that they are the same on every device. torchvision's
    transforms draw once per batch; applied to each photo they take 0.77 ms a photo, these 0.13 ms (64 px, one core).
    """
    random = torch.rand(len(pixels), 8, generator=generator).to(pixels.device)
    image = pixels.permute(0, 3, 1, 2) / 255  # (N, 3, S, S), 0 to 1

    flip = torch.where(random[:, 0] < 0.5, -1.0, 1.0)
    angle = (2 * random[:, 1] - 1) * math.radians(MAXIMUM_ANGLE)
    zoom = 1 / torch.lerp(torch.full_like(angle, ZOOM[0]), torch.full_like(angle, ZOOM[1]), random[:, 2])
    shift = (2 * random[:, 3:5] - 1) * 2 * MAXIMUM_SHIFT  # a photo is 2 wide in the coordinates of affine_grid
    cosine, sine = zoom * torch.cos(angle), zoom * torch.sin(angle)
    rows = [torch.stack([flip * cosine, -sine, shift[:, 0]], 1), torch.stack([flip * sine, cosine, shift[:, 1]], 1)]
    grid = F.affine_grid(torch.stack(rows, 1), list(image.shape), align_corners=False)
    image = F.grid_sample(image, grid, align_corners=False)  # black outside, as the borders of the photos

    brightness, contrast, saturation = (1 + (2 * random[:, 5:8] - 1) * MAXIMUM_TINT).T[:, :, None, None, None]
    image = image * brightness
    grey = image.mean(1, keepdim=True)
    image = torch.lerp(grey, image, saturation)
    image = torch.lerp(grey.mean((2, 3), keepdim=True), image, contrast)
    return normalised(image.clamp(0, 1))


class Batches:
    """Batches (inputs, labels) on `device`; each iteration is one epoch.

    `inputs` are pixels (P, S, S, 3) uint8 or embeddings (W, 50, 768) float16; `rows` (R,) are the positions of the
    examples in them, `labels` (R,) their classes. `transform` is applied to each batch of inputs on the device.
    Shuffling draws from torch's global generator, so a restored random state gives the same order. `process` is rank
    and world size: each process takes an equal part of every batch. A shuffled epoch ends without a last batch of fewer
    than two examples for each process, since batch normalisation cannot train on one.
    """

    def __init__(
        self,
        inputs: np.ndarray,
        rows: np.ndarray,
        labels: np.ndarray,
        batch_size: int,
        transform: Callable[[Tensor], Tensor],
        device: torch.device,
        shuffle: bool = False,
        process: tuple[int, int] = (0, 1),
    ):
        self.inputs, self.rows, self.labels = inputs, rows, torch.from_numpy(labels)
        self.batch_size, self.transform, self.device, self.shuffle = batch_size, transform, device, shuffle
        self.rank, self.world_size = process
        if shuffle and (batch_size % self.world_size or batch_size < 2 * self.world_size):
            raise UserError(
                f"batches of {batch_size} cannot be shared equally by {self.world_size} processes with at least two "
                "examples each: give another --batch-size."
            )

    def __len__(self) -> int:
        whole, rest = divmod(len(self.rows), self.batch_size)
        return whole + (rest >= (2 * self.world_size if self.shuffle else 1))

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        order = torch.randperm(len(self.rows)) if self.shuffle else torch.arange(len(self.rows))
        for chosen in order.split(self.batch_size)[: len(self)]:
            chosen = chosen[self.rank : len(chosen) - len(chosen) % self.world_size : self.world_size]
            batch = torch.from_numpy(self.inputs[self.rows[chosen.numpy()]]).to(self.device)
            yield self.transform(batch), self.labels[chosen].to(self.device)


def moving_average(model: nn.Module, decay: float) -> AveragedModel:
    """An exponential moving average of a network's weights and buffers, which scores more steadily than the last ones.

    At first its decay is smaller, so that the initial weights fade.
    """

    def update(averages: Iterable[Tensor], currents: Iterable[Tensor], steps: Tensor | int) -> None:
        now = 1 - torch.as_tensor(steps / (9 + steps)).clamp(max=decay)
        for average, current in zip(averages, currents, strict=True):
            if average.is_floating_point():
                average.lerp_(current, now)
            else:
                average.copy_(current)

    return AveragedModel(model, multi_avg_fn=update, use_buffers=True)


def train_one_epoch(
    learner: Learner | DistributedDataParallel,
    batches: Iterable[tuple[Tensor, Tensor]],
    optimizer: torch.optim.Optimizer,
    device: torch.device,
    label_smoothing: float = 0.0,
    after_step: Callable[[], None] = lambda: None,
    scale: float = 1.0,
) -> dict[str, float]:
    """Train on every batch once; returns the mean `loss` and the `accuracy`, both as `evaluate` measures them: in the
    classes of validation and without label smoothing. But the weights change meanwhile, and photos are augmented.

    `after_step` is called after each step of the optimizer. Photos are resized by the factor `scale`.
    """
    learner.train()
    to_main_category = (learner.module if isinstance(learner, DistributedDataParallel) else learner).to_main_category
    losses, hits, examples = [], [], 0  # tensors, since reading each number would synchronise a GPU at every step
    for inputs, labels in batches:
        if scale != 1:
            inputs = F.interpolate(inputs, scale_factor=scale, mode="bilinear", antialias=True)
        optimizer.zero_grad()
        with autocast(device):
            logits = learner(inputs).float()
            loss = F.cross_entropy(logits, labels, label_smoothing=label_smoothing)
        loss.backward()
        optimizer.step()
        after_step()
        logits, labels = to_main_category(logits.detach(), labels)
        losses.append(F.cross_entropy(logits, labels, reduction="sum"))
        hits.append((logits.argmax(1) == labels).sum())
        examples += len(labels)
    totals = {"loss": torch.stack(losses).sum().item(), "accuracy": torch.stack(hits).sum().item()}
    return {measure: total / examples for measure, total in totals.items()}


@torch.inference_mode()
def evaluate(model: nn.Module, batches: Iterable[tuple[Tensor, Tensor]], device: torch.device) -> dict[str, float]:
    """The mean cross-entropy `loss` and the `accuracy`."""
    model.eval()
    all_logits, all_labels = [], []
    for inputs, labels in batches:
        with autocast(device):
            all_logits.append(model(inputs).float())
        all_labels.append(labels)
    logits, labels = torch.cat(all_logits).cpu(), torch.cat(all_labels).cpu()
    accuracy = (logits.argmax(1) == labels).float().mean().item()
    return {"loss": F.cross_entropy(logits, labels).item(), "accuracy": accuracy}


class Trainer:
    """Trains the `model` of a learner in place with AdamW and a one-cycle learning rate, and keeps the weights of its
    best epoch: the one of the highest validation accuracy, then of the lowest validation loss.

    `parameter_groups` gives groups of parameters with a rate (`lr`) each; by default all learn at the recipe's rate.
    """

    def __init__(
        self,
        learner: Learner,
        train_batches: Batches,
        validation_batches: Batches,
        recipe: Recipe,
        options: TrainingOptions,
        parameter_groups: list[dict[str, Any]] | None = None,
    ):
        self.train_batches, self.validation_batches = train_batches, validation_batches
        self.recipe, self.options, self.device = recipe, options, options.device
        self.learner = learner.to(self.device)
        if self.device.type != "mps":
            learner.to(memory_format=torch.channels_last)
        torch.backends.cudnn.benchmark = True  # batches keep one size
        self.parallel: Learner | DistributedDataParallel = learner
        if distributed.is_initialized():  # sends the weights of the first process to the others
            self.parallel = DistributedDataParallel(learner, None if self.device.type == "cpu" else [self.device.index])
        self.average = moving_average(learner.model, recipe.average_decay) if recipe.average_decay else None
        self.optimizer = torch.optim.AdamW(
            parameter_groups or [{"params": [p for p in learner.parameters() if p.requires_grad]}],
            recipe.learning_rate,
            weight_decay=recipe.weight_decay,
            fused=self.device.type != "mps",
        )
        self.scheduler = torch.optim.lr_scheduler.OneCycleLR(
            self.optimizer,
            max_lr=[group["lr"] for group in self.optimizer.param_groups],
            total_steps=max(2, recipe.epochs * len(train_batches) + 1),
            pct_start=recipe.warm_up,
        )
        self.history: list[dict[str, float]] = []
        self.best_weights: dict[str, Tensor] = {}
        self.saved_at = time.monotonic()

    def fit(
        self, name: str = "model", labels: Sequence[str] = (), configuration: dict[str, Any] | None = None
    ) -> list[dict[str, float]]:
        """Train for the epochs that are left; returns the learning curves, a dict per epoch with `train_loss`,
        `train_accuracy`, `validation_loss`, `validation_accuracy`, `learning_rate` and `seconds`.

        In the data folder of the options, an unfinished training leaves the checkpoint "last" of the network `name`, a
        finished one "best". Both hold `labels` and `configuration`; one with others is not resumed.
        """
        settings = {"seed": self.options.seed, "recipe": asdict(self.recipe)}
        content = {"labels": list(labels), "configuration": settings | (configuration or {})}
        folder = None if self.options.data_dir is None else DataFolder(self.options.data_dir)
        if folder and self.options.resume:
            self._resume(folder.checkpoint(name, "last"), folder.checkpoint(name), content)
        while len(self.history) < self.recipe.epochs:
            self._run_epoch()
            number = len(self.history)
            if number in (1, self.recipe.epochs) or number % self.options.print_every == 0:
                print(epoch_line(self.history[-1], number, self.recipe.epochs), flush=True)
            if folder and process_rank() == 0:
                self._save(folder, name, content)
        self.learner.model.load_state_dict(self.best_weights)
        return self.history

    def _run_epoch(self) -> None:
        """Train for one epoch, validate, append to the history, and keep the weights if they are the best."""
        start = time.perf_counter()
        rate = self.optimizer.param_groups[-1]["lr"]
        trained = train_one_epoch(
            self.parallel,
            self.train_batches,
            self.optimizer,
            self.device,
            self.recipe.label_smoothing,
            self._after_step,
            self._scale(),
        )
        evaluated = self.learner.model if self.average is None else self.average.module
        validated = from_first_process(lambda: evaluate(evaluated, self.validation_batches, self.device))
        if not math.isfinite(trained["loss"] + validated["loss"]):
            raise UserError("the loss is not a number: lower the learning rate or look at the data.")
        scores = {f"train_{measure}": value for measure, value in trained.items()}
        scores |= {f"validation_{measure}": value for measure, value in validated.items()}
        self.history.append(scores | {"learning_rate": rate, "seconds": time.perf_counter() - start})
        if best_epoch(self.history) == len(self.history) - 1:
            self.best_weights = {name: tensor.clone() for name, tensor in evaluated.state_dict().items()}

    def _scale(self) -> float:
        """The scale of the photos in this epoch, counted from the end: the last epoch is at the last scale, however few
        there are."""
        left, scales = self.recipe.epochs - 1 - len(self.history), self.recipe.scales
        return scales[-1 - left * len(scales) // self.recipe.epochs]

    def _after_step(self) -> None:
        self.scheduler.step()
        if self.average is not None:
            self.average.update_parameters(self.learner.model)

    def _save(self, folder: DataFolder, name: str, content: dict[str, Any]) -> None:
        """Write "last" if it is due; after the last epoch write "best", and remove what an earlier one was used for."""
        epoch = self.history[best_epoch(self.history)]
        validation = {"loss": epoch["validation_loss"], "accuracy": epoch["validation_accuracy"]}
        content = content | {"validation": validation, "history": self.history}
        last = folder.checkpoint(name, "last")
        if len(self.history) == self.recipe.epochs:
            save_checkpoint(folder.checkpoint(name), self.learner.model, weights=self.best_weights, **content)
            last.unlink(missing_ok=True)
            for path in (folder.checkpoint("combined"), folder.fused_model):
                if path.exists():
                    path.unlink()
                    print(f"{path.name} is removed, since it was made of an earlier {name} model.")
        elif time.monotonic() - self.saved_at >= CHECKPOINT_SECONDS:
            state = {
                "optimizer": self.optimizer.state_dict(),
                "scheduler": self.scheduler.state_dict(),
                "average": self.average and self.average.state_dict(),
                "random": torch.get_rng_state(),
                "best_weights": self.best_weights,
            }
            save_checkpoint(last, self.learner, state=state, **content)
            self.saved_at = time.monotonic()

    def _resume(self, last: Path, best: Path, content: dict[str, Any]) -> None:
        """Restore an interrupted training from `last`, or the result of a finished one from `best`, if there is one."""
        path, model = (last, self.learner) if last.exists() else (best, self.learner.model)
        if not path.exists():
            return
        checkpoint = load_checkpoint(path, model, content["labels"], self.device)
        saved, current = checkpoint["configuration"], content["configuration"]
        if saved != current:
            different = ", ".join(key for key in current if saved.get(key) != current[key]) or "of another version"
            raise UserError(
                f"{path} belongs to a training with other settings ({different}): give the same ones, or train it "
                "anew without --resume."
            )
        self.history = checkpoint["history"]
        if path == best:
            self.best_weights = checkpoint["weights"]
        else:
            state = checkpoint["state"]
            self.optimizer.load_state_dict(state["optimizer"])
            self.scheduler.load_state_dict(state["scheduler"])
            if self.average is not None:
                self.average.load_state_dict(state["average"])
            torch.set_rng_state(state["random"].cpu())
            self.best_weights = state["best_weights"]
        print(f"{path.name}: {len(self.history)} of {self.recipe.epochs} epochs are trained already.")


def best_epoch(history: Sequence[dict[str, float]]) -> int:
    """Position of the epoch whose weights are kept: that of the highest validation accuracy, then of the lowest
    validation loss, the first of equal ones."""
    scores = [(epoch["validation_accuracy"], -epoch["validation_loss"]) for epoch in history]
    return scores.index(max(scores))


def epoch_line(epoch: dict[str, float], number: int, epochs: int) -> str:
    """An epoch of the learning curves as a line of text."""
    return (
        f"epoch {number:3d}/{epochs}: train loss {epoch['train_loss']:.3f}, accuracy {epoch['train_accuracy']:.1%}; "
        f"validation loss {epoch['validation_loss']:.3f}, accuracy {epoch['validation_accuracy']:.1%}; "
        f"{epoch['seconds']:.1f} s"
    )


def save_checkpoint(
    path: Path, model: nn.Module, labels: Sequence[str], configuration: dict[str, Any], **more: Any
) -> None:
    """Write the weights of `model`, or other `weights` in `more`, whole or not at all.

    `labels` are the names of the classes in order. `configuration` (settings) and `more` hold tensors, texts and plain
    numbers only. Raises OSError when the file cannot be written.
    """
    content = {"model": type(model).__name__, "weights": model.state_dict(), "labels": list(labels)}
    content |= {"configuration": configuration} | more
    with write_whole(path) as partial, open(partial, "wb") as file:
        try:
            torch.save(content, file)
        except RuntimeError as error:  # torch's own, raised while it closes a file that could not be written
            raise error.__context__ if isinstance(error.__context__, OSError) else error from None


def image_recipe(weights: str | Path) -> Recipe:
    """The recipe of ImageModel for initial `weights`, which are not "auto"."""
    return IMAGE_RECIPE if weights == "none" else FINE_TUNING_RECIPE


@dataclass
class TrainedModel:
    """A trained network and its training."""

    model: nn.Module
    history: list[dict[str, float]]  # the learning curves, as `Trainer.fit` returns them
    weights: str  # the text encoder; for an ImageModel "imagenet", "none" or the file of the initial weights

    @property
    def seconds(self) -> float:
        """Training time of all epochs, those before an interruption included."""
        return sum(epoch["seconds"] for epoch in self.history)

    @property
    def initialisation(self) -> str:
        """The initial weights in words."""
        return initialisation(self.weights)


def train_text_model(
    products: pd.DataFrame,
    texts: Texts,
    categories: list[str],
    *,
    recipe: Recipe = TEXT_RECIPE,
    options: TrainingOptions,
) -> TrainedModel:
    """Train a TextModel on the train split of `products`. The validation figures of its learning curves are per window
    of a text, not per product."""
    torch.manual_seed(options.seed)
    model = TextModel(len(categories))
    rows, held_out, codes = _examples(texts, products, "listings")
    settings = (recipe.batch_size, Tensor.float, options.device)
    train = Batches(texts.embeddings, rows, codes[rows], *settings, shuffle=True, process=rank_and_world_size())
    validation = Batches(texts.embeddings, held_out, codes[held_out], *settings)
    trainer = Trainer(Learner(model), train, validation, recipe, options)
    configuration = {
        "encoder": texts.encoder,
        "encoder_weights": texts.encoder_weights,
        "embedding_scale": EMBEDDING_SCALE,
        "train_examples": len(rows),
    }
    return TrainedModel(model, trainer.fit("text", categories, configuration), texts.encoder)


def train_image_model(
    products: pd.DataFrame,
    photos: Photos,
    categories: list[str],
    *,
    image_weights: str | Path = "none",
    recipe: Recipe | None = None,
    options: TrainingOptions,
) -> TrainedModel:
    """Train an ImageModel on the photos of the train split of `products`; `image_weights` as for `load_image_weights`,
    the recipe by default that of `image_recipe`.

    Pretrained layers are trained at the recipe's `pretrained_factor` of the head's learning rate.
    """
    torch.manual_seed(options.seed)
    model = ImageModel(len(categories))
    # in the first process alone, since "auto" can differ between them; the others get its weights from the trainer
    weights = from_first_process(lambda: load_image_weights(model, image_weights))
    if weights == "none":
        model.start_from_scratch()
    recipe = recipe or image_recipe(weights)
    trainer = photo_trainer(model, None if weights == "none" else model.resnet.fc, products, photos, recipe, options)
    configuration = {
        "image_size": photos.pixels.shape[1],
        "image_weights": weights,
        "train_examples": len(trainer.train_batches.rows),
    }
    return TrainedModel(model, trainer.fit("image", categories, configuration), weights)


def photo_trainer(
    model: nn.Module,
    head: nn.Module | None,
    products: pd.DataFrame,
    photos: Photos,
    recipe: Recipe,
    options: TrainingOptions,
) -> Trainer:
    """The trainer of a network for photos; with a new `head` on pretrained layers these have a learning rate of their
    own."""
    side = round(min(recipe.scales) * photos.pixels.shape[1])
    if side < MIN_SIDE:  # one pixel would be left before ResNet50's last stage, where oneDNN's gradients can be NaN
        raise UserError(f"photos of {side} pixels are too small to train on: clean them to a larger --image-size.")
    rows, held_out, codes = _examples(photos, products, "photos")
    paths = products["category"].to_numpy()[photos.product_rows[rows]]
    labels, main_of_leaf = leaf_labels(paths, codes[rows])
    size, device, process = recipe.batch_size, options.device, rank_and_world_size()
    train = Batches(photos.pixels, rows, labels, size, train_transform, device, shuffle=True, process=process)
    validation = Batches(photos.pixels, held_out, codes[held_out], size, evaluation_transform, device)
    learner = LeafCategories(model, main_of_leaf)
    pretrained = set() if head is None else set(model.parameters()) - set(head.parameters())
    parameters = [parameter for parameter in learner.parameters() if parameter.requires_grad]
    groups = [
        {"params": [p for p in parameters if p in pretrained], "lr": recipe.learning_rate * recipe.pretrained_factor},
        {"params": [p for p in parameters if p not in pretrained], "lr": recipe.learning_rate},
    ]
    return Trainer(learner, train, validation, recipe, options, groups if pretrained else None)


def _examples(examples: Photos | Texts, products: pd.DataFrame, what: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The positions of the examples of train and of validation, and the main category (P,) of every example."""
    check_splits(products.iloc[np.unique(examples.product_rows)], what, ("train", "validation"))
    train, validation = (examples_of_split(examples, products, split) for split in ("train", "validation"))
    return train, validation, products["main_category_code"].to_numpy(np.int64)[examples.product_rows]


@dataclass
class Combined:
    """A CombinedModel, its logits and those of its branches for every product, and its fusion with TF-IDF."""

    model: CombinedModel
    fusion: Fusion
    text_logits: np.ndarray  # (N, C) float32
    photo_logits: np.ndarray  # (P, C) float32: one row per photo
    image_logits: np.ndarray  # (N, C) float32: the mean over each product's photos; NaN for products without
    logits: np.ndarray  # (N, C) float32; out of fold on the validation split
    temperature: float  # the logits are divided by it for probabilities
    seconds: float
    with_tfidf: Fusion  # of both branches and TF-IDF
    with_tfidf_logits: np.ndarray  # (N, C) float32; out of fold on the validation split


def train_combined_model(
    products: pd.DataFrame,
    texts: Texts,
    photos: Photos,
    categories: list[str],
    text: TrainedModel,
    image: TrainedModel,
    shallow: ShallowText,
    options: TrainingOptions,
) -> Combined:
    """Combine two trained branches, and both with TF-IDF: fit the last layers and the temperature on the validation
    split."""
    start = time.perf_counter()
    text_logits = text_outputs(text.model, texts, options.device)
    photo_logits = photo_outputs(image.model, photos, options.device)
    image_logits = mean_per_product(photo_logits, photos.product_rows, len(products)).astype(np.float32)
    fusion, logits = fuse_products([text_logits, image_logits], products, options.seed)
    outputs = [text_logits, image_logits, shallow.outputs[TFIDF]]
    with_tfidf, with_tfidf_logits = fuse_products(outputs, products, options.seed)
    rows = rows_of_split(products, "validation")
    labels = products["main_category_code"].to_numpy(np.int64)[rows]
    temperature = fit_temperature(logits[rows], labels)
    model = CombinedModel(text.model, image.model, len(categories)).eval()
    model.set_last_layer(fusion)
    if options.data_dir is not None:
        folder = DataFolder(options.data_dir)
        configuration = {
            "seed": options.seed,
            "encoder": texts.encoder,
            "encoder_weights": texts.encoder_weights,
            "embedding_scale": EMBEDDING_SCALE,
            "image_size": photos.pixels.shape[1],
            "image_weights": image.weights,
            "l2": fusion.l2,
            "temperature": temperature,
        }
        validation = {"accuracy": float((logits[rows].argmax(axis=1) == labels).mean())}
        path = folder.checkpoint("combined")
        save_checkpoint(path, model, categories, configuration=configuration, validation=validation)
        content = {"labels": categories, "tfidf": shallow.tfidf, "fusion": asdict(with_tfidf)}
        save_model(folder.fused_model, content | {"combined_model": fusion.layer_hash()})
    seconds = time.perf_counter() - start
    branches = (text_logits, photo_logits, image_logits)
    return Combined(model, fusion, *branches, logits, temperature, seconds, with_tfidf, with_tfidf_logits)
