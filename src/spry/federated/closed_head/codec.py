"""What travels for a head in closed form: a question down, sums up, and where clients are to know it the head down.

A client draws the projection from the question's key. Of the scatter the half that says all is sent, in float32: it has
no offset that would eat its digits. Means are sent in float64, and only of classes that the client has.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import numpy as np
import torch
from msgspec import Meta
from torch import Tensor

from spry.core.errors import WireError
from spry.core.keys import Key
from spry.core.params import Params
from spry.federated.closed_head.possible import check_scatter
from spry.federated.closed_head.sums import HeadSums
from spry.wire.codec import Examples, Path
from spry.wire.frame import Count, Fields, Kind, decode_frame, encode_frame, read_kind
from spry.wire.tensors import MAX_MAGNITUDE, TensorFields, decode_tensors, encode_tensors, sane

MAX_CLASSES = 1 << 16

Counts = Annotated[tuple[Examples, ...], Meta(max_length=MAX_CLASSES)]
Size = Annotated[int, Meta(ge=1, le=1 << 20)]


@dataclass(frozen=True, kw_only=True)
class Question:
    """What a client is asked: to sum over so many features, drawn from the key if these are not all."""

    client: int
    key: Key
    features: int


class QuestionFields(Fields):
    client: Count
    seed: int
    path: Path
    features: Size


class SumsFields(Fields):
    """Sums: a count for each class, the means of those that have any, the scatter's lower half, row by row."""

    client: Count
    counts: Counts
    means: bytes
    scatter: bytes


class HeadFields(Fields):
    tensors: tuple[TensorFields, ...]


def encode_question(question: Question) -> bytes:
    fields = QuestionFields(
        client=question.client,
        seed=question.key.seed,
        path=question.key.path,
        features=question.features,
    )
    return encode_frame(Kind.HEAD_QUESTION, fields)


def decode_question(data: bytes) -> Question:
    """Read a question; WireError if it is none."""
    check_kind(data, Kind.HEAD_QUESTION)
    fields = decode_frame(data, QuestionFields)
    return Question(client=fields.client, key=Key(fields.seed, fields.path), features=fields.features)


def encode_sums(client: int, sums: HeadSums) -> bytes:
    there = sums.counts > 0
    fields = SumsFields(
        client=client,
        counts=tuple(sums.counts.tolist()),
        means=sums.means[there].numpy().astype("<f8").tobytes(),
        scatter=lower_half(sums.scatter),
    )
    return encode_frame(Kind.HEAD_SUMS, fields)


def decode_sums(data: bytes, client: int, *, classes: int, features: int) -> HeadSums:
    """Read the sums of one client over so many features and classes.

    Raises:
        WireError: If the message is truncated, malformed, of another client or size, of no example, not finite, or of a
            scatter that no examples have.
    """
    check_kind(data, Kind.HEAD_SUMS)
    fields = decode_frame(data, SumsFields)
    if fields.client != client:
        raise WireError(f"sums are of client {fields.client}; expected client {client}")
    if len(fields.counts) != classes or not any(fields.counts):
        raise WireError(
            f"sums count {sum(fields.counts)} examples of {len(fields.counts)} classes; expected at least one, of "
            f"{classes} classes"
        )
    counts = torch.tensor(fields.counts, dtype=torch.int64)
    there = counts > 0
    means = torch.zeros(classes, features, dtype=torch.float64)
    means[there] = read_numbers(fields.means, "<f8", int(there.sum()) * features, "means").reshape(
        -1, features
    )
    scatter = read_scatter(fields.scatter, features)
    check_scatter(scatter)
    return HeadSums(counts=counts, means=means, scatter=scatter)


def encode_head(values: Params) -> bytes:
    return encode_frame(Kind.HEAD, HeadFields(tensors=encode_tensors(values, list(values))))


def decode_head(data: bytes, like: Params) -> Params:
    """Read a head; ``like`` has the names, shapes and dtypes of its weights. WireError if it does not fit."""
    check_kind(data, Kind.HEAD)
    values = decode_tensors(decode_frame(data, HeadFields).tensors, like, list(like))
    if len(values) != len(like):
        raise WireError(f"head lacks {len(like) - len(values)} of its {len(like)} weights")
    return values


def check_kind(data: bytes, wanted: Kind) -> None:
    kind = read_kind(data)
    if kind is not wanted:
        raise WireError(f"message is of kind {kind} ({kind.name}), not {wanted} ({wanted.name})")


def read_numbers(data: bytes, dtype: str, number: int, what: str) -> Tensor:
    size = np.dtype(dtype).itemsize
    if len(data) != number * size:
        raise WireError(f"{what} take {number * size} bytes; {len(data)} came")
    values = torch.from_numpy(np.frombuffer(data, dtype=dtype).copy())
    if not sane(values):
        raise WireError(f"{what} have values that are NaN, infinite or beyond {MAX_MAGNITUDE:g}")
    return values.double()


def lower_half(scatter: Tensor) -> bytes:
    """The half of a scatter that says all, row by row, in float32."""
    rows, columns = np.tril_indices(len(scatter))
    with np.errstate(over="ignore"):  # what is beyond float32 is infinite, and refused as that
        return scatter.numpy()[rows, columns].astype("<f4").tobytes()


def read_scatter(data: bytes, features: int) -> Tensor:
    """Read the lower half of a scatter, which ``possible`` checks."""
    half = read_numbers(data, "<f4", features * (features + 1) // 2, "scatter")
    rows, columns = map(torch.from_numpy, np.tril_indices(features))
    scatter = torch.zeros(features, features, dtype=torch.float64)
    scatter[rows, columns] = half
    scatter[columns, rows] = half
    return scatter
