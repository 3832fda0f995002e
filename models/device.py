"""The device that the networks run on, its precision, and the other processes of torchrun."""

import contextlib
import os
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import distributed

from marketplace.data_folder import UserError

BFLOAT16_INSTRUCTIONS = ("avx512_bf16", "amx_bf16", "bf16")  # two of x86, one of Arm


def pick_device() -> torch.device:
    """CUDA, else Apple's MPS, else the CPU; under torchrun each process gets a GPU of its own.

    Raises UserError when there are more processes than GPUs.
    """
    if torch.cuda.is_available():
        number, count = int(os.environ.get("LOCAL_RANK", 0)), torch.cuda.device_count()
        if number >= count:
            raise UserError(
                f"process {number + 1} of this machine has no GPU: give --nproc_per_node={count} to torchrun."
            )
        return torch.device("cuda", number)
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


def rank_and_world_size() -> tuple[int, int]:
    """The rank of this process and the number of processes; 0 and 1 without torchrun."""
    if not distributed.is_initialized():
        return 0, 1
    return distributed.get_rank(), distributed.get_world_size()


def process_rank() -> int:
    """The rank of this process among those of torchrun; 0 without torchrun."""
    return rank_and_world_size()[0]


def from_first_process(compute: Callable[[], Any]) -> Any:
    """The result of `compute`, which is computed in the first process of torchrun and broadcast to the others."""
    results = [compute() if process_rank() == 0 else None]
    if distributed.is_initialized():
        distributed.broadcast_object_list(results)
    return results[0]


@contextlib.contextmanager
def memory_advice(batch_size: int) -> Iterator[None]:
    """Turn a device's lack of memory into a UserError that advises a smaller batch."""
    try:
        yield
    except RuntimeError as error:  # torch.OutOfMemoryError is one; the CPU's lack of memory has no class of its own
        if not isinstance(error, torch.OutOfMemoryError) and "can't allocate memory" not in str(error):
            raise
        advice = f"give --batch-size {batch_size // 2}" if batch_size >= 4 else "use smaller photos or another device"
        raise UserError(f"the device has not enough memory for batches of {batch_size}: {advice}.") from None
