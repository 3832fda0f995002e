"""How the networks learn: the device, one epoch, evaluation, and `fit`, which goes through the epochs.

Batches are pairs of inputs and labels on any iterable that can be gone through once an epoch and has a length,
`models.product_dataset.Batches` for one. Under torchrun `fit` trains with DistributedDataParallel; each process then
gets batches that hold its share.
"""

import contextlib
import copy
import math
import time
from collections.abc import Iterable, Iterator, Sized
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, distributed, nn
from torch.nn import functional as F
from torch.nn.parallel import DistributedDataParallel

from marketplace.data_folder import UserError
from models.checkpoints import load_checkpoint, random_states, save_checkpoint, set_random_states
from models.device import autocast, memory_advice, process_rank, rank_and_world_size
from models.leaf_categories import LeafCategories
from models.small_convolutions import small_convolutions


class BatchesOfAnEpoch(Sized, Iterable, Protocol):
    """Pairs of inputs (B, ...) and labels, (B,) int64 or probabilities (B, C) float32; `len` says how many pairs."""


@dataclass(frozen=True)
class Recipe:
    """How a network is trained; the two that are used stand in `models.recipes`."""

    epochs: int
    batch_size: int
    learning_rate: float  # the highest of the one-cycle schedule, for the layers trained from scratch
    pretrained_factor: float = 1.0  # of that rate for pretrained layers
    weight_decay: float = 0.01
    warm_up: float = 0.3  # share of the steps in which the rate rises
    label_smoothing: float = 0.0
    average_decay: float = 0.0  # of the moving average of the weights; 0: none
    patience: int = 0  # epochs without a better validation score before training ends; 0: never early
    options: dict[str, float] = field(default_factory=dict)  # of the network's own augmentation


class WeightAverage:
    """A moving average of a network's weights; it evaluates steadier than the weights of the last step."""

    def __init__(self, model: nn.Module, decay: float):
        self.model = copy.deepcopy(model).requires_grad_(False).eval()
        self.decay = decay
        self.steps = 0

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """Go a step towards the weights of `model`; larger steps at first, when they are still far from good."""
        self.steps += 1
        decay = min(self.decay, self.steps / (9 + self.steps))
        for mine, theirs in zip(self.model.state_dict().values(), model.state_dict().values(), strict=True):
            if mine.is_floating_point():
                mine.lerp_(theirs, 1 - decay)
            else:
                mine.copy_(theirs)


def train_one_epoch(
    model: nn.Module,
    batches: BatchesOfAnEpoch,
    optimizer: torch.optim.Optimizer,
    scheduler: torch.optim.lr_scheduler.LRScheduler | None,
    device: torch.device,
    *,
    label_smoothing: float = 0.0,
    average: WeightAverage | None = None,
    epoch: int = 1,
) -> dict[str, float]:
    """Learn from every batch once; returns mean `loss`, `accuracy` on what was learnt from, `examples`, `seconds`.

    A batch of one is left out where batch normalisation learns, which needs two.

    Raises UserError at the first loss that is not a number, before it reaches the weights, when memory runs out, and
    when every batch was one of one.
    """
    start = time.perf_counter()
    model.train()
    plain = model.module if isinstance(model, DistributedDataParallel) else model
    normalises = any(isinstance(module, nn.BatchNorm2d) and module.training for module in model.modules())
    totals = torch.zeros(2, device=device)  # sum of the losses, right answers
    examples = 0
    for step, (inputs, labels) in enumerate(batches, start=1):
        if not (normalises and len(labels) == 1):
            inputs, labels = inputs.to(device, non_blocking=True), labels.to(device, non_blocking=True)
            with memory_advice(len(labels) * rank_and_world_size()[1]):
                optimizer.zero_grad()
                with autocast(device), small_convolutions(device):
                    logits = model(inputs).float()
                    loss = F.cross_entropy(logits, labels, label_smoothing=label_smoothing)
                if not math.isfinite(loss.item()):
                    raise UserError(
                        f"the loss is not a number at step {step} of epoch {epoch}: "
                        "lower the learning rate or look at the data."
                    )
                loss.backward()
                optimizer.step()
            if average is not None:
                average.update(plain)
            with torch.no_grad():
                predicted = logits.argmax(1)
                labels = labels.argmax(1) if labels.ndim == 2 else labels
                if isinstance(plain, LeafCategories):  # accuracy is that of the main category
                    predicted, labels = plain.main_of_leaf[predicted], plain.main_of_leaf[labels]
                totals += torch.stack([loss * len(labels), (predicted == labels).sum()])
            examples += len(labels)
        if scheduler is not None and examples:
            scheduler.step()
    if not examples:
        raise UserError("batch normalisation needs two photos in each process's batch: give a larger --batch-size.")
    loss, accuracy = (totals / examples).tolist()
    return {"loss": loss, "accuracy": accuracy, "examples": examples, "seconds": time.perf_counter() - start}


@torch.inference_mode()
def evaluate(model: nn.Module, batches: BatchesOfAnEpoch, device: torch.device) -> dict[str, Any]:
    """What `model` says about every batch: `logits` (N, C) float32 and `labels` (N,) int64, both on the CPU, with the
    mean cross-entropy `loss` and the `accuracy`.

    Raises UserError when there is no batch, and when memory runs out.
    """
    model.eval()
    all_logits, all_labels = [], []
    for inputs, labels in batches:
        with memory_advice(len(labels)), autocast(device):
            all_logits.append(model(inputs.to(device, non_blocking=True)).float())
        all_labels.append(labels)
    if not all_logits:
        raise UserError("there is nothing to evaluate: one of the splits has no usable listing or photo.")
    logits, labels = torch.cat(all_logits).cpu(), torch.cat(all_labels).cpu()
    return {
        "loss": F.cross_entropy(logits, labels).item(),
        "accuracy": (logits.argmax(1) == labels).float().mean().item(),
        "logits": logits,
        "labels": labels,
    }


def fit(
    model: nn.Module,
    train_batches: BatchesOfAnEpoch,
    validation_batches: BatchesOfAnEpoch,
    recipe: Recipe,
    device: torch.device,
    *,
    labels: list[str],
    configuration: dict[str, Any] | None = None,
    parameter_groups: list[dict[str, Any]] | None = None,
    checkpoints: tuple[Path, Path] | None = None,
    resume: bool = False,
    checkpoint_seconds: float = 60,
    log_dir: Path | None = None,
    verbose: bool = True,
) -> list[dict[str, float]]:
    """Train `model` in place with AdamW on a one-cycle schedule; it ends with the weights of its best epoch, by
    validation accuracy and then loss.

    `parameter_groups` gives groups of parameters with a rate (`lr`) each; without it all learn at the recipe's.
    `checkpoints` are the paths of `last` and `best`: `last` is written after an epoch when `checkpoint_seconds` have
    passed since it was written before and at the end; `resume` goes on from it. `labels` and `configuration` are
    stored in both and compared on resuming. `log_dir` takes TensorBoard logs.

    Returns the learning curves: a dict an epoch with `train_loss`, `train_accuracy`, `validation_loss`,
    `validation_accuracy`, `learning_rate`, `seconds`.

    Raises UserError as `train_one_epoch`, and when the checkpoint to go on from belongs to another training.
    """
    if len(train_batches) == 0:
        raise UserError("there is nothing to train on: the train split has no usable listing or photo.")
    run = _Run(model, train_batches, recipe, device, labels, configuration or {}, parameter_groups)
    if checkpoints and resume and checkpoints[0].exists():
        run.resume(checkpoints[0])
        if verbose:
            print(f"going on after epoch {len(run.history)} of {recipe.epochs} ({checkpoints[0].name}).")
    saved = time.monotonic()
    with _log_writer(log_dir) as log:
        while not run.finished():
            epoch = run.one_epoch(train_batches, validation_batches)
            log(epoch, len(run.history))
            if verbose:
                print(epoch_line(epoch, len(run.history), recipe.epochs), flush=True)
            if checkpoints and (run.finished() or time.monotonic() - saved >= checkpoint_seconds):
                run.save(*checkpoints)
                saved = time.monotonic()
    model.load_state_dict(run.best_weights)
    return run.history


def epoch_line(epoch: dict[str, float], number: int, epochs: int) -> str:
    """An epoch of the learning curves as a line of text."""
    return (
        f"epoch {number:3d}/{epochs}: train loss {epoch['train_loss']:.3f}, accuracy {epoch['train_accuracy']:.1%}; "
        f"validation loss {epoch['validation_loss']:.3f}, accuracy {epoch['validation_accuracy']:.1%}; "
        f"{epoch['seconds']:.1f} s"
    )


@contextlib.contextmanager
def _log_writer(log_dir: Path | None) -> Iterator[Any]:
    """A function that logs an epoch for TensorBoard, or does nothing."""
    if log_dir is None or process_rank() != 0:
        yield lambda epoch, number: None
        return
    from torch.utils.tensorboard import SummaryWriter  # slow to import, and few ask for it

    with SummaryWriter(log_dir) as writer:

        def log(epoch: dict[str, float], number: int) -> None:
            for name, value in epoch.items():
                writer.add_scalar(name, value, number)

        yield log


class _Run:
    """Everything that changes while `fit` trains: what is saved to go on later."""

    def __init__(self, model, train_batches, recipe, device, labels, configuration, parameter_groups):
        self.device = device
        self.recipe = recipe
        self.labels = list(labels)
        self.configuration = {**configuration, "recipe": asdict(recipe), "steps_an_epoch": len(train_batches)}
        self.memory_format = torch.preserve_format if device.type == "mps" else torch.channels_last
        self.model = model.to(device, memory_format=self.memory_format)
        self.learner = self.model
        if distributed.is_initialized():
            self.learner = DistributedDataParallel(
                self.model, device_ids=[device.index] if device.type == "cuda" else None
            )
        if device.type == "cuda":
            torch.backends.cudnn.benchmark = True  # photos and batches keep one size
        self.average = WeightAverage(self.model, recipe.average_decay) if recipe.average_decay else None
        if parameter_groups is None:
            parameter_groups = [{"params": [p for p in model.parameters() if p.requires_grad]}]
        self.optimizer = torch.optim.AdamW(
            parameter_groups, recipe.learning_rate, weight_decay=recipe.weight_decay, fused=device.type != "mps"
        )
        self.scheduler = torch.optim.lr_scheduler.OneCycleLR(
            self.optimizer,
            max_lr=[group["lr"] for group in self.optimizer.param_groups],
            total_steps=max(2, recipe.epochs * len(train_batches) + 1),
            pct_start=recipe.warm_up,
        )
        self.history: list[dict[str, float]] = []
        self.best_weights: dict[str, Tensor] = {}
        self.best_epoch = 0  # counted from 1

    def finished(self) -> bool:
        done = len(self.history)
        waited = self.recipe.patience and done - self.best_epoch >= self.recipe.patience
        return done >= self.recipe.epochs or bool(waited)

    def one_epoch(self, train_batches: BatchesOfAnEpoch, validation_batches: BatchesOfAnEpoch) -> dict[str, float]:
        start = time.perf_counter()
        rate = self.optimizer.param_groups[-1]["lr"]
        learnt = train_one_epoch(
            self.learner,
            train_batches,
            self.optimizer,
            self.scheduler,
            self.device,
            label_smoothing=self.recipe.label_smoothing,
            average=self.average,
            epoch=len(self.history) + 1,
        )
        judged = self.average.model if self.average else self.model
        loss, accuracy = self._validate(judged, validation_batches)
        epoch = {
            "train_loss": learnt["loss"],
            "train_accuracy": learnt["accuracy"],
            "validation_loss": loss,
            "validation_accuracy": accuracy,
            "learning_rate": rate,
            "seconds": time.perf_counter() - start,
        }
        self.history.append(epoch)
        best = self.history[self.best_epoch - 1]
        if not self.best_epoch or (accuracy, -loss) > (best["validation_accuracy"], -best["validation_loss"]):
            self.best_epoch = len(self.history)
            self.best_weights = {name: tensor.detach().clone() for name, tensor in judged.state_dict().items()}
        return epoch

    def _validate(self, model: nn.Module, batches: BatchesOfAnEpoch) -> tuple[float, float]:
        """Loss and accuracy; the first process says them to all, so that they stop and choose alike."""
        scores = torch.zeros(2, dtype=torch.float64 if self.device.type != "mps" else torch.float32)
        if process_rank() == 0:
            result = evaluate(model, batches, self.device)
            scores[:] = torch.tensor([result["loss"], result["accuracy"]])
        if distributed.is_initialized():
            scores = scores.to(self.device)
            distributed.broadcast(scores, src=0)
        loss, accuracy = scores.tolist()
        return loss, accuracy

    def save(self, last: Path, best: Path) -> None:
        if process_rank() != 0:
            return
        chosen = self.history[self.best_epoch - 1]
        validation = {"loss": chosen["validation_loss"], "accuracy": chosen["validation_accuracy"]}
        about = {"labels": self.labels, "configuration": self.configuration, "validation": validation}
        training = {
            "optimizer": self.optimizer.state_dict(),
            "scheduler": self.scheduler.state_dict(),
            "random": random_states(self.device),
            "average": self.average and {"weights": self.average.model.state_dict(), "steps": self.average.steps},
            "history": self.history,
            "best_epoch": self.best_epoch,
            "best_weights": self.best_weights,
        }
        model, weights = self.model, self.best_weights
        if isinstance(model, LeafCategories):  # the layer for the leaves has served its purpose
            own = {name for name in weights if name.startswith("model.")}
            model, weights = model.model, {name.removeprefix("model."): weights[name] for name in own}
        save_checkpoint(
            best, model, **about, weights=weights
        )  # first: after a kill in between, resuming writes it anew
        save_checkpoint(last, self.model, **about, training=training)

    def resume(self, path: Path) -> None:
        checkpoint = load_checkpoint(path, self.model, self.labels, self.device)
        theirs = checkpoint["configuration"]
        different = [name for name in self.configuration if theirs.get(name) != self.configuration[name]]
        if different or "training" not in checkpoint:
            raise UserError(
                f"the checkpoint {path} belongs to a training with other settings ({', '.join(different) or 'none'}): "
                "repeat it with the same, or start anew without --resume."
            )
        training = checkpoint["training"]
        self.optimizer.load_state_dict(training["optimizer"])
        self.scheduler.load_state_dict(training["scheduler"])
        if self.average:
            self.average.model.load_state_dict(training["average"]["weights"])
            self.average.steps = training["average"]["steps"]
        self.history = training["history"]
        self.best_epoch = training["best_epoch"]
        self.best_weights = training["best_weights"]
        set_random_states(training["random"], self.device)
