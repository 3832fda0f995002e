"""How networks are trained: an epoch, evaluation, the trainer and resuming; on small networks, and on ImageModel."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from marketplace.data_folder import UserError
from models import ImageModel, training
from models.image_weights import load_image_weights
from models.networks import evaluation_transform
from models.predict import load_checkpoint
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


def batches(count: int = 40, shuffle: bool = False, batch_size: int = 8) -> Batches:
    inputs, labels = examples(count)
    return Batches(inputs.numpy(), np.arange(count), labels.numpy(), batch_size, torch.Tensor.float, CPU, shuffle)


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
    return TrainingOptions(seed, CPU, folder, resume)


@pytest.fixture(autouse=True)
def checkpoints_after_every_epoch(monkeypatch):
    monkeypatch.setattr(training, "CHECKPOINT_SECONDS", 0)


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
    return Batches(pixels.numpy(), np.arange(count), labels, 4, transform, CPU, shuffle=training)


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
    assert evaluate(model, batches(), CPU)["accuracy"] > 0.8


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


@pytest.mark.parametrize(("every", "printed"), [(3, [1, 3, 6, 7]), (20, [1, 7])])
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


class DivergesAt(nn.Module):
    """Has an output that is not a number at its `step`-th call in training."""

    def __init__(self, step: int):
        super().__init__()
        self.layer, self.step, self.calls = nn.Linear(6, 3), step, 0

    def forward(self, inputs):
        self.calls += self.training
        return self.layer(inputs) * (float("nan") if self.calls == self.step else 1.0)


def test_a_training_that_diverges_is_one_sentence_and_leaves_the_earlier_checkpoint(tmp_path):
    fitted(small_model(), options=saving(tmp_path))
    before = (tmp_path / "checkpoints" / "small_model_best.pt").read_bytes()
    diverging = (small_model(), replace(RECIPE, learning_rate=1e38, weight_decay=0.0))
    for model, recipe in (diverging, (DivergesAt(5 + 3), RECIPE)):
        with pytest.raises(UserError, match=r"^the loss is not a number: [^\n]*\.$"):
            fitted(model, recipe, options=saving(tmp_path))
    assert (tmp_path / "checkpoints" / "small_model_best.pt").read_bytes() == before
    last = load_checkpoint(tmp_path / "checkpoints" / "small_model_last.pt")["weights"]
    assert all(torch.isfinite(tensor).all() for tensor in last.values())  # those of the first epoch


def test_a_last_batch_of_one_is_not_trained_on():
    photos = photo_model()
    history = fitted(photos, replace(RECIPE, epochs=1), photo_batches(5), photo_batches(5, training=False))
    assert history[0]["train_loss"] > 0
    assert all(torch.isfinite(tensor).all() for tensor in photos.state_dict().values())


def test_the_figures_of_an_epoch_by_hand():
    model = nn.Linear(3, 3, bias=False)
    with torch.no_grad():
        model.weight.copy_(2 * torch.eye(3))
    labels = torch.tensor([0, 1, 0])
    by_hand = -(2 * torch.eye(3)).log_softmax(1)[torch.arange(3), labels].mean().item()
    epoch = train_one_epoch(
        Learner(model),
        [(torch.eye(3), labels)],
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
    before = (tmp_path / "checkpoints" / "small_model_best.pt").stat().st_mtime_ns
    assert fitted(second, options=saving(tmp_path, resume=True)) == history
    assert same(first, second)
    assert capsys.readouterr().out.splitlines()[3:] == ["small_model_best.pt: 3 of 3 epochs are trained already."]
    assert (tmp_path / "checkpoints" / "small_model_best.pt").stat().st_mtime_ns == before


def test_resuming_without_a_checkpoint_trains(tmp_path):
    model, expected = small_model(), small_model()
    assert len(fitted(model, options=saving(tmp_path, resume=True))) == 3
    fitted(expected)
    assert same(model, expected)


@pytest.mark.parametrize("leave", [interrupted, lambda folder: fitted(small_model(), options=saving(folder))])
def test_resuming_with_other_settings_is_refused(leave, tmp_path):
    leave(tmp_path)
    before = checkpoint_names(tmp_path)
    with pytest.raises(
        UserError, match=r"small_model_(best|last)\.pt belongs [^\n]* other settings \(seed\): [^\n]*\.$"
    ):
        fitted(small_model(), options=saving(tmp_path, resume=True, seed=8))
    assert checkpoint_names(tmp_path) == before


def test_a_new_branch_removes_the_models_that_were_made_of_the_earlier_one(tmp_path, capsys):
    made = [tmp_path / "checkpoints" / name for name in ("combined_model_best.pt", "fused_model.skops")]
    interrupted(tmp_path)
    for path in made:
        path.touch()
    fitted(small_model(), options=saving(tmp_path, resume=True))
    assert checkpoint_names(tmp_path) == ["small_model_best.pt"]
    out = capsys.readouterr().out
    assert all(f"{path.name} is removed, since it was made of an earlier small model." in out for path in made)
    made[0].touch()
    fitted(small_model(), options=saving(tmp_path, resume=True))  # nothing is trained
    assert made[0].exists()


@pytest.mark.parametrize(("epochs", "trained"), [(1, [32]), (2, [24, 32]), (4, [24, 24, 32, 32])])
def test_progressive_resizing_trains_on_smaller_photos_first_and_evaluates_on_whole_ones(epochs, trained):
    sides = []
    model = photo_model()
    model.resnet.register_forward_pre_hook(lambda module, inputs: sides.append((module.training, inputs[0].shape[-1])))
    recipe = replace(RECIPE, epochs=epochs, learning_rate=1e-4, scales=(0.75, 1.0))
    fitted(model, recipe, photo_batches(8), photo_batches(4, training=False))
    assert [side for training, side in sides if training][::2] == trained
    assert {side for training, side in sides if not training} <= {32}
