"""How much faster the networks learn here than in the straightforward way, on the same products, in one process.

    python -m benchmarks.training [--data-dir data/sample] [--products 200] [--rounds 2] [--accuracy] [--save]

The straightforward way decodes each photo and embeds each text whenever it is asked for one, one at a time, works in
float32 and computes every gradient. Both ways run in turn; the fastest round of each counts. `--accuracy` also trains
both ways from scratch with three seeds and shows that they learn the same. With a GPU, photos a second at 224 and 64
pixels are compared with tensors that are already there and with the card's rate for matrices. Writes nothing but the
data folder's embeddings; needs a data folder on which the data scripts ran.
"""

import contextlib
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from unittest import mock

import numpy as np
import torch
from PIL import Image
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset, TensorDataset
from torch.utils.flop_counter import FlopCounterMode
from torchvision.transforms import v2

from benchmarks.saving import add_save_option, comparison, save_rows
from evaluation.results import dataset_name, environment
from marketplace.command_line import argument_parser, positive_int, run
from marketplace.data_folder import DataFolder
from marketplace.dataset import (
    Photos,
    examples_of_split,
    load_main_categories,
    load_photos,
    load_products,
    rows_of_split,
)
from models import CombinedModel, ImageModel, TextModel, training
from models.batches import Batches
from models.device import autocast, gpu_name, has_fast_bfloat16, pick_device
from models.fusion import fit_combined_model, photo_outputs, text_outputs
from models.image_model import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    MAXIMUM_ANGLE,
    MAXIMUM_SHIFT,
    MAXIMUM_TINT,
    ZOOM,
    evaluation_transform,
    train_transform,
)
from models.leaf_categories import LeafCategories, leaf_labels
from models.recipes import IMAGE_RECIPE, TEXT_RECIPE
from models.text_encoder import TextEncoder, cached_embeddings
from models.text_model import TOKENS
from models.training import Recipe, evaluate, fit, train_one_epoch

BATCH_SIZE = 64
SEEDS = (1, 2, 3)


class ProductsOneByOne(Dataset):
    """Photos decoded and, with an encoder, texts embedded each time an item is asked for."""

    transform = v2.Compose(
        [
            v2.RandomHorizontalFlip(),
            v2.RandomAffine(MAXIMUM_ANGLE, (MAXIMUM_SHIFT, MAXIMUM_SHIFT), ZOOM),
            v2.ColorJitter(MAXIMUM_TINT, MAXIMUM_TINT, MAXIMUM_TINT),
            v2.PILToTensor(),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize(IMAGENET_MEAN, IMAGENET_STD),
        ]
    )

    def __init__(self, paths: list[Path], labels: np.ndarray, texts: list[str], encoder: TextEncoder | None = None):
        self.paths, self.labels, self.texts, self.encoder = paths, labels, texts, encoder

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, item: int):
        with Image.open(self.paths[item]) as photo:
            image = self.transform(photo.convert("RGB"))
        label = int(self.labels[item])
        return (image, label) if self.encoder is None else (embed_one(self.encoder, self.texts[item]), image, label)


@torch.inference_mode()
def embed_one(encoder: TextEncoder, text: str) -> torch.Tensor:
    """Embedding (50, 768) of one text in float32, padded to 50 tokens."""
    tokens = encoder.tokenizer(text, truncation=True, max_length=TOKENS, padding="max_length", return_tensors="pt")
    states = encoder.model(**tokens, output_hidden_states=True).hidden_states
    return (torch.cat([states[-2], states[-1]], dim=-1) * tokens["attention_mask"][:, :, None])[0]


def float32_encoder() -> TextEncoder:
    encoder = TextEncoder()
    encoder.dtype = torch.float32
    return encoder


def plain_epoch(model: nn.Module, loader: DataLoader) -> None:
    """An epoch in float32, in the layout of tensors that is usual, with all gradients."""
    optimizer = torch.optim.AdamW(model.parameters(), 1e-4)
    model.train()
    for *inputs, labels in loader:
        optimizer.zero_grad()
        F.cross_entropy(model(*inputs), labels).backward()
        optimizer.step()


def in_turn(ways: dict[str, Callable[[], None]], rounds: int) -> dict[str, float]:
    """The fastest of `rounds` of each way in seconds, the ways in turn after one of each to warm up."""
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(rounds + 1):
        for name, way in ways.items():
            start = time.perf_counter()
            way()
            if number:
                seconds[name].append(time.perf_counter() - start)
    return {name: min(values) for name, values in seconds.items()}


def report(what: str, count: int, seconds: dict[str, float]) -> list[dict]:
    """Print the rate of every way and how many times faster each is than the first; the rows of the results file."""
    first, *others = seconds
    print(f"{what}\n  {first}: {count / seconds[first]:,.1f} a second")
    for name in others:
        print(f"  {name}: {count / seconds[name]:,.1f} a second, {seconds[first] / seconds[name]:.1f} times as fast")
    return [
        comparison(
            f"{what} a second: {name}",
            count / seconds[name],
            count / seconds[first],
            seconds[first] / seconds[name],
        )
        for name in others
    ]


def bench_text(texts: list[str], rounds: int) -> list[dict]:
    plain, ours = float32_encoder(), TextEncoder()
    ways = {
        "one at a time, float32": lambda: [embed_one(plain, text) for text in texts],
        f"by length, {str(ours.dtype).removeprefix('torch.')}": lambda: ours.encode(texts),
    }
    return report("Text embedding, texts", len(texts), in_turn(ways, rounds))


def epoch_of_ours(model: nn.Module, batches: Batches, device: torch.device) -> Callable[[], None]:
    """An epoch with `train_one_epoch` on decoded photos."""
    model.to(device, memory_format=torch.channels_last)
    learning = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(learning, 1e-4, fused=device.type != "mps")
    return lambda: train_one_epoch(model, batches, optimizer, None, device)


def without_small_convolutions(way: Callable[[], object]) -> Callable[[], object]:
    """The same with every convolution as PyTorch does it."""

    def plainly() -> None:
        with mock.patch.object(training, "small_convolutions", lambda device: contextlib.nullcontext()):
            way()

    return plainly


def bench_image(
    photos: Photos, paths: list[Path], labels: np.ndarray, classes: int, rounds: int, compiled: bool
) -> list[dict]:
    """Weights are random in both; how fast an epoch is does not depend on them."""
    cpu = torch.device("cpu")
    rows = np.arange(len(paths))
    plain = ImageModel(classes, frozen_tensors=0)
    loader = DataLoader(ProductsOneByOne(paths, labels, []), BATCH_SIZE, shuffle=True)
    batches = Batches(photos.pixels, rows, labels, BATCH_SIZE, shuffle=True, transform=train_transform)
    ways = {
        "decoded each time, float32, all gradients": lambda: plain_epoch(plain, loader),
        "decoded once, all gradients (from scratch)": epoch_of_ours(ImageModel(classes, 0), batches, cpu),
        "the same without SmallConvolutions": without_small_convolutions(
            epoch_of_ours(ImageModel(classes, 0), batches, cpu)
        ),
        "decoded once, frozen prefix (transfer)": epoch_of_ours(ImageModel(classes), batches, cpu),
    }
    if compiled:
        ways["all gradients, torch.compile without SmallConvolutions"] = without_small_convolutions(
            epoch_of_ours(torch.compile(ImageModel(classes, 0)), batches, cpu)
        )
    return report(f"ImageModel epoch at {photos.pixels.shape[1]} pixels, photos", len(rows), in_turn(ways, rounds))


def bench_combined(
    photos: Photos, paths: list[Path], labels: np.ndarray, texts: list[str], classes: int, rounds: int
) -> list[dict]:
    """Ours is what `train_combined_model` does: the outputs of both branches, once, then the fit of the last layer on
    them, from the choice of its strength by cross-validation to the end. It takes the place of all epochs of the other
    way; the ratio is that to one."""
    cpu = torch.device("cpu")
    plain, ours = CombinedModel(num_classes=classes), CombinedModel(num_classes=classes)
    plain.requires_grad_(True)
    ours.to(memory_format=torch.channels_last)
    loader = DataLoader(ProductsOneByOne(paths, labels, texts, float32_encoder()), BATCH_SIZE, shuffle=True)
    with tempfile.TemporaryDirectory() as folder:
        embeddings = cached_embeddings(Path(folder), texts, TextEncoder())
        outputs = {}

        def branches() -> None:
            outputs["text"] = text_outputs(ours.text_model, embeddings, cpu)
            outputs["photo"] = photo_outputs(ours.image_model, photos, cpu)

        def last_layer() -> None:
            fit_combined_model(outputs["text"], outputs["photo"], labels, texts)

        ways = {
            "decoded and embedded each time, float32, all gradients": lambda: plain_epoch(plain, loader),
            "outputs of the branches": branches,
            "outputs of the branches and the whole fit of the last layer": lambda: (branches(), last_layer()),
            "the whole fit alone, on outputs that are there": last_layer,
        }
        return report("CombinedModel epoch, products", len(texts), in_turn(ways, rounds))


def accuracy_of_both_ways(
    photos: Photos, paths: list[Path], products, classes: int, photos_used: int, image_epochs: int
) -> list[dict]:
    """Validation accuracy after the same epochs of the same recipe, both ways, with three seeds each."""
    train, held_out = (rows_of_split(products, split) for split in ("train", "validation"))
    codes = products["main_category_code"].to_numpy(np.int64)
    texts = products["text"].tolist()
    plain, ours = float32_encoder(), TextEncoder()
    one_by_one = torch.stack([embed_one(plain, text) for text in texts])  # (N, 50, 768) float32
    by_length = ours.encode(texts)  # (N, 50, 768) float16
    rows = compare(
        "TextModel",
        replace(TEXT_RECIPE, epochs=4, average_decay=0.0),
        lambda: TextModel(classes),
        DataLoader(TensorDataset(one_by_one[train], torch.from_numpy(codes[train])), BATCH_SIZE, shuffle=True),
        Batches(by_length, train, codes[train], BATCH_SIZE, shuffle=True, transform=torch.Tensor.float),
        Batches(one_by_one.numpy(), held_out, codes[held_out], 256),
        Batches(by_length, held_out, codes[held_out], 256, transform=torch.Tensor.float),
    )
    codes = codes[photos.product_rows]
    train, held_out = (examples_of_split(photos, products, split) for split in ("train", "validation"))
    train = train[:photos_used]
    leaves, main_of_leaf = leaf_labels(products["category"].iloc[photos.product_rows[train]], codes[train])
    validation = Batches(photos.pixels, held_out, codes[held_out], 256, transform=evaluation_transform)
    rows += compare(
        "ImageModel from random initialisation, per photo",
        replace(IMAGE_RECIPE, epochs=image_epochs, average_decay=0.0),
        lambda: LeafCategories(image_model_from_scratch(classes), main_of_leaf),
        DataLoader(ProductsOneByOne([paths[row] for row in train], leaves, []), IMAGE_RECIPE.batch_size, shuffle=True),
        Batches(photos.pixels, train, leaves, IMAGE_RECIPE.batch_size, shuffle=True, transform=train_transform),
        validation,
        validation,
    )
    return rows


def image_model_from_scratch(classes: int) -> ImageModel:
    model = ImageModel(classes)
    model.start_from_scratch()
    return model


def compare(name, recipe, make_model, plain_batches, our_batches, plain_validation, our_validation) -> list[dict]:
    """Train both ways with every seed, and print each way's accuracies; the rows of the results file."""
    cpu = torch.device("cpu")
    found: dict[str, list[float]] = {"straightforward": [], "ours": []}
    for seed in SEEDS:
        torch.manual_seed(seed)
        model = make_model()
        fit_plainly(model, plain_batches, recipe)
        found["straightforward"].append(evaluate(model, plain_validation, cpu)["accuracy"])
        torch.manual_seed(seed)
        model = make_model()
        history = fit(model, our_batches, our_validation, recipe, cpu, labels=[], verbose=False)
        found["ours"].append(history[-1]["validation_accuracy"])  # of the last epoch, as the other's
    print(f"{name}, validation accuracy after {recipe.epochs} epochs, seeds {', '.join(map(str, SEEDS))}")
    rows = []
    for way, scores in found.items():
        deviation = statistics.stdev(scores)
        rows.append(
            {"model": name, "way": way, "validation accuracy": statistics.mean(scores), "deviation of seeds": deviation}
        )
        shown = ", ".join(f"{score:.1%}" for score in scores)
        print(f"  {way}: {shown}; mean {statistics.mean(scores):.1%}, deviation {deviation:.1%}")
    return rows


def fit_plainly(model: nn.Module, loader: DataLoader, recipe: Recipe) -> None:
    """The recipe's schedule in the straightforward way."""
    optimizer = torch.optim.AdamW(model.parameters(), recipe.learning_rate, weight_decay=recipe.weight_decay)
    steps = recipe.epochs * len(loader) + 1
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, recipe.learning_rate, steps, pct_start=recipe.warm_up)
    for _ in range(recipe.epochs):
        model.train()
        for inputs, classes in loader:
            if len(classes) > 1:
                optimizer.zero_grad()
                F.cross_entropy(model(inputs), classes, label_smoothing=recipe.label_smoothing).backward()
                optimizer.step()
            schedule.step()


def bench_gpu(device: torch.device, classes: int) -> list[dict]:
    """Photos a second of whole epochs on the GPU, against steps on one ready batch and the card's matrix rate."""
    rows = []
    size = 8192
    left, right = (torch.randn(size, size, device=device, dtype=torch.bfloat16) for _ in range(2))
    matrix_rate = 2 * size**3 / seconds_on_gpu(lambda: left @ right, 30)
    print(f"{torch.cuda.get_device_name(device)}: {matrix_rate / 1e12:,.0f} TFLOP/s in bfloat16 matrices")
    for side, batch_size, count in ((224, 256, 4096), (64, 1024, 32768)):
        pixels = np.random.default_rng(0).integers(0, 256, (count, side, side, 3), dtype=np.uint8)
        labels = np.arange(count) % classes
        batches = Batches(
            pixels, np.arange(count), labels, batch_size, shuffle=True, transform=train_transform, device=device
        )
        model = ImageModel(classes)
        epoch = epoch_of_ours(model, batches, device)
        whole = count / seconds_on_gpu(epoch, 2)
        inputs, targets = next(iter(batches))
        ready = count / seconds_on_gpu(epoch_of_ours(model, [(inputs, targets)] * len(batches), device), 2)
        with FlopCounterMode(display=False) as counter, autocast(device):
            F.cross_entropy(model(inputs).float(), targets).backward()
        what = f"ImageModel epoch on a GPU at {side} pixels, photos a second (straightforward: one ready batch)"
        rows.append(comparison(what, whole, ready, whole / ready))
        share = whole * counter.get_total_flops() / batch_size / matrix_rate
        print(
            f"  {side} pixels: {whole:,.0f} photos a second, {whole / ready:.1%} of the rate on ready tensors, "
            f"{share:.1%} of the matrix rate"
        )
    return rows


def seconds_on_gpu(work: Callable[[], object], times: int) -> float:
    """Mean seconds of `work`, after two to warm up."""
    for _ in range(2):
        work()
    torch.cuda.synchronize()
    start = time.perf_counter()
    for _ in range(times):
        work()
    torch.cuda.synchronize()
    return (time.perf_counter() - start) / times


def main() -> None:
    parser = argument_parser("Measure training in the straightforward way and in ours.")
    parser.set_defaults(data_dir=Path("data/sample"))
    parser.add_argument("--products", type=positive_int, default=200, help="how many products, one photo each")
    parser.add_argument("--rounds", type=positive_int, default=2)
    parser.add_argument("--image-size", type=positive_int, default=64)
    parser.add_argument("--compile", action="store_true", help="also measure torch.compile, which needs a C++ compiler")
    parser.add_argument("--accuracy", action="store_true", help="also train both ways with three seeds")
    parser.add_argument("--accuracy-photos", type=positive_int, default=1500, help="how many photos of train that uses")
    parser.add_argument("--accuracy-epochs", type=positive_int, default=10, help="how long ImageModel learns there")
    add_save_option(parser)
    arguments = parser.parse_args()
    torch.manual_seed(0)
    products = load_products(arguments.data_dir)
    classes = len(load_main_categories(arguments.data_dir))
    photos = load_photos(arguments.data_dir, products, arguments.image_size)
    folder = DataFolder(arguments.data_dir).clean_images(arguments.image_size)
    paths = [folder / f"{image_id}.jpg" for image_id in photos.image_ids]
    _, first = np.unique(photos.product_rows, return_index=True)
    first = first[: arguments.products]
    few = Photos(photos.pixels[first], [photos.image_ids[i] for i in first], np.arange(len(first)), {})
    few_paths = [paths[i] for i in first]
    rows = photos.product_rows[first]
    labels = products["main_category_code"].to_numpy(np.int64)[rows]
    texts = products["text"].iloc[rows].tolist()

    cpu = torch.device("cpu")
    print(f"{environment()['words']}; bfloat16 instructions: {'yes' if has_fast_bfloat16(cpu) else 'no'}")
    measured = bench_text(texts, arguments.rounds)
    measured += bench_image(few, few_paths, labels, classes, arguments.rounds, arguments.compile)
    measured += bench_combined(few, few_paths, labels, texts, classes, arguments.rounds)
    if arguments.accuracy:
        scores = accuracy_of_both_ways(
            photos, paths, products, classes, arguments.accuracy_photos, arguments.accuracy_epochs
        )
        if arguments.save:
            save_rows("training_accuracy", scores, dataset=dataset_name(arguments.data_dir))
    device = pick_device()
    if device.type == "cuda":
        measured += bench_gpu(device, classes)
    else:
        print("no GPU was there: photos a second on one were not measured")
    if arguments.save:
        save_rows("training", measured, gpu_name(device), dataset=dataset_name(arguments.data_dir))


if __name__ == "__main__":
    run(main)
