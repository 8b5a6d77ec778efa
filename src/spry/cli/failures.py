"""What failures of other packages mean for the user, in one line and with what to do; None for a defect of ours."""

from __future__ import annotations

import errno
import re

MEMORY = (
    "lower client.micro_batch_size or model.max_length, set model.dtype=bfloat16, or choose a smaller model; "
    "spry memory tells what a method takes"
)
DEVICE = "set model.device to one that this machine has, such as cpu"
TORCH_REMEDIES = (
    (r"out of memory|can't allocate memory|not enough memory|CUBLAS_STATUS_ALLOC_FAILED", MEMORY),
    (r"not compiled with|not linked with support|no NVIDIA driver|invalid device|no CUDA GPUs", DEVICE),
    (r"CUDA error|cuDNN|CUBLAS|NCCL|MPS backend", f"resume the run; should that fail, too, {DEVICE}"),
)
"""What torch says (a pattern), and what to do about it."""
FILES = "look whether the file is whole, and download or write it anew"
NETWORK = "give a folder or file on this machine, or try again with a network"
PACKAGE_REMEDIES = {
    "safetensors": FILES,
    "safetensors_rust": FILES,
    "huggingface_hub": NETWORK,
    "datasets": NETWORK,
    "requests": NETWORK,
    "httpx": NETWORK,
    "urllib3": NETWORK,
}
"""Packages whose own errors are about what they were given, and what to do about them."""


def explain(error: Exception) -> str | None:
    """Put a known failure into a line.

    Returns:
        What failed and what to do; None if the failure is not known, so that its trace is worth reading.
    """
    if isinstance(error, MemoryError):
        return f"out of memory: {MEMORY}."
    package = type(error).__module__.partition(".")[0]
    if package in PACKAGE_REMEDIES:
        return f"{package}: {_first_line(error)}: {PACKAGE_REMEDIES[package]}."
    if isinstance(error, (RuntimeError, AssertionError)):
        known = (
            remedy for pattern, remedy in TORCH_REMEDIES if re.search(pattern, str(error), re.IGNORECASE)
        )
        remedy = next(known, None)
        return remedy and f"{_first_line(error)}: {remedy}."
    if isinstance(error, OSError) and error.errno is not None:
        where = f"{error.filename}: " if error.filename else ""
        room = " Make room, then try again." if error.errno in {errno.ENOSPC, errno.EDQUOT} else ""
        return f"{where}{error.strerror}.{room}"
    return None


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".:")
