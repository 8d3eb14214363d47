"""What this machine computes fastest in, without a loss that matters."""

import contextlib
import ctypes
from pathlib import Path

import torch

from thaw.errors import UserError

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # of malloc.h


def check_accelerator(accelerator: str) -> None:
    """Refuse what no run has been made for, and a GPU that PyTorch cannot see.

    Raises:
        UserError: if `accelerator` names one of these.

    """
    cuda, mps = torch.cuda.is_available(), torch.backends.mps.is_available()
    seen = {"auto": True, "cpu": True, "gpu": cuda or mps, "cuda": cuda, "mps": mps}
    if accelerator not in seen:
        raise UserError(f"trainer.accelerator={accelerator} is not supported; the choices are {', '.join(seen)}.")
    if not seen[accelerator]:
        raise UserError(
            f"trainer.accelerator={accelerator}: PyTorch {torch.__version__} sees no GPU here; "
            "the choices are trainer=default or trainer.accelerator=auto, which fall back to the CPU."
        )


def best_precision(accelerator: str, suits_cpu: bool = True) -> str:
    """`bf16-mixed` where the device multiplies bfloat16 in hardware, else `32-true`.

    On a CPU that has the instructions, `suits_cpu` says whether the net gains by them.
    """
    if accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available():
        native = torch.cuda.is_bf16_supported(including_emulation=False)
    elif accelerator in ("auto", "gpu", "mps") and torch.backends.mps.is_available():
        native = False  # no channel layout or precision but the plain one has been measured there
    else:
        native = suits_cpu and cpu_has_bf16()
    return "bf16-mixed" if native else "32-true"


def cpu_has_bf16(cpuinfo: Path = Path("/proc/cpuinfo")) -> bool:
    """Whether the CPU has bfloat16 instructions (AVX512-BF16, AMX or Arm's BF16); False outside Linux."""
    if not cpuinfo.is_file():
        return False
    lines = (line for line in cpuinfo.read_text().splitlines() if line.startswith(("flags", "Features")))
    flags = set(next(lines, "").split())
    return bool(flags & {"avx512_bf16", "amx_bf16", "bf16"})


def keep_freed_memory() -> None:
    """Let the C library reuse the memory of large tensors on a CPU, instead of having the system clear it each time.

    A forward pass is a seventh quicker for it. Where the library is not glibc nothing happens.
    """
    with contextlib.suppress(OSError, AttributeError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(_M_MMAP_MAX, 0)
        mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)


def memory_format(channels_last: bool | str = "auto") -> torch.memory_format:
    """channels_last if asked for or, with `auto`, wherever it has kernels: on CUDA and on oneDNN's CPUs."""
    if channels_last == "auto":
        channels_last = torch.cuda.is_available() or (
            torch.backends.mkldnn.is_available() and not torch.backends.mps.is_available()
        )
    return torch.channels_last if channels_last else torch.contiguous_format
