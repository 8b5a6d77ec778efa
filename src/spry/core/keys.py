"""Randomness as a value: a ``Key`` is hashed from a seed and a path, and draws with NumPy's Philox.

A draw depends on the key and on the name drawn for, on nothing else: not on the device, not on which other names are
drawn, not on how often the key was used before. So client and server, CPU and GPU, whole and slice agree.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class Key:
    """A node in the tree of random draws; children are made by ``fold``.

    Args:
        seed: The root's number, any integer of at most 64 bits.
        path: What was folded in since, as printable parts.

    Example:
        >>> Key(0).fold("round", 3) == Key(0).fold("round").fold(3)
        True
        >>> Key(0).normal("w", (2,)).equal(Key(1).normal("w", (2,)))
        False
    """

    seed: int
    path: tuple[str | int, ...] = ()

    def fold(self, *parts: str | int) -> Key:
        """Make the child key for a path such as ``"round", 3, "client", 7``; the draws of the two are independent."""
        return Key(self.seed, self.path + tuple(p if isinstance(p, str) else int(p) for p in parts))

    def generator(self, name: str = "") -> np.random.Generator:
        """Open the Philox stream of this key and a name, such as a weight's; equal arguments give equal streams."""
        text = repr((self.seed, *self.path, name)).encode()
        digest = hashlib.blake2b(text, digest_size=16, person=b"spry-key").digest()
        return np.random.Generator(np.random.Philox(key=int.from_bytes(digest, "little")))

    def normal(self, name: str, shape: tuple[int, ...], like: Tensor | None = None) -> Tensor:
        """Draw independent standard normal numbers, in float32 on the CPU, then in ``like``'s dtype on its device."""
        drawn = torch.empty(
            shape
        )  # memory of torch's alignment, for kernels may round differently on another
        self.generator(name).standard_normal(dtype=np.float32, out=drawn.numpy())
        return drawn if like is None else drawn.to(device=like.device, dtype=like.dtype)

    def signs(self, name: str, shape: tuple[int, ...], like: Tensor | None = None) -> Tensor:
        """Draw independent signs, -1 or +1 with equal chance, on the device and in the dtype of ``like``."""
        bits = np.asarray(self.generator(name).integers(0, 2, size=shape, dtype=np.int8))
        drawn = torch.from_numpy(bits).to(torch.float32).mul_(2).sub_(1)
        return drawn if like is None else drawn.to(device=like.device, dtype=like.dtype)

    def permutation(self, count: int, name: str = "") -> list[int]:
        """Draw a random order of ``0 .. count - 1``."""
        return self.generator(name).permutation(count).tolist()
