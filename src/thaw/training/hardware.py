"""Choice of accelerator, precision and memory layout for this machine."""

import contextlib
import ctypes
from pathlib import Path

import torch

from thaw.errors import UserError

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # from malloc.h


def check_accelerator(accelerator: str) -> None:
    """Check that this machine can run with `accelerator`.

    Raises:
        UserError: if Thaw does not support `accelerator`, or PyTorch sees no device of this kind.

    """
    cuda, mps = torch.cuda.is_available(), torch.backends.mps.is_available()
    seen = {"auto": True, "cpu": True, "gpu": cuda or mps, "cuda": cuda, "mps": mps}
    if accelerator not in seen:
        raise UserError(f"trainer.accelerator={accelerator} is not supported; the choices are {', '.join(seen)}.")
    if not seen[accelerator]:
        raise UserError(
            f"trainer.accelerator={accelerator}: PyTorch {torch.__version__} sees no GPU here; "
            "the choices are trainer=default or trainer.accelerator=auto, which use the CPU if there is no GPU."
        )


def best_precision(accelerator: str, suits_cpu: bool = True) -> str:
    """Return `bf16-mixed` if the device multiplies bfloat16 in hardware, else `32-true`.

    On a CPU, `bf16-mixed` also needs `suits_cpu`, which means that bfloat16 trains the network faster.
    """
    if accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available():
        native = torch.cuda.is_bf16_supported(including_emulation=False)
    elif accelerator in ("auto", "gpu", "mps") and torch.backends.mps.is_available():
        native = False  # bfloat16 was not measured on Apple's GPUs
    else:
        native = suits_cpu and cpu_has_bf16()
    return "bf16-mixed" if native else "32-true"


def cpu_has_bf16(cpuinfo: Path = Path("/proc/cpuinfo")) -> bool:
    """Return whether the CPU has bfloat16 instructions (AVX512-BF16, AMX or Arm's BF16); False outside Linux."""
    if not cpuinfo.is_file():
        return False
    lines = (line for line in cpuinfo.read_text().splitlines() if line.startswith(("flags", "Features")))
    flags = set(next(lines, "").split())
    return bool(flags & {"avx512_bf16", "amx_bf16", "bf16"})


def keep_freed_memory() -> None:
    """Make glibc reuse the memory of freed tensors; otherwise the system clears memory for each large tensor.

    This makes a forward pass on a CPU a seventh faster. With other C libraries, the call has no effect.
    """
    with contextlib.suppress(OSError, AttributeError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(_M_MMAP_MAX, 0)
        mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)


def memory_format(channels_last: bool | str = "auto") -> torch.memory_format:
    """Return `torch.channels_last` if chosen, or for `auto` on devices with fast kernels: CUDA and CPUs with oneDNN."""
    if channels_last == "auto":
        channels_last = torch.cuda.is_available() or (
            torch.backends.mkldnn.is_available() and not torch.backends.mps.is_available()
        )
    return torch.channels_last if channels_last else torch.contiguous_format
