"""Training of the three networks: one epoch, evaluation, `Trainer`, and the recipes of the marketplace."""

import hashlib
import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from sklearn.metrics import accuracy_score
from torch import Tensor, distributed, nn
from torch.nn import functional as F
from torch.nn.parallel import DistributedDataParallel
from torch.optim.swa_utils import AveragedModel

from evaluation.metrics import check_splits, fit_temperature
from marketplace.data_folder import MODEL_FILES, DataFolder, UserError, write_whole
from marketplace.listings import examples_of_split, mean_per_product, rows_of_split
from marketplace.photos import Photos
from models.device import autocast, from_first_process, memory_advice, pick_device, process_rank, rank_and_world_size
from models.image_weights import initialisation, load_image_weights
from models.networks import EMBEDDING_SCALE, CombinedModel, ImageModel, TextModel, evaluation_transform, normalised
from models.predict import all_finite, checkpoint_path, load_checkpoint, load_weights, photo_outputs, text_outputs
from models.text_encoder import Texts, product_embeddings
from shallow.fusion import Fusion, fuse_products
from shallow.saving import save_model
from shallow.words import TFIDF, ShallowText, fit_shallow_text

MAXIMUM_ANGLE = 5  # degrees, either way
ZOOM = (0.9, 1.1)  # smallest and largest factor
MAXIMUM_SHIFT = 0.1  # of the photo's side, either way
MAXIMUM_TINT = 0.1  # largest change of the factors for brightness, contrast and saturation


@dataclass(frozen=True)
class Recipe:
    """Hyperparameters of one training run; the recipes are in `models.training`."""

    epochs: int
    batch_size: int
    learning_rate: float  # the highest of the one-cycle schedule, for layers that start from random initialisation
    pretrained_factor: float = 1.0  # of that rate, for pretrained layers
    weight_decay: float = 0.01
    warm_up: float = 0.3  # share of the steps in which the rate rises
    label_smoothing: float = 0.0
    average_decay: float = 0.0  # of the moving average of the weights; 0 uses the last weights
    scales: tuple[float, ...] = (1.0,)  # of the photos' sides, in equal parts of the epochs: progressive resizing
    patience: int = 0  # early stopping after so many epochs without a better validation score; 0 turns it off


TEXT_RECIPE = Recipe(
    epochs=8,
    batch_size=32,
    learning_rate=2e-4,
    weight_decay=0.05,
    label_smoothing=0.05,
    average_decay=0.98,
)
IMAGE_RECIPE = Recipe(
    epochs=22,
    batch_size=32,
    learning_rate=1e-3,
    weight_decay=0.05,
    warm_up=0.15,
    label_smoothing=0.05,
)
FINE_TUNING_RECIPE = Recipe(  # from trials with EfficientNet-Lite0 on real photos; benchmarks/transfer.py measures it
    epochs=8,
    batch_size=32,
    learning_rate=5e-4,
    pretrained_factor=0.6,
    weight_decay=0.05,
    warm_up=0.15,
    label_smoothing=0.05,
    average_decay=0.98,
    scales=(0.5, 0.5, 0.75, 1.0),
)
LEAST_SIDE = 17  # of the photos in training, in pixels


@dataclass(frozen=True)
class TrainingOptions:
    """How a training is run, apart from its recipe."""

    seed: int = 7
    device: torch.device = field(default_factory=pick_device)
    data_dir: str | Path | None = None  # where checkpoints are written; None writes none
    resume: bool = False  # go on from the checkpoints
    checkpoint_seconds: float = 60  # between two checkpoints, which are written at the end of an epoch
    print_every: int = 1  # epochs from one printed line to the next; the first and the last are always printed


class Learner(nn.Module):
    """The module that is trained: the network `model` and, in a subclass, what only its training needs."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model

    def forward(self, inputs: Tensor) -> Tensor:
        return self.model(inputs)

    def as_validated(self, logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Outputs (B, L) and labels (B,) of training in the classes of validation: (B, C) and (B,)."""
        return logits, labels


class Batches:
    """Batches (inputs, labels) on `device`; each iteration is one epoch.

    `inputs` is anything that an int64 array indexes: pixels (P, S, S, 3) uint8 or embeddings (W, 50, 768) float16.
    `rows` are the positions in `inputs` that belong to the split; `labels` has the class number of each of them,
    (R,). `transform` is applied to each batch of inputs on the device. Shuffling draws
    from torch's global generator, so a restored random state gives the same order. With several processes, each takes
    an equal part of every batch. A last batch with fewer examples than processes is left out; in a shuffled epoch one
    with fewer than two for each, since batch normalisation cannot train on one.
    """

    def __init__(
        self,
        inputs,
        rows: np.ndarray,
        labels: np.ndarray,
        batch_size: int = 64,
        shuffle: bool = False,
        transform: Callable[[torch.Tensor], torch.Tensor] | None = None,
        device: torch.device | str = "cpu",
        rank: int = 0,
        world_size: int = 1,
    ):
        self.device = torch.device(device)
        self.inputs = inputs
        self.rows = np.asarray(rows, np.int64)
        self.labels = torch.from_numpy(np.array(labels, np.int64))
        self.batch_size = batch_size
        self.shuffle = shuffle
        self.transform = transform
        self.rank, self.world_size = rank, world_size

    def __len__(self) -> int:
        whole, rest = divmod(len(self.rows), self.batch_size)
        return whole + (rest >= (2 * self.world_size if self.shuffle else self.world_size))

    def __iter__(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        order = torch.randperm(len(self.rows)) if self.shuffle else torch.arange(len(self.rows))
        for chosen in order.split(self.batch_size)[: len(self)]:
            chosen = chosen[self.rank : len(chosen) - len(chosen) % self.world_size : self.world_size]
            with memory_advice(self.batch_size):
                batch = torch.from_numpy(self.inputs[self.rows[chosen.numpy()]]).to(self.device)
                if self.transform is not None:
                    batch = self.transform(batch)
            yield batch, self.labels[chosen].to(self.device)


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
    batches: Batches,
    optimizer: torch.optim.Optimizer,
    device: torch.device,
    label_smoothing: float = 0.0,
    after_step: Callable[[], None] = lambda: None,
    scale: float = 1.0,
) -> dict[str, float]:
    """Train on every batch once; returns the mean `loss` and the `accuracy`, both as `evaluate` measures them: in the
    classes of validation and without label smoothing. But the weights change meanwhile, and photos are augmented.

    `after_step` is called after each step of the optimizer. Photos are resized by the factor `scale`.

    Raises UserError when memory runs out, and at the end of the epoch when a loss was not finite.
    """
    learner.train()
    as_validated = (learner.module if isinstance(learner, DistributedDataParallel) else learner).as_validated
    losses, optimised, hits, examples = [], [], [], 0
    for inputs, labels in batches:
        inputs, labels = inputs.to(device), labels.to(device)
        if scale != 1:
            inputs = F.interpolate(inputs, scale_factor=scale, mode="bilinear", antialias=True)
        with memory_advice(len(labels) * rank_and_world_size()[1]):
            optimizer.zero_grad()
            with autocast(device):
                logits = learner(inputs).float()
                loss = F.cross_entropy(logits, labels, label_smoothing=label_smoothing)
            loss.backward()
            optimizer.step()
        after_step()
        optimised.append(loss.detach())
        logits, labels = as_validated(logits.detach(), labels)
        losses.append(F.cross_entropy(logits, labels, reduction="sum"))
        hits.append((logits.argmax(1) == labels).sum())
        examples += len(labels)
    values = torch.stack(optimised).tolist()  # once per epoch: reading each loss would synchronise a GPU at every step
    for step, value in enumerate(values, start=1):
        if not math.isfinite(value):
            raise UserError(
                f"the loss is not a number at step {step} of the epoch: lower the learning rate or look at the data."
            )
    totals = {"loss": torch.stack(losses).sum().item(), "accuracy": torch.stack(hits).sum().item()}
    return {measure: total / examples for measure, total in totals.items()}


@torch.inference_mode()
def evaluate(model: nn.Module, batches: Batches, device: torch.device) -> dict[str, Any]:
    """The mean cross-entropy `loss`, the `accuracy`, and the `logits` (N, C) float32 on the CPU.

    Raises UserError when there is no batch, when an output is not finite, and when memory runs out.
    """
    model.eval()
    all_logits, all_labels = [], []
    for inputs, labels in batches:
        with memory_advice(len(labels)), autocast(device):
            all_logits.append(model(inputs.to(device)).float())
        all_labels.append(labels)
    if not all_logits:
        raise UserError("there is nothing to evaluate: one of the splits has no usable listing or photo.")
    logits, labels = torch.cat(all_logits).cpu(), torch.cat(all_labels).cpu()
    if not logits.isfinite().all():
        raise UserError(
            f"the outputs of {type(model).__name__} are not numbers: lower the learning rate or look at the data."
        )
    accuracy = (logits.argmax(1) == labels).float().mean().item()
    return {"loss": F.cross_entropy(logits, labels).item(), "accuracy": accuracy, "logits": logits}


class Trainer:
    """Trains the `model` of a learner in place with AdamW and a one-cycle learning rate, and keeps the weights of its
    best epoch: the one of the highest validation accuracy, then of the lowest validation loss.

    `parameter_groups` gives groups of parameters with a rate (`lr`) each; by default all learn at the recipe's rate.

    Raises UserError when there is nothing to train on.
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
        if len(train_batches) == 0:
            raise UserError("there is nothing to train on: the train split has too few listings or photos.")
        self.train_batches, self.validation_batches = train_batches, validation_batches
        self.recipe, self.options, self.device = recipe, options, options.device
        self.learner = learner.to(self.device)
        if self.device.type != "mps":
            learner.to(memory_format=torch.channels_last)
        self.parallel = _in_parallel(
            learner, self.device
        )  # before the average is copied: it sends the weights of process 0 to the others
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

        The checkpoints are those of the network `name`. `labels` and `configuration` are saved in them; with
        different ones a training is not resumed.

        Raises UserError as `train_one_epoch` and `evaluate`, and when the checkpoint to go on from belongs to a
        training with other settings.
        """
        settings = {"seed": self.options.seed, "recipe": asdict(self.recipe), "steps": len(self.train_batches)}
        content = {"labels": list(labels), "configuration": settings | (configuration or {})}
        data_dir = self.options.data_dir
        paths = data_dir and (checkpoint_path(data_dir, name, "last"), checkpoint_path(data_dir, name, "best"))
        if paths and self.options.resume:
            print(self._resume(*paths, content))
        while not self._finished():
            self._run_epoch()
            number = len(self.history)
            if number == 1 or number % self.options.print_every == 0 or self._finished():
                print(epoch_line(self.history[-1], number, self.recipe.epochs), flush=True)
            if paths and process_rank() == 0:
                self._save(*paths, content)
        self.learner.model.load_state_dict(self.best_weights)
        return self.history

    def _finished(self) -> bool:
        epochs, patience = len(self.history), self.recipe.patience
        return epochs >= self.recipe.epochs or (epochs > patience > 0 and epochs - best_epoch(self.history) > patience)

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
        loss, accuracy = from_first_process(self._validate)
        self.history.append(
            {
                "train_loss": trained["loss"],
                "train_accuracy": trained["accuracy"],
                "validation_loss": loss,
                "validation_accuracy": accuracy,
                "learning_rate": rate,
                "seconds": time.perf_counter() - start,
            }
        )
        if best_epoch(self.history) == len(self.history) - 1:
            self.best_weights = {name: tensor.clone() for name, tensor in self._evaluated().state_dict().items()}

    def _scale(self) -> float:
        """Of the photos of this epoch, counted from the end: the last epoch is at the last scale, however few there
        are."""
        left, scales = self.recipe.epochs - 1 - len(self.history), self.recipe.scales
        return scales[-1 - left * len(scales) // self.recipe.epochs]

    def _after_step(self) -> None:
        self.scheduler.step()
        if self.average is not None:
            self.average.update_parameters(self.learner.model)

    def _evaluated(self) -> nn.Module:
        """The network with the weights that are scored and kept."""
        return self.learner.model if self.average is None else self.average.module

    def _validate(self) -> tuple[float, float]:
        result = evaluate(self._evaluated(), self.validation_batches, self.device)
        return result["loss"], result["accuracy"]

    def _save(self, last: Path, best: Path, content: dict[str, Any]) -> None:
        """Write the checkpoints if they are due; after the last epoch `best` with the history, and remove `last`."""
        epoch = self.history[best_epoch(self.history)]
        content["validation"] = {"loss": epoch["validation_loss"], "accuracy": epoch["validation_accuracy"]}
        model, weights = self.learner.model, self.best_weights
        if self._finished():
            save_checkpoint(best, model, weights=weights, history=self.history, **content)
            last.unlink(missing_ok=True)
        elif time.monotonic() - self.saved_at >= self.options.checkpoint_seconds:
            # `best` first: if the run is killed in between, resuming repeats the epoch and writes `best` again
            save_checkpoint(best, model, weights=weights, **content)
            save_checkpoint(last, self.learner, state=self._state(), **content)
            self.saved_at = time.monotonic()

    def _state(self) -> dict[str, Any]:
        """What changes during training, apart from the weights of the learner."""
        return {
            "optimizer": self.optimizer.state_dict(),
            "scheduler": self.scheduler.state_dict(),
            "average": self.average and self.average.state_dict(),
            "random": torch.get_rng_state(),
            "history": self.history,
            "best_weights": self.best_weights,
        }

    def _load_state(self, state: dict[str, Any]) -> None:
        self.optimizer.load_state_dict(state["optimizer"])
        self.scheduler.load_state_dict(state["scheduler"])
        if self.average is not None:
            self.average.load_state_dict(state["average"])
        torch.set_rng_state(state["random"].cpu())
        self.history, self.best_weights = state["history"], state["best_weights"]

    def _resume(self, last: Path, best: Path, content: dict[str, Any]) -> str:
        """Restore an interrupted training from `last`, or the result of a finished one from `best`; returns which."""
        path = last if last.exists() else best
        if not path.exists():
            return f"training anew: there is no checkpoint {best.name}."
        checkpoint = load_checkpoint(path, labels=content["labels"], device=self.device)
        saved, current = checkpoint["configuration"], content["configuration"]
        different = ", ".join(key for key in current if saved.get(key, current[key]) != current[key])
        if path == last and different:
            raise UserError(
                f"the checkpoint {last} belongs to a training with other settings ({different}): "
                "repeat it with the same, or start anew without --resume."
            )
        if path == last:
            load_weights(self.learner, checkpoint, last)
            self._load_state(checkpoint["state"])
            return f"going on after epoch {len(self.history)} of {self.recipe.epochs} ({last.name})."
        if different or "history" not in checkpoint:
            reason = f"has other settings ({different})" if different else "is not finished"
            return f"training anew: the training of {best.name} {reason}."
        load_weights(self.learner.model, checkpoint, best)
        self.history, self.best_weights = checkpoint["history"], checkpoint["weights"]
        return f"finished: {best.name} is the result of a training with these settings."


def best_epoch(history: Sequence[dict[str, float]]) -> int:
    """Position of the epoch whose weights are kept: that of the highest validation accuracy, then of the lowest
    validation loss, the first of equal ones."""
    scores = [(epoch["validation_accuracy"], -epoch["validation_loss"]) for epoch in history]
    return scores.index(max(scores))


def _in_parallel(learner: Learner, device: torch.device) -> Learner | DistributedDataParallel:
    """The learner, under torchrun with gradients that are averaged over the processes."""
    if device.type == "cuda":
        torch.backends.cudnn.benchmark = True  # batches keep one size
    if not distributed.is_initialized():
        return learner
    return DistributedDataParallel(learner, device_ids=[device.index] if device.type == "cuda" else None)


def epoch_line(epoch: dict[str, float], number: int, epochs: int) -> str:
    """An epoch of the learning curves as a line of text."""
    return (
        f"epoch {number:3d}/{epochs}: train loss {epoch['train_loss']:.3f}, accuracy {epoch['train_accuracy']:.1%}; "
        f"validation loss {epoch['validation_loss']:.3f}, accuracy {epoch['validation_accuracy']:.1%}; "
        f"{epoch['seconds']:.1f} s"
    )


def save_checkpoint(
    path: Path,
    model: nn.Module,
    labels: list[str],
    *,
    weights: dict[str, torch.Tensor] | None = None,
    configuration: dict[str, Any] | None = None,
    validation: dict[str, float] | None = None,
    **more: Any,
) -> None:
    """Write the weights of `model`, or other `weights` of the same shapes, with what they mean.

    `labels` are the names of the classes in order. `configuration` (settings), `validation` (scores) and `more` hold
    tensors, texts and plain numbers only.

    Raises UserError, and leaves an earlier file as it is, when a number is NaN or infinite; OSError when the file
    cannot be written.
    """
    checkpoint = {
        "model": type(model).__name__,
        "weights": model.state_dict() if weights is None else weights,
        "labels": list(labels),
        "configuration": configuration or {},
        "validation": validation or {},
        **more,
    }
    if not all_finite(checkpoint):
        raise UserError(
            f"{path} is not written, since the network has numbers that are NaN or infinite: lower the learning rate "
            "or look at the data."
        )
    with write_whole(path) as partial, open(partial, "wb") as file:
        try:
            torch.save(checkpoint, file)
        except RuntimeError as error:  # torch's own, raised while it closes a file that could not be written
            raise error.__context__ if isinstance(error.__context__, OSError) else error from None


def train_transform(pixels: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """The same, each photo flipped, rotated, zoomed, shifted and tinted at random, on the device of `pixels`.

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


class LeafCategories(Learner):
    """A network (`model`) for C main categories with a second last layer for their L leaf categories.

    In training mode the output is log P(main) + log P(leaf | main), (N, L); its cross-entropy with the leaf as label is
    that of the main category plus that of the leaf within it. In evaluation mode the output is the model's own, (N, C).
    Source: Morin and Bengio, Hierarchical Probabilistic Neural Network Language Model, 2005.
    """

    main_of_leaf: Tensor  # (L,)
    belongs: Tensor  # (C, L)

    def __init__(self, model: nn.Module, main_of_leaf: Sequence[int] | np.ndarray):
        super().__init__(model)
        last = self._last_layer()
        self.leaf_layer = nn.Linear(last.in_features, len(main_of_leaf))
        main = torch.as_tensor(np.asarray(main_of_leaf, np.int64))
        self.register_buffer("main_of_leaf", main, persistent=False)
        belongs = main[None] == torch.arange(last.out_features)[:, None]
        self.register_buffer("belongs", belongs, persistent=False)

    def _last_layer(self) -> nn.Linear:
        return [module for module in self.model.modules() if isinstance(module, nn.Linear)][-1]

    def forward(self, inputs: Tensor) -> Tensor:
        if not self.training:
            return self.model(inputs)
        hidden: list[Tensor] = []
        hook = self._last_layer().register_forward_pre_hook(lambda module, arguments: hidden.append(arguments[0]))
        try:
            main = self.model(inputs).float().log_softmax(1)  # (N, C)
        finally:
            hook.remove()
        leaf = self.leaf_layer(hidden[0]).float()  # (N, L)
        totals = torch.where(self.belongs, leaf[:, None], -1e4).logsumexp(2)  # (N, C)
        return main[:, self.main_of_leaf] + leaf - totals[:, self.main_of_leaf]

    def as_validated(self, logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Outputs of training, (B, L), as log P(main), (B, C), and the main categories of the leaves in `labels`."""
        main = torch.where(self.belongs, logits[:, None], -1e4).logsumexp(2)
        return main, self.main_of_leaf[labels]


def leaf_labels(categories: Sequence[str], main_codes: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """Leaf numbers (N,) of N products from their category paths, and the main category (L,) of each leaf; int64."""
    paths = np.array([f"{code:09d}/{path}" for path, code in zip(categories, main_codes, strict=True)])
    leaves, labels = np.unique(paths, return_inverse=True)
    return labels.astype(np.int64), np.array([int(leaf[:9]) for leaf in leaves], np.int64)


def image_recipe(weights: str | Path) -> Recipe:
    """The recipe of ImageModel for initial `weights`, which are not "auto"."""
    return IMAGE_RECIPE if weights == "none" else FINE_TUNING_RECIPE


@dataclass
class TrainedModel:
    """A trained network and its training."""

    model: nn.Module
    history: list[dict[str, float]]  # the learning curves, as `Trainer.fit` returns them
    weights: str  # the text encoder; for an ImageModel "imagenet", "none" or the file of the initial weights
    weights_hash: str | None = None  # of their content; None for random initialisation

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
    options: TrainingOptions | None = None,
) -> TrainedModel:
    """Train a TextModel on the train split of `products`. The validation figures of its learning curves are per window
    of a text, not per product.

    Raises UserError as `Trainer.fit`.
    """
    options = options or TrainingOptions()
    torch.manual_seed(options.seed)
    model = TextModel(len(categories))
    transforms = (Tensor.float, Tensor.float)
    train, validation, _ = _batches_of_splits(texts, texts.embeddings, products, recipe, transforms, options.device)
    trainer = Trainer(Learner(model), train, validation, recipe, options)
    columns = products[["text", "main_category_code", "split"]].to_numpy().tolist()
    configuration = {
        "encoder": texts.encoder,
        "encoder_weights": texts.encoder_weights,
        "embedding_scale": EMBEDDING_SCALE,
        "train_examples": len(train.rows),
        "data": _hash(repr(columns), texts.product_rows),
    }
    return TrainedModel(model, trainer.fit("text", categories, configuration), texts.encoder, texts.encoder_weights)


def train_image_model(
    products: pd.DataFrame,
    photos: Photos,
    categories: list[str],
    *,
    image_weights: str | Path = "none",
    recipe: Recipe | None = None,
    options: TrainingOptions | None = None,
) -> TrainedModel:
    """Train an ImageModel on the photos of the train split of `products`; `image_weights` as for `load_image_weights`,
    the recipe by default that of `image_recipe`.

    Pretrained layers are trained at the recipe's `pretrained_factor` of the head's learning rate.

    Raises UserError as `Trainer.fit` and `load_image_weights`.
    """
    options = options or TrainingOptions()
    torch.manual_seed(options.seed)
    model = ImageModel(len(categories))
    # in the first process alone, since "auto" can differ between them; the others get its weights from the trainer
    weights, weights_hash = from_first_process(lambda: _initial_weights(model, image_weights))
    if weights == "none":
        model.start_from_scratch()
    recipe = recipe or image_recipe(weights)
    trainer = photo_trainer(model, None if weights == "none" else model.resnet.fc, products, photos, recipe, options)
    columns = products[["category", "main_category_code", "split"]].to_numpy().tolist()
    configuration = {
        "image_size": photos.pixels.shape[1],
        "image_weights": weights,
        "image_weights_hash": weights_hash,
        "train_examples": len(trainer.train_batches.rows),
        "data": _hash(repr(columns), photos.product_rows, photos.pixels),
    }
    return TrainedModel(model, trainer.fit("image", categories, configuration), weights, weights_hash)


def photo_trainer(
    model: nn.Module,
    head: nn.Module | None,
    products: pd.DataFrame,
    photos: Photos,
    recipe: Recipe,
    options: TrainingOptions,
) -> Trainer:
    """The trainer of a network for photos; with a new `head` on pretrained layers these have a learning rate of their
    own. Raises UserError as `check_splits`, and for photos that are too small."""
    side = round(min(recipe.scales) * photos.pixels.shape[1])
    if side < LEAST_SIDE:  # one pixel would be left before ResNet50's last stage, where oneDNN's gradients can be NaN
        raise UserError(f"photos of {side} pixels are too small to train on: clean them to a larger --image-size.")
    transforms = (train_transform, evaluation_transform)
    train, validation, main_of_leaf = _batches_of_splits(
        photos, photos.pixels, products, recipe, transforms, options.device, leaves=True
    )
    learner = LeafCategories(model, main_of_leaf)
    groups = None if head is None else fine_tuning_groups(learner, head, recipe)
    return Trainer(learner, train, validation, recipe, options, groups)


def _initial_weights(model: ImageModel, image_weights: str | Path) -> tuple[str, str | None]:
    """Load pretrained weights; their name, and the hash of what was loaded: another file may have the same name."""
    name = load_image_weights(model, image_weights)
    body = [tensor.numpy() for key, tensor in model.resnet.state_dict().items() if not key.startswith("fc.")]
    return name, None if name == "none" else _hash(*body)


def _hash(*parts: str | np.ndarray) -> str:
    """sha256 of texts and of the numbers of arrays."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part.encode() if isinstance(part, str) else np.ascontiguousarray(part).data)
    return digest.hexdigest()


def train_shallow_text(
    products: pd.DataFrame, texts: Texts, categories: list[str], options: TrainingOptions | None = None
) -> ShallowText:
    """Fit and save TF-IDF and mean embeddings with logistic regression, and their fusion.

    Raises UserError as `fit_shallow_text`.
    """
    options = options or TrainingOptions()
    embeddings = product_embeddings(texts, len(products))
    shallow = fit_shallow_text(products, embeddings, len(categories), options.seed)
    if options.data_dir is not None:
        encoder = {"encoder": texts.encoder, "encoder_weights": texts.encoder_weights}
        content = {"labels": categories, **encoder, "tfidf": shallow.tfidf, "mean_embedding": shallow.mean_embedding}
        content["fusion"] = asdict(shallow.fusion)
        save_model(DataFolder(options.data_dir).checkpoints / MODEL_FILES["shallow_text"], content)
    return shallow


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
    options: TrainingOptions | None = None,
) -> Combined:
    """Combine two trained branches, and both with TF-IDF: fit the last layers and the temperature on the validation
    split.

    Raises UserError as `fuse_products`.
    """
    start = time.perf_counter()
    options = options or TrainingOptions()
    text_logits = text_outputs(text.model, texts, options.device)
    photo_logits = photo_outputs(image.model, photos, options.device)
    image_logits = mean_per_product(photo_logits, photos.product_rows, len(products)).astype(np.float32)
    fusion, logits = fuse_products([text_logits, image_logits], products, options.seed)
    outputs = [text_logits, image_logits, shallow.outputs[TFIDF]]
    with_tfidf, with_tfidf_logits = fuse_products(outputs, products, options.seed)
    rows = rows_of_split(products, "validation")
    labels = products["main_category_code"].to_numpy(np.int64)[rows]
    temperature = fit_temperature(logits[rows], labels)
    model = CombinedModel(text.model, image.model, len(categories))
    model.set_last_layer(fusion)
    if options.data_dir is not None:
        configuration = {
            "seed": options.seed,
            "encoder": texts.encoder,
            "encoder_weights": texts.encoder_weights,
            "embedding_scale": EMBEDDING_SCALE,
            "image_size": photos.pixels.shape[1],
            "image_weights": image.weights,
            "image_weights_hash": image.weights_hash,
            "l2": fusion.l2,
            "temperature": temperature,
        }
        validation = {"accuracy": accuracy_score(labels, logits[rows].argmax(1))}
        path = checkpoint_path(options.data_dir, "combined")
        save_checkpoint(path, model, categories, configuration=configuration, validation=validation)
        content = {"labels": categories, "tfidf": shallow.tfidf, "fusion": asdict(with_tfidf)}
        content["combined_model"] = fusion.layer_hash()
        save_model(DataFolder(options.data_dir).checkpoints / MODEL_FILES["fused"], content)
    seconds = time.perf_counter() - start
    return Combined(
        model.eval(),
        fusion,
        text_logits,
        photo_logits,
        image_logits,
        logits,
        temperature,
        seconds,
        with_tfidf,
        with_tfidf_logits,
    )


def fine_tuning_groups(learner: Learner, head: nn.Module, recipe: Recipe) -> list[dict[str, Any]]:
    """The trained parameters of a learner in two groups with a learning rate each: those of the network below its
    `head`, which are pretrained, and the others, which start from random initialisation."""
    below = set(learner.model.parameters()) - set(head.parameters())
    trained = [parameter for parameter in learner.parameters() if parameter.requires_grad]
    return [
        {"params": [p for p in trained if p in below], "lr": recipe.learning_rate * recipe.pretrained_factor},
        {"params": [p for p in trained if p not in below], "lr": recipe.learning_rate},
    ]


def _batches_of_splits(
    examples: Photos | Texts,
    inputs,
    products: pd.DataFrame,
    recipe: Recipe,
    transforms: tuple,
    device: torch.device,
    leaves: bool = False,
) -> tuple[Batches, Batches, np.ndarray]:
    """Batches of train and of validation, labelled by main category, those of train with `leaves` by leaf category; and
    the main category (L,) of each label of train. Raises UserError as `check_splits`."""
    rank, world_size = rank_and_world_size()
    if recipe.batch_size % world_size or recipe.batch_size < 2 * world_size:
        raise UserError(
            f"batches of {recipe.batch_size} cannot be shared equally by {world_size} processes with at least two "
            "examples each: give another --batch-size."
        )
    splits = ("train", "validation")
    what = "photos" if isinstance(examples, Photos) else "listings"
    check_splits(products.iloc[np.unique(examples.product_rows)], what, splits)
    train_rows, validation_rows = (examples_of_split(examples, products, split) for split in splits)
    codes = products["main_category_code"].to_numpy(np.int64)[examples.product_rows]  # one per example
    labels, main_of_label = codes[train_rows], np.arange(codes.max() + 1)
    if leaves:
        paths = products["category"].to_numpy()[examples.product_rows]
        labels, main_of_label = leaf_labels(paths[train_rows], codes[train_rows])
    size = recipe.batch_size
    train = Batches(inputs, train_rows, labels, size, True, transforms[0], device, rank, world_size)
    validation = Batches(inputs, validation_rows, codes[validation_rows], size, False, transforms[1], device)
    return train, validation, main_of_label
