"""The messages of secure aggregation: four from each client, three to it, each of one session."""

from __future__ import annotations

from typing import Annotated, TypeVar

from msgspec import Meta

from spry.core.errors import WireError
from spry.federated.secure.masks import SEED_BYTES
from spry.federated.secure.shamir import SHARE_BYTES
from spry.wire.frame import Count, Fields, Kind, decode_frame, encode_frame, read_kind

MAX_CLIENTS = 1 << 16
SEALED_BYTES = 2 * SHARE_BYTES + 16
"""Two shares and the seal's tag."""

PublicKey = Annotated[bytes, Meta(min_length=SEED_BYTES, max_length=SEED_BYTES)]
Share = Annotated[bytes, Meta(min_length=SHARE_BYTES, max_length=SHARE_BYTES)]
Sealed = Annotated[bytes, Meta(min_length=SEALED_BYTES, max_length=SEALED_BYTES)]
Session = Annotated[bytes, Meta(max_length=64)]


class SessionFields(Fields):
    """What all messages begin with: which session they are of."""

    session: Session


class KeysFields(SessionFields):
    """A client's public keys: one for shares that others send it, one for masks."""

    client: Count
    sealing: PublicKey
    masking: PublicKey


class RosterFields(SessionFields):
    """Who takes part, and everybody's public keys."""

    members: Annotated[tuple[tuple[Count, PublicKey, PublicKey], ...], Meta(max_length=MAX_CLIENTS)]


class SharesFields(SessionFields):
    """A client's shares of its two secrets, sealed for each other member."""

    client: Count
    shares: Annotated[tuple[tuple[Count, Sealed], ...], Meta(max_length=MAX_CLIENTS)]


class DeliveryFields(SessionFields):
    """The shares that others sealed for one client."""

    shares: Annotated[tuple[tuple[Count, Sealed], ...], Meta(max_length=MAX_CLIENTS)]


class MaskedFields(SessionFields):
    """A client's numbers under its masks."""

    client: Count
    numbers: bytes


class SurvivorsFields(SessionFields):
    """Whose numbers came."""

    clients: Annotated[tuple[Count, ...], Meta(max_length=MAX_CLIENTS)]


class SecretsFields(SessionFields):
    """One client's shares: of the masking keys of those that fell out, of the own masks of those whose numbers came."""

    client: Count
    keys: Annotated[tuple[tuple[Count, Share], ...], Meta(max_length=MAX_CLIENTS)]
    seeds: Annotated[tuple[tuple[Count, Share], ...], Meta(max_length=MAX_CLIENTS)]


KIND_OF: dict[type[SessionFields], Kind] = {
    KeysFields: Kind.SECURE_KEYS,
    RosterFields: Kind.SECURE_ROSTER,
    SharesFields: Kind.SECURE_SHARES,
    DeliveryFields: Kind.SECURE_DELIVERY,
    MaskedFields: Kind.SECURE_MASKED,
    SurvivorsFields: Kind.SECURE_SURVIVORS,
    SecretsFields: Kind.SECURE_SECRETS,
}
OfSession = TypeVar("OfSession", bound=SessionFields)


def encode_secure(fields: SessionFields) -> bytes:
    return encode_frame(KIND_OF[type(fields)], fields)


def decode_secure(data: bytes, fields: type[OfSession], session: bytes) -> OfSession:
    """Read a message of one session; WireError if it is of another kind or session, or malformed."""
    kind, wanted = read_kind(data), KIND_OF[fields]
    if kind is not wanted:
        raise WireError(f"message is of kind {kind} ({kind.name}), not {wanted} ({wanted.name})")
    found = decode_frame(data, fields)
    if found.session != session:
        raise WireError(f"message is of session {found.session.hex()}; this one is {session.hex()}")
    return found
