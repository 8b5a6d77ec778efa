"""What a head is fitted to, and what that takes: the sums, how they travel, and how they are solved."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Generic, Protocol, Self, TypeVar

from torch import Tensor

from spry.federated.closed_head.codec import decode_sums, encode_sums
from spry.federated.closed_head.moments import HeadMoments
from spry.federated.closed_head.moments_codec import decode_moments, encode_moments
from spry.federated.closed_head.solve import Head, solve
from spry.federated.closed_head.solve_labels import solve_labels
from spry.federated.closed_head.solve_numbers import solve_numbers
from spry.federated.closed_head.sums import HeadSums


class Sums(Protocol):
    """Sums over examples, of which those of two parts add up to those of the whole."""

    @property
    def examples(self) -> int: ...

    def add(self, other: Self) -> Self: ...


S = TypeVar("S", bound=Sums)


@dataclass(frozen=True, kw_only=True)
class HeadSolver(Generic[S]):
    """One kind of sums, and the head that follows from them.

    Args:
        empty: ``(outputs, features)`` of a head give the sums of no example.
        of: Sums up a batch: features, shape (B, D), labels, and how many outputs there are.
        encode: Writes the message of a client.
        decode: Reads it: the message, the client, outputs and features.
        solve: Finds the head, with a bias or without.
        enough: Whether sums say something of every output, so that no more clients need be asked.
    """

    empty: Callable[[int, int], S]
    of: Callable[[Tensor, Tensor, int], S]
    encode: Callable[[int, S], bytes]
    decode: Callable[[bytes, int, int, int], S]
    solve: Callable[[S, bool], Head]
    enough: Callable[[S], bool]


def _read_moments(labels: bool, data: bytes, client: int, outputs: int, features: int) -> HeadMoments:
    return decode_moments(data, client, targets=outputs, features=features, labels=labels)


CLASS_HEAD = HeadSolver[HeadSums](
    empty=HeadSums.empty,
    of=HeadSums.of,
    encode=encode_sums,
    decode=lambda data, client, outputs, features: decode_sums(
        data, client, classes=outputs, features=features
    ),
    solve=lambda sums, bias: solve(sums, bias=bias),
    enough=lambda sums: bool(sums.counts.all()),
)
LABEL_HEAD = HeadSolver[HeadMoments](
    empty=HeadMoments.empty,
    of=HeadMoments.of,
    encode=encode_moments,
    decode=partial(_read_moments, True),
    solve=lambda sums, bias: solve_labels(sums, bias=bias),
    enough=lambda sums: bool(((sums.counts > 0) & (sums.counts < sums.examples)).all()),
)
NUMBER_HEAD = HeadSolver[HeadMoments](
    empty=HeadMoments.empty,
    of=HeadMoments.of,
    encode=encode_moments,
    decode=partial(_read_moments, False),
    solve=lambda sums, bias: solve_numbers(sums, bias=bias),
    enough=lambda sums: sums.examples > 0,
)
