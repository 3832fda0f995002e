"""The device that the networks run on, its precision, and the other processes of torchrun."""

import contextlib
import os
from collections.abc import Iterator

import torch
from torch import distributed

from marketplace.data_folder import UserError


def pick_device() -> torch.device:
    """CUDA, else Apple's MPS, else the CPU; under torchrun each process gets a GPU of its own.

    Raises UserError when there are more processes than GPUs.
    """
    if torch.cuda.is_available():
        number, there = int(os.environ.get("LOCAL_RANK", 0)), torch.cuda.device_count()
        if number >= there:
            raise UserError(
                f"process {number + 1} of this machine has no GPU: give --nproc_per_node={there} to torchrun."
            )
        return torch.device("cuda", number)
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def gpu_name(device: torch.device) -> str | None:
    """The GPU's name; None for the CPU."""
    if device.type == "mps":
        return "Apple GPU"
    return torch.cuda.get_device_name(device) if device.type == "cuda" else None


def has_fast_bfloat16(device: torch.device) -> bool:
    """Whether the hardware multiplies bfloat16 numbers itself; without, they are slower than float32."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type == "cpu" and torch.backends.cpu.get_cpu_capability().startswith("AVX"):
        return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return device.type == "cpu" and torch.ops.mkldnn._is_mkldnn_bf16_supported()


def autocast(device: torch.device) -> contextlib.AbstractContextManager:
    """Multiply in bfloat16 where the hardware has it, else in float32."""
    if device.type == "mps":
        return contextlib.nullcontext()
    return torch.autocast(device.type, torch.bfloat16, enabled=has_fast_bfloat16(device))


def process_rank() -> int:
    """Number of this process among those of torchrun; 0 for a process alone."""
    return distributed.get_rank() if distributed.is_initialized() else 0


def rank_and_world_size() -> tuple[int, int]:
    """The rank of this process and the number of processes."""
    return process_rank(), distributed.get_world_size() if distributed.is_initialized() else 1


@contextlib.contextmanager
def memory_advice(batch_size: int) -> Iterator[None]:
    """Turn a device's lack of memory into a UserError that advises a smaller batch."""
    try:
        yield
    except RuntimeError as error:  # torch.OutOfMemoryError is one; the CPU's lack has no class of its own
        if not isinstance(error, torch.OutOfMemoryError) and "can't allocate memory" not in str(error):
            raise
        advice = f"give --batch-size {batch_size // 2}" if batch_size > 1 else "use smaller photos or another device"
        raise UserError(f"the device has not enough memory for batches of {batch_size}: {advice}.") from None
