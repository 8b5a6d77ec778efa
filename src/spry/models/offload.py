"""Weights that stay on the disk: each block's pages are read when it runs, and given back when the next one has run.

transformers hands out the tensors of a safetensors file as views of the file, mapped into memory, as long as their type
is the one that the model computes in, or they are packed. The system reads a page when it is first touched. What is
left to do is to say when a block's pages are not needed any more, so that the process holds two blocks at a time.

A forward pass, with or without derivatives, reads each block once. Backpropagation with checkpointing reads it twice.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from spry.core.errors import ModelError
from spry.models.checkpointing import repeated_layers
from spry.models.quantized.rows import kept_tensors

Offload = Literal["disk"]
"""Where the frozen weights stay: disk leaves them in their safetensors files."""

_PAGE = mmap.PAGESIZE
_WILL_NEED, _NOT_NEEDED = 3, 4  # of madvise
LARGEST_LOOSE = 0.02
"""Share of a model's bytes that may be in memory: norms of another type, a head that is new."""


@dataclass(frozen=True)
class Pages:
    """A range of a file that is mapped into memory: ``start`` and ``stop`` are addresses, multiples of a page."""

    start: int
    stop: int
    file: str
    offset: int

    def advise(self, advice: int) -> None:
        _libc().madvise(ctypes.c_void_p(self.start), ctypes.c_size_t(self.stop - self.start), advice)

    def evict(self) -> None:
        """Take the pages out of the system's cache as well, so that they are read from the disk again."""
        descriptor = os.open(self.file, os.O_RDONLY)
        try:
            os.posix_fadvise(descriptor, self.offset, self.stop - self.start, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(descriptor)


class Stream:
    """The pages of a model's blocks, of which those of two are held at a time.

    Two, because the forward engine computes the end of a block when the next one asks for it.

    Args:
        model: Its weights lie in mapped files, and nobody writes to them.
    """

    def __init__(self, model: nn.Module) -> None:
        self.read_bytes = 0
        self._evicting = False
        maps = _maps()
        self._pages = {layer: _pages(_tensors(layer), maps) for layer in repeated_layers(model)}
        self._held: list[nn.Module] = []
        for layer in self._pages:
            layer.register_forward_pre_hook(self._enter)
        self._release(self._pages)

    def _enter(self, layer: nn.Module, _: Any) -> None:
        if layer in self._held:
            self._held.remove(layer)
        else:
            self._release(self._held[:-1])
            for pages in self._pages[layer]:
                pages.advise(_WILL_NEED)
                self.read_bytes += pages.stop - pages.start
        self._held = [*self._held[-1:], layer]

    def evict(self) -> None:
        """Have each block leave the system's cache when it is done, so that every read is one of the disk."""
        self._evicting = True
        self._release(self._pages)

    def release(self) -> None:
        """Give back the pages of the blocks that ran last."""
        self._release(self._held)
        self._held = []

    def _release(self, layers: Iterable[nn.Module]) -> None:
        for layer in layers:
            for pages in self._pages[layer]:
                pages.advise(_NOT_NEEDED)
                if self._evicting:
                    pages.evict()


def stream_from_disk(model: nn.Module, name: str, dtype: torch.dtype, device: str | torch.device) -> Stream:
    """Let a loaded model hold two blocks of its weights at a time.

    Raises:
        ModelError: If it is not on a CPU, this is not Linux, or its weights are not views of files.
    """
    if torch.device(device).type != "cpu" or not sys.platform.startswith("linux"):
        raise ModelError(
            "model.offload = 'disk' reads weights where they are computed with: on the CPU, under Linux. Set "
            "model.device = 'cpu', or leave model.offload unset."
        )
    maps = _maps()
    tensors = list(_tensors(model))
    loose = sum(tensor.nbytes for tensor in tensors if _find(tensor, maps) is None)
    whole = sum(tensor.nbytes for tensor in tensors)
    if loose > LARGEST_LOOSE * whole:
        kind = str(dtype).removeprefix("torch.")
        raise ModelError(
            f"{name}: {loose / whole:.0%} of its weights cannot be left on the disk, because they were converted when "
            f"they were read. Give a folder of safetensors files in the type of model.dtype ({kind}), or a checkpoint "
            "that bitsandbytes packed and `save_pretrained` wrote; and leave model.quantization unset."
        )
    return Stream(model)


def _tensors(module: nn.Module) -> Iterator[Tensor]:
    for weight in module.parameters():
        yield from kept_tensors(weight)


def _pages(tensors: Iterable[Tensor], maps: Sequence[Pages]) -> list[Pages]:
    """The pages that tensors lie in, ranges that touch each other as one."""
    found = sorted(
        ((place, tensor) for tensor in tensors if (place := _find(tensor, maps)) is not None),
        key=lambda pair: pair[1].data_ptr(),
    )
    merged: list[Pages] = []
    for place, tensor in found:
        start = tensor.data_ptr() // _PAGE * _PAGE
        stop = -(-(tensor.data_ptr() + tensor.nbytes) // _PAGE) * _PAGE
        if merged and merged[-1].file == place.file and start <= merged[-1].stop + _PAGE:
            start = merged.pop().start
        merged.append(Pages(start, stop, place.file, place.offset + start - place.start))
    return merged


def _find(tensor: Tensor, maps: Sequence[Pages]) -> Pages | None:
    address = tensor.data_ptr()
    return next((place for place in maps if place.start <= address < place.stop), None)


def _maps() -> list[Pages]:
    """The safetensors files that are mapped into this process."""
    found = []
    for line in Path("/proc/self/maps").read_text(encoding="utf-8").splitlines():
        span, _, offset, _, _, *file = line.split(maxsplit=5)
        if file and file[0].endswith(".safetensors"):
            start, stop = (int(end, 16) for end in span.split("-"))
            found.append(Pages(start, stop, file[0], int(offset, 16)))
    return found


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None)
