"""What server and clients elsewhere tell each other around order and reply: what to look at, and what it cost.

Orders and replies are the codec's own bytes, which the ledger counts; they travel inside.
"""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from spry.core.errors import WireError
from spry.federated.secure.messages import MAX_CLIENTS, Session
from spry.wire.codec import Examples, Steps
from spry.wire.frame import Count, Fields, Kind, decode_frame, encode_frame, read_kind

MAX_REASON = 2000
"""Letters of a reason that a client gives."""

Seconds = Annotated[float, Meta(ge=0)]


class Assignment(Fields):
    """What a client elsewhere is to do.

    Args:
        order: As the codec or the downlink wrote it.
        start: The head that training began with, if this client has not been told it; else empty.
        evaluates: Whether it evaluates the model on what it holds out.
        personalized: Whether it does so after training, too.
        measures: Whether it measures memory.
    """

    order: bytes
    start: bytes
    evaluates: bool
    personalized: bool
    measures: bool


class TrainingReport(Fields):
    """What carrying out an assignment gave: the reply, or its numbers under masks, and what it cost, for the log."""

    reply: bytes
    examples: Examples
    steps: Steps
    loss: float
    seconds: Seconds
    cpu_seconds: Seconds
    operations: Count | None
    slowed: bool
    peak_bytes: Count | None
    generalized: bytes | None
    personalized: bytes | None
    own: bool


class HeadReport(Fields):
    """The sums that a question about the head asked for, and what they cost."""

    sums: bytes
    seconds: Seconds
    cpu_seconds: Seconds
    operations: Count


class RollCall(Fields):
    """The question who a node is."""


class Present(Fields):
    """Who a node is: the client that it plays, and how many examples it trains on."""

    client: Count
    examples: Examples


class SecureInvitation(Fields):
    """The question for a client's keys of a session of secure aggregation."""

    session: Session


class SecureAssignment(Fields):
    """What a client elsewhere is to do, and to tell under masks only.

    Args:
        assignment: What it is to do, as ``encode_message`` wrote it.
        delivery: The shares that others sealed for it.
        clients: How many are added up at most, by which its numbers are rounded.
    """

    assignment: bytes
    delivery: bytes
    clients: Annotated[int, Meta(ge=1, le=MAX_CLIENTS)]


class Refusal(Fields):
    """Why there is no reply; ``lost`` where an order with all weights would help."""

    reason: Annotated[str, Meta(max_length=MAX_REASON)]
    lost: bool = False


Message = (
    Assignment
    | TrainingReport
    | HeadReport
    | RollCall
    | Present
    | SecureInvitation
    | SecureAssignment
    | Refusal
)
_KINDS: dict[type[Message], Kind] = {
    Assignment: Kind.ASSIGNMENT,
    TrainingReport: Kind.REPORT,
    HeadReport: Kind.HEAD_REPORT,
    RollCall: Kind.ROLL_CALL,
    Present: Kind.PRESENT,
    SecureInvitation: Kind.SECURE_INVITATION,
    SecureAssignment: Kind.SECURE_ASSIGNMENT,
    Refusal: Kind.REFUSAL,
}
_CLASSES = {kind: fields for fields, kind in _KINDS.items()}


def encode_message(message: Message) -> bytes:
    return encode_frame(_KINDS[type(message)], message)


def decode_message(data: bytes) -> Message:
    """Read one of these messages; WireError if it is none, or malformed."""
    kind = read_kind(data)
    if kind not in _CLASSES:
        raise WireError(
            f"message is of kind {kind} ({kind.name}), which is none that runtimes send around orders"
        )
    return decode_frame(data, _CLASSES[kind])


def refuse(reason: str, *, lost: bool = False) -> bytes:
    """Write a refusal, its reason shortened to what is read."""
    return encode_message(Refusal(reason=reason[:MAX_REASON], lost=lost))
