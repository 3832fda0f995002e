"""How networks are trained: an epoch, evaluation, the trainer and resuming; on small networks, and on ImageModel."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from marketplace.data_folder import UserError
from models import ImageModel, training
from models.device import pick_device
from models.image_weights import load_image_weights
from models.networks import evaluation_transform
from models.predict import checkpoint_path, load_checkpoint
from models.training import (
    Batches,
    Learner,
    Recipe,
    Trainer,
    TrainingOptions,
    evaluate,
    moving_average,
    train_one_epoch,
    train_transform,
)

CPU = torch.device("cpu")
LABELS = ["a", "b", "c"]
RECIPE = Recipe(epochs=3, batch_size=8, learning_rate=0.05)
OPTIONS = TrainingOptions(device=CPU)


def examples(count: int = 40) -> tuple[torch.Tensor, torch.Tensor]:
    """Points (N, 6) whose first numbers tell their class."""
    generator = torch.Generator().manual_seed(3)
    labels = torch.randint(0, 3, (count,), generator=generator)
    inputs = torch.randn(count, 6, generator=generator)
    inputs[torch.arange(count), labels] += 3
    return inputs, labels


def batches(count: int = 40, shuffle: bool = False, batch_size: int = 8, **options) -> Batches:
    inputs, labels = examples(count)
    return Batches(inputs.numpy(), np.arange(count), labels.numpy(), batch_size, shuffle=shuffle, **options)


def small_model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 16), nn.Dropout(0.2), nn.ReLU(), nn.Linear(16, 3))


def fitted(
    model: nn.Module,
    recipe: Recipe = RECIPE,
    train=None,
    validation=None,
    options: TrainingOptions = OPTIONS,
    groups: list[dict] | None = None,
) -> list[dict]:
    torch.manual_seed(7)
    train = batches(shuffle=True) if train is None else train
    validation = batches() if validation is None else validation
    return Trainer(Learner(model), train, validation, recipe, options, groups).fit("small", LABELS)


def saving(folder: Path, resume: bool = False, seed: int = 7) -> TrainingOptions:
    """Checkpoints after every epoch."""
    return TrainingOptions(seed, CPU, folder, resume, checkpoint_seconds=0)


def checkpoint_names(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / "checkpoints").iterdir())


def same(first: nn.Module, second: nn.Module) -> bool:
    pairs = zip(first.state_dict().values(), second.state_dict().values(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


def photo_batches(count: int, training: bool = True) -> Batches:
    generator = torch.Generator().manual_seed(4)
    pixels = torch.randint(0, 256, (count, 32, 32, 3), dtype=torch.uint8, generator=generator)
    labels = np.arange(count) % 3
    transform = train_transform if training else evaluation_transform
    return Batches(pixels.numpy(), np.arange(count), labels, 4, shuffle=training, transform=transform)


def photo_model() -> ImageModel:
    torch.manual_seed(5)
    model = ImageModel(3)
    load_image_weights(model, "none")
    return model


def test_training_lowers_the_loss_and_records_every_epoch(capsys):
    model = small_model()
    history = fitted(model, replace(RECIPE, epochs=6, label_smoothing=0.1))
    assert len(history) == 6 and capsys.readouterr().out.count("epoch ") == 6
    names = {"train_loss", "train_accuracy", "validation_loss", "validation_accuracy", "learning_rate", "seconds"}
    assert all(epoch.keys() == names for epoch in history)
    assert history[-1]["train_loss"] < history[0]["train_loss"]
    result = evaluate(model, batches(), CPU)
    assert result["accuracy"] > 0.8
    assert result["logits"].shape == (40, 3) and result["logits"].dtype == torch.float32


def test_two_runs_with_one_seed_are_equal():
    first, second = small_model(), small_model()
    assert [e["train_loss"] for e in fitted(first)] == [e["train_loss"] for e in fitted(second)]
    assert same(first, second)


def test_train_loss_is_measured_without_label_smoothing():
    """So that it can be compared with that of validation."""
    learner, still = Learner(small_model().eval()), torch.optim.SGD(nn.Linear(1, 1).parameters(), 0.0)
    learner.model[1].p = 0.0
    measured = train_one_epoch(learner, batches(), still, CPU, label_smoothing=0.3)
    expected = evaluate(learner.model, batches(), CPU)
    assert measured["loss"] == pytest.approx(expected["loss"])
    assert measured["accuracy"] == pytest.approx(expected["accuracy"])


@pytest.mark.parametrize(("every", "printed"), [(1, [1, 2, 3, 4, 5, 6, 7]), (3, [1, 3, 6, 7]), (20, [1, 7])])
def test_the_first_and_the_last_epoch_and_every_few_are_printed(capsys, every, printed):
    fitted(small_model(), replace(RECIPE, epochs=7), options=replace(OPTIONS, print_every=every))
    lines = capsys.readouterr().out.splitlines()
    assert [int(line.split()[1].split("/")[0]) for line in lines] == printed


def test_the_weights_of_the_best_epoch_remain():
    model, recipe = small_model(), replace(RECIPE, epochs=6, learning_rate=1.0)
    history = fitted(model, recipe)
    best = max(history, key=lambda epoch: (epoch["validation_accuracy"], -epoch["validation_loss"]))
    result = evaluate(model, batches(), CPU)
    assert result["accuracy"] == best["validation_accuracy"]
    assert result["loss"] == pytest.approx(best["validation_loss"])


def test_early_stopping():
    inputs, labels = examples()
    noise = [(torch.zeros_like(inputs), labels)]
    history = fitted(small_model(), replace(RECIPE, epochs=50, patience=2, learning_rate=1e-9), validation=noise)
    scores = [(epoch["validation_accuracy"], -epoch["validation_loss"]) for epoch in history]
    assert len(history) == scores.index(max(scores)) + 3 < 10


def test_the_moving_average_warms_up():
    model = nn.Linear(1, 1, bias=False)
    average = moving_average(model, decay=0.15)
    seen = []
    for weight in (10.0, 20.0, 30.0, 40.0):
        with torch.no_grad():
            model.weight.fill_(weight)
        average.update_parameters(model)
        seen.append(average.module.weight.item())
    first, second = 10.0, 0.1 * 10 + 0.9 * 20  # the initial weight has no part in it
    third = 0.15 * second + 0.85 * 30  # 2 / 11 would be more than the decay
    assert seen == pytest.approx([first, second, third, 0.15 * third + 0.85 * 40])


def test_the_moving_average_has_the_buffers_too_and_counts_stay_whole():
    model = nn.BatchNorm1d(2).train()
    average = moving_average(model, decay=0.5)
    for value in (0.0, 4.0):
        model(torch.full((3, 2), value) + torch.randn(3, 2))
        average.update_parameters(model)
    averaged = average.module
    assert averaged.num_batches_tracked == 2 and averaged.num_batches_tracked.dtype == torch.int64
    assert (averaged.running_mean > 0).all() and (averaged.running_mean < model.running_mean).all()


def test_without_a_decay_the_last_weights_are_the_average():
    model = small_model()
    average = moving_average(model, decay=0.0)
    for _ in range(3):
        with torch.no_grad():
            model[0].weight.mul_(1.5)
        average.update_parameters(model)
    assert same(average.module, model)


def test_a_network_is_left_with_the_averaged_weights():
    averaged, plain = small_model(), small_model()
    fitted(averaged, replace(RECIPE, average_decay=0.9))
    fitted(plain)
    assert not same(averaged, plain)
    assert all(parameter.requires_grad for parameter in averaged.parameters())


def test_groups_of_parameters_keep_their_own_rates():
    model = small_model()
    first = model[0].weight.clone()
    groups = [{"params": model[0].parameters(), "lr": 0.0}, {"params": model[3].parameters()}]
    history = fitted(model, replace(RECIPE, weight_decay=0.0), groups=groups)
    assert torch.equal(model[0].weight, first)
    assert history[0]["learning_rate"] == pytest.approx(RECIPE.learning_rate / 25)


class NanAt(nn.Module):
    """Has an output that is not a number at its `step`-th call in training."""

    def __init__(self, step: int):
        super().__init__()
        self.layer, self.step, self.calls = nn.Linear(6, 3), step, 0

    def forward(self, inputs):
        self.calls += self.training
        return self.layer(inputs) * (float("nan") if self.calls == self.step else 1.0)


def test_a_loss_that_is_not_a_number_ends_the_epoch_and_names_the_step(tmp_path):
    with pytest.raises(UserError, match=r"^the loss is not a number at step 3 of the epoch: [^\n]*\.$"):
        fitted(NanAt(5 + 3), options=saving(tmp_path))
    last, best = (load_checkpoint(checkpoint_path(tmp_path, "small", kind))["weights"] for kind in ("last", "best"))
    saved = last | best
    assert all(torch.isfinite(tensor).all() for tensor in saved.values())  # those of the first epoch


class NanInEvaluation(NanAt):
    def forward(self, inputs):
        return self.layer(inputs) * (1.0 if self.training else float("nan"))


@pytest.mark.parametrize(
    ("model", "recipe"),
    [(NanInEvaluation(0), RECIPE), (small_model(), replace(RECIPE, learning_rate=1e38, weight_decay=0.0))],
)
def test_a_training_that_diverges_leaves_the_earlier_checkpoint(model, recipe, tmp_path):
    fitted(small_model(), options=saving(tmp_path))
    before = checkpoint_path(tmp_path, "small").read_bytes()
    with pytest.raises(UserError, match=r"not (a number|numbers)[^\n]*: lower the learning rate [^\n]*\.$"):
        fitted(model, recipe, options=saving(tmp_path))
    assert checkpoint_path(tmp_path, "small").read_bytes() == before
    assert checkpoint_names(tmp_path) == ["small_model_best.pt"]


class Greedy(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(6, 3)

    def forward(self, inputs):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB")


def test_out_of_memory_advises_a_batch_size():
    class Huge(Greedy):
        def forward(self, inputs):
            return torch.empty(2**55)  # the CPU's error is of another class

    class Wrong(Greedy):
        def forward(self, inputs):
            raise RuntimeError("shapes differ")

    for model in (Greedy(), Huge()):
        with pytest.raises(UserError, match=r"batches of 8: give --batch-size 4\.$"):
            fitted(model)
    with pytest.raises(RuntimeError, match="shapes differ"):
        fitted(Wrong())
    with pytest.raises(UserError, match="--batch-size 4"):
        evaluate(Greedy(), batches(), CPU)
    with pytest.raises(UserError, match="smaller photos"):
        evaluate(Greedy(), batches(batch_size=1), CPU)
    with pytest.raises(UserError, match=r"batches of 8: give --batch-size 4\.$"):
        fitted(small_model(), train=batches(transform=Greedy().forward))


def test_a_last_batch_of_one_is_not_trained_on():
    photos = photo_model()
    history = fitted(photos, replace(RECIPE, epochs=1), photo_batches(5), photo_batches(5, training=False))
    assert history[0]["train_loss"] > 0
    assert all(torch.isfinite(tensor).all() for tensor in photos.state_dict().values())


def test_a_class_that_a_split_lacks():
    inputs, labels = examples()
    some = labels != 2
    lacking = [(inputs[some], labels[some])]
    assert len(fitted(small_model(), validation=lacking)) == 3
    assert len(fitted(small_model(), train=lacking)) == 3


def test_an_empty_split_is_one_sentence():
    with pytest.raises(UserError, match=r"nothing to train on: [^\n]*\.$"):
        fitted(small_model(), train=batches(0))
    with pytest.raises(UserError, match=r"nothing to evaluate: [^\n]*\.$"):
        fitted(small_model(), validation=[])


def test_the_figures_of_an_epoch_by_hand():
    model = nn.Linear(3, 3, bias=False)
    with torch.no_grad():
        model.weight.copy_(2 * torch.eye(3))
    labels = torch.tensor([0, 1, 0])
    by_hand = -(2 * torch.eye(3)).log_softmax(1)[torch.arange(3), labels].mean().item()
    epoch = train_one_epoch(
        Learner(model),
        Batches(np.eye(3, dtype=np.float32), np.arange(3), labels.numpy(), batch_size=3),
        torch.optim.SGD(model.parameters(), 0.1),
        CPU,
    )
    assert epoch["loss"] == pytest.approx(by_hand, rel=1e-2)  # bfloat16 where the hardware has it
    assert epoch["accuracy"] == pytest.approx(2 / 3)


class StopsInEpoch:
    """Batches that end in a crash in the middle of an epoch."""

    def __init__(self, batches: Batches, epoch: int):
        self.batches, self.epoch, self.epochs = batches, epoch, 0

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self):
        self.epochs += 1
        for number, batch in enumerate(self.batches):
            if self.epochs == self.epoch and number == 1:
                raise RuntimeError("crash")
            yield batch


def interrupted(folder: Path, recipe: Recipe = RECIPE) -> None:
    """Leave the checkpoints of a training that crashed in its second epoch."""
    with pytest.raises(RuntimeError, match="crash"):
        fitted(small_model(), recipe, StopsInEpoch(batches(shuffle=True), 2), options=saving(folder))


def test_image_model_resumes_to_the_same_weights(tmp_path):
    recipe = Recipe(epochs=2, batch_size=4, learning_rate=1e-3, average_decay=0.9)
    validation = photo_batches(4, training=False)
    straight, resumed = photo_model(), photo_model()
    history = fitted(straight, recipe, photo_batches(8), validation)
    with pytest.raises(RuntimeError, match="crash"):
        fitted(photo_model(), recipe, StopsInEpoch(photo_batches(8), 2), validation, saving(tmp_path))
    again = fitted(resumed, recipe, photo_batches(8), validation, saving(tmp_path, resume=True))
    assert same(straight, resumed)
    assert [epoch["train_loss"] for epoch in again] == [epoch["train_loss"] for epoch in history]


def test_a_finished_training_leaves_no_last_checkpoint_and_is_loaded(tmp_path, capsys):
    first, second = small_model(), nn.Sequential(*small_model())
    history = fitted(first, options=saving(tmp_path))
    assert checkpoint_names(tmp_path) == ["small_model_best.pt"]
    before = checkpoint_path(tmp_path, "small").stat().st_mtime_ns
    assert fitted(second, options=saving(tmp_path, resume=True)) == history
    assert same(first, second)
    assert capsys.readouterr().out.splitlines()[3:] == [
        "finished: small_model_best.pt is the result of a training with these settings."
    ]
    assert checkpoint_path(tmp_path, "small").stat().st_mtime_ns == before


def test_a_training_that_stopped_early_is_finished(tmp_path):
    recipe = replace(RECIPE, epochs=50, patience=2, learning_rate=1e-9)
    history = fitted(small_model(), recipe, options=saving(tmp_path))
    assert fitted(small_model(), recipe, options=saving(tmp_path, resume=True)) == history


def deleted(folder: Path) -> None:
    fitted(small_model(), options=saving(folder))
    checkpoint_path(folder, "small").unlink()


def killed_before_the_first_last(folder: Path) -> None:
    interrupted(folder)
    checkpoint_path(folder, "small", "last").unlink()


def of_other_settings(folder: Path) -> None:
    fitted(small_model(), options=saving(folder, seed=8))


@pytest.mark.parametrize(
    ("leave", "reason"),
    [
        (deleted, "there is no checkpoint small_model_best.pt"),
        (killed_before_the_first_last, "the training of small_model_best.pt is not finished"),
        (of_other_settings, "the training of small_model_best.pt has other settings (seed)"),
    ],
)
def test_resuming_without_a_training_to_go_on_with_trains_anew_and_says_so(leave, reason, tmp_path, capsys):
    leave(tmp_path)
    capsys.readouterr()
    model, expected = small_model(), small_model()
    history = fitted(model, options=saving(tmp_path, resume=True))
    out = capsys.readouterr().out
    assert out.startswith(f"training anew: {reason}.\n") and "3/3" in out
    assert len(history) == 3 and "history" in load_checkpoint(checkpoint_path(tmp_path, "small"))
    fitted(expected)
    assert same(model, expected)


def test_a_kill_between_the_two_checkpoints_leaves_no_best_that_is_too_old(tmp_path, monkeypatch):
    recipe = replace(RECIPE, learning_rate=0.005)  # slow enough for every epoch to be the best
    straight = small_model()
    fitted(straight, recipe)
    save = training.save_checkpoint
    written = []

    def killed(path, *arguments, **options):
        if len(written) == 3:  # the second file of the second epoch
            raise KeyboardInterrupt
        written.append(path)
        save(path, *arguments, **options)

    monkeypatch.setattr(training, "save_checkpoint", killed)
    with pytest.raises(KeyboardInterrupt):
        fitted(small_model(), recipe, options=saving(tmp_path))
    monkeypatch.setattr(training, "save_checkpoint", save)
    assert len(load_checkpoint(checkpoint_path(tmp_path, "small", "last"))["state"]["history"]) == 1
    fitted(small_model(), recipe, options=saving(tmp_path, resume=True))
    best = small_model()
    load_checkpoint(checkpoint_path(tmp_path, "small"), best, LABELS)
    assert same(best, straight)


def test_going_on_with_other_settings_is_refused(tmp_path):
    interrupted(tmp_path)
    with pytest.raises(UserError, match=r"other settings \(seed\): [^\n]*\.$"):
        fitted(small_model(), options=saving(tmp_path, resume=True, seed=8))


def test_more_processes_than_gpus_are_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert pick_device() == torch.device("cuda", 1)
    monkeypatch.setenv("LOCAL_RANK", "2")
    with pytest.raises(UserError, match=r"process 3 of this machine has no GPU: give --nproc_per_node=2"):
        pick_device()


@pytest.mark.parametrize(("epochs", "trained"), [(1, [32]), (2, [24, 32]), (4, [24, 24, 32, 32])])
def test_progressive_resizing_trains_on_smaller_photos_first_and_evaluates_on_whole_ones(epochs, trained):
    sides = []
    model = photo_model()
    model.register_forward_pre_hook(lambda module, inputs: sides.append((module.training, inputs[0].shape[-1])))
    recipe = replace(RECIPE, epochs=epochs, learning_rate=1e-4, scales=(0.75, 1.0))
    fitted(model, recipe, photo_batches(8), photo_batches(4, training=False))
    assert [side for training, side in sides if training][::2] == trained
    assert {side for training, side in sides if not training} <= {32}
