"""Which device a process computes on, and in which precision."""

import platform
from pathlib import Path

import torch
from torch import Tensor

from lapel.config.trainer import Accelerator, Precision
from lapel.errors import LapelError

CPUINFO = Path("/proc/cpuinfo")
# What Linux calls the instructions that multiply in bf16.
BF16_FLAGS = {"amx_bf16", "avx512_bf16"}


def choose_device(accelerator: Accelerator, rank: int = 0) -> torch.device:
    """The device of a process: for auto the GPU where there is one.

    Raises:
        LapelError: a GPU is asked for that is not there.
    """
    gpus = torch.cuda.device_count()
    if accelerator is Accelerator.gpu and gpus <= rank:
        raise LapelError(f"accelerator=gpu: {rank + 1} GPU(s) asked for, {gpus} here; allowed are cpu, auto")
    if accelerator is Accelerator.cpu or gpus <= rank:
        return torch.device("cpu")
    return torch.device("cuda", rank)


def choose_precision(precision: Precision, device: torch.device) -> Precision:
    """auto: bf16 where the hardware multiplies in it; elsewhere it is emulated, and slower than fp32."""
    if precision is not Precision.auto:
        return precision
    native = torch.cuda.is_bf16_supported(including_emulation=False) if device.type == "cuda" else _cpu_has_bf16()
    return Precision.bf16 if native else Precision.fp32


def _cpu_has_bf16() -> bool:
    """Whether the CPU multiplies in bf16: with AVX-512's dot products (AMD from Zen 4 on, Intel) or Intel's tiles."""
    return CPUINFO.is_file() and not BF16_FLAGS.isdisjoint(CPUINFO.read_text().split())


def on_device(here: Tensor, device: torch.device) -> Tensor:
    """What lies in the machine's memory, on a device; nobody waits for it: to a GPU it goes from pinned memory."""
    return here.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else here


def describe(device: torch.device) -> str:
    """The device in words."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{platform.machine()} CPU, {torch.get_num_threads()} threads"
