"""What the process settings of the Makefile do to training: seconds for a step of ImageModel, alone and beside another.

    python -m benchmarks.threads [--steps 20] [--save]

OpenMP and glibc read their settings when a process starts, so each setting is measured in a process of its own, in turn
for several rounds; "beside another" means that a second process trains at the same time, with the same settings.
"""

import os
import statistics
import subprocess
import sys
import time
from argparse import ArgumentParser

import torch
from torch.nn import functional as F

from benchmarks.saving import add_save_option, comparison, save_rows
from marketplace.command_line import run
from models import ImageModel
from models.device import autocast

ROUNDS = 3
BATCH, SIDE = 32, 64  # as ImageModel is trained from random initialisation
SETTINGS: dict[str, dict[str, str]] = {  # the default, and what the Makefile exports at the end
    "default": {},
    "threads sleep at once": {"OMP_WAIT_POLICY": "passive", "GOMP_SPINCOUNT": "0"},
    "threads spin 1,000 times, then sleep": {"OMP_WAIT_POLICY": "passive", "GOMP_SPINCOUNT": "1000"},
    "threads spin 1,000 times, memory is kept": {
        **{"OMP_WAIT_POLICY": "passive", "GOMP_SPINCOUNT": "1000"},
        **{"MALLOC_MMAP_THRESHOLD_": "4000000000", "MALLOC_TRIM_THRESHOLD_": "16000000000"},
    },
}


def step_seconds(steps: int) -> float:
    """Median seconds of a training step."""
    torch.manual_seed(0)
    model = ImageModel()
    model.start_from_scratch()
    model.to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(model.parameters(), 1e-3, fused=True)
    photos = torch.randn(BATCH, 3, SIDE, SIDE).contiguous(memory_format=torch.channels_last)
    labels = torch.arange(BATCH) % 13
    seconds = []
    for _ in range(steps):
        start = time.perf_counter()
        optimizer.zero_grad()
        with autocast(torch.device("cpu")):
            loss = F.cross_entropy(model(photos).float(), labels)
        loss.backward()
        optimizer.step()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)


def measured(settings: dict[str, str], steps: int, processes: int) -> float:
    """Seconds of a step with these settings, while `processes` such processes run."""
    names = {name for of_setting in SETTINGS.values() for name in of_setting}
    own = {name: value for name, value in os.environ.items() if name not in names} | settings
    command = [sys.executable, "-m", "benchmarks.threads", "--steps", str(steps), "--one"]
    running = [subprocess.Popen(command, env=own, stdout=subprocess.PIPE, text=True) for _ in range(processes)]
    return statistics.mean(float(process.communicate()[0]) for process in running)


def main() -> None:
    parser = ArgumentParser(description="Measure what the Makefile's process settings do to training.")
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--one", action="store_true", help="only print the seconds of a step in this process")
    add_save_option(parser)
    arguments = parser.parse_args()
    if arguments.one:
        print(step_seconds(arguments.steps))
        return
    rows = []
    for where, processes in {"alone": 1, "beside another": 2}.items():
        seconds: dict[str, list[float]] = {name: [] for name in SETTINGS}
        for _ in range(ROUNDS):
            for name, settings in SETTINGS.items():
                seconds[name].append(measured(settings, arguments.steps, processes))
        straightforward, *ours = (statistics.median(of_setting) for of_setting in seconds.values())
        for name, value in zip(list(SETTINGS)[1:], ours, strict=True):
            rows.append(
                comparison(f"seconds of a step, {where}: {name}", value, straightforward, straightforward / value)
            )
    print(*rows, sep="\n")
    if arguments.save:
        save_rows("threads", rows)


if __name__ == "__main__":
    run(main)
