"""The device that the networks run on, its precision, and the processes of torchrun."""

import contextlib
import os
import sys
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import distributed

BFLOAT16_INSTRUCTIONS = ("avx512_bf16", "amx_bf16", "bf16")  # two of x86, one of Arm


def pick_device() -> torch.device:
    """CUDA, else Apple's MPS, else the CPU; under torchrun each process has a GPU of its own."""
    if torch.cuda.is_available():
        return torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0)))
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def gpu_name(device: torch.device) -> str | None:
    """The GPU's name; None for the CPU."""
    if device.type == "mps":
        return "Apple GPU"
    return torch.cuda.get_device_name(device) if device.type == "cuda" else None


def has_fast_bfloat16(device: torch.device) -> bool:
    """Whether the hardware has instructions for bfloat16; without them bfloat16 is slower than float32."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    capabilities = torch.cpu.get_capabilities()
    return device.type == "cpu" and any(capabilities.get(name, False) for name in BFLOAT16_INSTRUCTIONS)


def autocast(device: torch.device) -> contextlib.AbstractContextManager:
    """Autocast to bfloat16 where the hardware has instructions for it, else float32."""
    if device.type == "mps":
        return contextlib.nullcontext()
    return torch.autocast(device.type, torch.bfloat16, enabled=has_fast_bfloat16(device))


@contextlib.contextmanager
def process_group(device: torch.device) -> Iterator[None]:
    """Join the other processes if torchrun started this one; only the first prints."""
    if "TORCHELASTIC_RUN_ID" not in os.environ:
        yield
        return
    if device.type == "cuda":
        torch.cuda.set_device(device)  # NCCL sends objects through the current device
    distributed.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere if process_rank() else sys.stdout):
            yield
        distributed.barrier()
    finally:
        distributed.destroy_process_group()


def rank_and_world_size() -> tuple[int, int]:
    """The rank of this process and the number of processes; 0 and 1 without torchrun."""
    if not distributed.is_initialized():
        return 0, 1
    return distributed.get_rank(), distributed.get_world_size()


def process_rank() -> int:
    """The rank of this process among those of torchrun; 0 without torchrun."""
    return rank_and_world_size()[0]


def from_first_process(compute: Callable[[], Any]) -> Any:
    """The result of `compute`, which runs in the first process of torchrun and is broadcast to the others."""
    results = [compute() if process_rank() == 0 else None]
    if distributed.is_initialized():
        distributed.broadcast_object_list(results)
    return results[0]
