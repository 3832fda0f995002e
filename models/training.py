"""How a network is trained: one epoch, evaluation, and `Trainer`, which runs the epochs and writes checkpoints.

Under torchrun the trainer uses DistributedDataParallel; each process then needs batches of its own part of the data.
"""

import math
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, distributed, nn
from torch.nn import functional as F
from torch.nn.parallel import DistributedDataParallel
from torch.optim.swa_utils import AveragedModel

from marketplace.data_folder import UserError
from models.batches import Batches
from models.checkpoints import checkpoint_path, load_checkpoint, load_weights, save_checkpoint
from models.device import autocast, from_first_process, memory_advice, pick_device, process_rank, rank_and_world_size


@dataclass(frozen=True)
class Recipe:
    """Hyperparameters of one training run; the recipes are in `models.recipes`."""

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
