"""How networks learn: an epoch, evaluation, and `fit`; on small networks, and on ImageModel where it matters."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from marketplace.data_folder import UserError
from models import ImageModel, training
from models.batches import Batches
from models.checkpoints import load_checkpoint
from models.device import pick_device
from models.image_model import evaluation_transform, load_image_weights, train_transform
from models.training import Recipe, WeightAverage, evaluate, fit, train_one_epoch

CPU = torch.device("cpu")
LABELS = ["a", "b", "c"]
RECIPE = Recipe(epochs=3, batch_size=8, learning_rate=0.05)


def examples(count: int = 40) -> tuple[torch.Tensor, torch.Tensor]:
    """Points (N, 6) whose first numbers say their class."""
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


def fitted(model: nn.Module, recipe: Recipe = RECIPE, train=None, validation=None, **options) -> list[dict]:
    torch.manual_seed(7)
    train = batches(shuffle=True) if train is None else train
    validation = batches() if validation is None else validation
    return fit(model, train, validation, recipe, CPU, labels=LABELS, verbose=False, **options)


def same(first: nn.Module, second: nn.Module) -> bool:
    pairs = zip(first.state_dict().values(), second.state_dict().values(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


def photo_batches(count: int, batch_size: int = 4, training: bool = True) -> Batches:
    generator = torch.Generator().manual_seed(4)
    pixels = torch.randint(0, 256, (count, 32, 32, 3), dtype=torch.uint8, generator=generator)
    labels = np.arange(count) % 3
    transform = train_transform if training else evaluation_transform
    return Batches(pixels.numpy(), np.arange(count), labels, batch_size, shuffle=training, transform=transform)


def photo_model() -> ImageModel:
    torch.manual_seed(5)
    model = ImageModel(3)
    load_image_weights(model, "none")
    return model


def test_fit_learns_and_tells_of_every_epoch():
    model = small_model()
    history = fitted(model, replace(RECIPE, epochs=6, label_smoothing=0.1))
    assert len(history) == 6
    names = {"train_loss", "train_accuracy", "validation_loss", "validation_accuracy", "learning_rate", "seconds"}
    assert all(epoch.keys() == names for epoch in history)
    assert history[-1]["train_loss"] < history[0]["train_loss"]
    result = evaluate(model, batches(), CPU)
    assert result["accuracy"] > 0.8
    assert result["logits"].shape == (40, 3) and result["logits"].dtype == torch.float32
    assert result["labels"].tolist() == examples()[1].tolist()


def test_two_runs_with_one_seed_are_equal():
    first, second = small_model(), small_model()
    assert [e["train_loss"] for e in fitted(first)] == [e["train_loss"] for e in fitted(second)]
    assert same(first, second)


def test_the_weights_of_the_best_epoch_remain():
    model, recipe = small_model(), replace(RECIPE, epochs=6, learning_rate=1.0)
    history = fitted(model, recipe)
    best = max(history, key=lambda epoch: (epoch["validation_accuracy"], -epoch["validation_loss"]))
    result = evaluate(model, batches(), CPU)
    assert result["accuracy"] == best["validation_accuracy"]
    assert result["loss"] == pytest.approx(best["validation_loss"])


def test_training_ends_early_when_nothing_gets_better():
    inputs, labels = examples()
    noise = [(torch.zeros_like(inputs), labels)]
    history = fitted(small_model(), replace(RECIPE, epochs=50, patience=2, learning_rate=1e-9), validation=noise)
    assert len(history) < 10


def test_the_moving_average_of_weights():
    model = nn.Linear(1, 1, bias=False)
    average = WeightAverage(model, 0.9)
    with torch.no_grad():
        model.weight.fill_(1.0)
        start = average.model.weight.item()
        average.update(model)
    assert average.model.weight.item() == pytest.approx(0.1 * start + 0.9)  # the first steps are large
    averaged = small_model()
    fitted(averaged, replace(RECIPE, average_decay=0.9))
    plain = small_model()
    fitted(plain)
    assert not same(averaged, plain)
    assert all(parameter.requires_grad for parameter in averaged.parameters())


def test_groups_of_parameters_keep_their_own_rates():
    model = small_model()
    first = model[0].weight.clone()
    groups = [{"params": model[0].parameters(), "lr": 0.0}, {"params": model[3].parameters()}]
    history = fitted(model, replace(RECIPE, weight_decay=0.0), parameter_groups=groups)
    assert torch.equal(model[0].weight, first)
    assert history[0]["learning_rate"] == pytest.approx(RECIPE.learning_rate / 25)


class NanAt(nn.Module):
    """Gives a loss that is no number at its `step`-th call."""

    def __init__(self, step: int):
        super().__init__()
        self.layer, self.step, self.calls = nn.Linear(6, 3), step, 0

    def forward(self, inputs):
        self.calls += 1
        return self.layer(inputs) * (float("nan") if self.calls == self.step else 1.0)


def test_a_loss_that_is_no_number_stops_at_once_and_names_the_step():
    model = NanAt(3)
    with pytest.raises(UserError, match=r"^the loss is not a number at step 3 of epoch 1: [^\n]*\.$"):
        fitted(model)
    assert model.calls == 3
    assert torch.isfinite(model.layer.weight).all()


class Greedy(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(6, 3)

    def forward(self, inputs):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB")


def test_the_processors_memory_runs_out_in_the_same_words():
    class Huge(Greedy):
        def forward(self, inputs):
            return torch.empty(2**55)

    class Wrong(Greedy):
        def forward(self, inputs):
            raise RuntimeError("shapes differ")

    with pytest.raises(UserError, match=r"batches of 8: give --batch-size 4\.$"):
        fitted(Huge())
    with pytest.raises(RuntimeError, match="shapes differ"):
        fitted(Wrong())


def test_out_of_memory_advises_a_batch_size():
    with pytest.raises(UserError, match=r"batches of 8: give --batch-size 4\.$"):
        fitted(Greedy())
    with pytest.raises(UserError, match="--batch-size 4"):
        evaluate(Greedy(), batches(), CPU)
    with pytest.raises(UserError, match="smaller photos"):
        evaluate(Greedy(), batches(batch_size=1), CPU)


def test_memory_that_runs_out_while_a_batch_is_made():
    def greedy(inputs):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB")

    with pytest.raises(UserError, match=r"batches of 8: give --batch-size 4\.$"):
        fitted(small_model(), train=batches(transform=greedy))


def test_batches_of_one_alone_are_refused_where_they_teach_nothing():
    with pytest.raises(UserError, match=r"needs two photos .* larger --batch-size\.$"):
        fitted(photo_model(), train=photo_batches(3, batch_size=1), validation=photo_batches(3, training=False))


def test_a_last_batch_of_one():
    model = small_model()
    fitted(model, train=batches(count=9, shuffle=True))
    photos = photo_model()
    history = fitted(photos, replace(RECIPE, epochs=1), photo_batches(5), photo_batches(5, training=False))
    assert history[0]["train_loss"] > 0
    assert all(torch.isfinite(tensor).all() for tensor in photos.state_dict().values())


def test_a_class_that_a_split_lacks():
    inputs, labels = examples()
    some = labels != 2
    validation = [(inputs[some], labels[some])]
    assert len(fitted(small_model(), validation=validation)) == 3
    assert len(fitted(small_model(), train=validation)) == 3


def test_an_empty_split_is_one_sentence():
    with pytest.raises(UserError, match=r"nothing to train on: [^\n]*\.$"):
        fitted(small_model(), train=batches(0))
    with pytest.raises(UserError, match=r"nothing to evaluate: [^\n]*\.$"):
        fitted(small_model(), validation=[])


def test_an_epoch_counts_what_it_learnt_from():
    model = small_model()
    optimizer = torch.optim.SGD(model.parameters(), 0.0)
    epoch = train_one_epoch(model, batches(), optimizer, None, CPU)
    assert epoch["examples"] == 40
    model.eval()
    assert 0 <= epoch["accuracy"] <= 1 and epoch["seconds"] > 0


def test_batches_out_of_a_loader_with_processes():
    inputs, labels = examples()
    loader = DataLoader(TensorDataset(inputs, labels), 8, num_workers=1, multiprocessing_context="spawn")
    loaded, direct = small_model(), small_model()
    recipe = replace(RECIPE, epochs=1)
    fitted(loaded, recipe, train=loader)
    torch.manual_seed(7)
    assert evaluate(loaded, loader, CPU)["logits"].shape == (40, 3)
    fitted(direct, recipe, train=batches())
    assert evaluate(direct, batches(), CPU)["logits"].shape == (40, 3)


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


def test_image_model_resumes_to_the_same_weights(tmp_path):
    recipe = Recipe(epochs=2, batch_size=4, learning_rate=1e-3, average_decay=0.9)
    options = {"validation": photo_batches(4, training=False), "checkpoint_seconds": 0}
    paths = (tmp_path / "last.pt", tmp_path / "best.pt")

    straight = photo_model()
    history = fitted(straight, recipe, photo_batches(8), **options)
    with pytest.raises(RuntimeError, match="crash"):
        fitted(photo_model(), recipe, StopsInEpoch(photo_batches(8), 2), checkpoints=paths, **options)
    resumed = photo_model()
    torch.manual_seed(123)
    again = fitted(resumed, recipe, photo_batches(8), checkpoints=paths, resume=True, **options)
    assert same(straight, resumed)
    assert [epoch["train_loss"] for epoch in again] == [epoch["train_loss"] for epoch in history]


def test_a_finished_training_resumes_to_itself(tmp_path):
    paths = (tmp_path / "last.pt", tmp_path / "best.pt")
    first, second = small_model(), nn.Sequential(*small_model())
    history = fitted(first, checkpoints=paths)
    assert fitted(second, checkpoints=paths, resume=True) == history
    assert same(first, second)


def test_a_kill_between_the_two_checkpoints_leaves_no_best_that_is_too_old(tmp_path, monkeypatch):
    paths = (tmp_path / "last.pt", tmp_path / "best.pt")
    recipe = replace(RECIPE, learning_rate=0.005)  # slow enough for every epoch to be the best
    straight = small_model()
    fitted(straight, recipe)
    save = training.save_checkpoint
    written = []

    def killed(path, *arguments, **options):
        if len(written) == 5:  # the second file of the third epoch, which is the last
            raise KeyboardInterrupt
        written.append(path)
        save(path, *arguments, **options)

    monkeypatch.setattr(training, "save_checkpoint", killed)
    with pytest.raises(KeyboardInterrupt):
        fitted(small_model(), recipe, checkpoints=paths, checkpoint_seconds=0)
    monkeypatch.setattr(training, "save_checkpoint", save)
    fitted(small_model(), recipe, checkpoints=paths, resume=True)
    best = small_model()
    load_checkpoint(paths[1], best, LABELS)
    assert same(best, straight)


def test_resuming_with_other_settings_is_refused(tmp_path):
    paths = (tmp_path / "last.pt", tmp_path / "best.pt")
    fitted(small_model(), checkpoints=paths, configuration={"seed": 7})
    with pytest.raises(UserError, match=r"other settings \(recipe\): [^\n]*\.$"):
        fitted(small_model(), replace(RECIPE, epochs=9), checkpoints=paths, resume=True, configuration={"seed": 7})
    with pytest.raises(UserError, match=r"other settings \(seed\)"):
        fitted(small_model(), checkpoints=paths, resume=True, configuration={"seed": 8})
    with pytest.raises(UserError, match=r"other settings \(\w"):
        fitted(small_model(), checkpoints=(paths[1], paths[0]), resume=True)


def test_resuming_without_a_checkpoint_starts_anew(tmp_path):
    assert len(fitted(small_model(), checkpoints=(tmp_path / "last.pt", tmp_path / "best.pt"), resume=True)) == 3


def test_learning_curves_for_tensorboard(tmp_path):
    fitted(small_model(), log_dir=tmp_path / "logs")
    (log,) = (tmp_path / "logs").iterdir()
    assert b"validation_accuracy" in log.read_bytes()


def test_more_processes_than_gpus_are_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert pick_device() == torch.device("cuda", 1)
    monkeypatch.setenv("LOCAL_RANK", "2")
    with pytest.raises(UserError, match=r"process 3 of this machine has no GPU: give --nproc_per_node=2"):
        pick_device()


def test_the_device_can_multiply():
    device = pick_device()
    assert torch.ones(2, 2, device=device).sum().item() == 4
