"""A client of secure aggregation as bytes, for processes that do not outlive a message. They hold its secrets."""

from __future__ import annotations

import msgspec

from spry.core.errors import WireError
from spry.federated.secure.masks import private_key
from spry.federated.secure.messages import Session
from spry.federated.secure.party import SecureClient
from spry.wire.frame import Count, Fields, decode_fields


class PartyFields(Fields):
    """What a client knows between two messages of a session."""

    client: Count
    session: Session
    least: Count
    sealing: bytes
    masking: bytes
    seed: bytes
    members: dict[int, tuple[bytes, bytes]]
    held: dict[int, bytes]
    masked: bool
    told: bool


def encode_party(party: SecureClient) -> bytes:
    """Write all that a client knows. The bytes are for itself alone."""
    fields = PartyFields(
        client=party.client,
        session=party.session,
        least=party.least,
        sealing=party.sealing.private_bytes_raw(),
        masking=party.masking.private_bytes_raw(),
        seed=party.seed,
        members=party.members,
        held=party.held,
        masked=party.masked,
        told=party.told,
    )
    return msgspec.msgpack.encode(fields)


def decode_party(data: bytes) -> SecureClient:
    """Read a client back; WireError if the bytes are damaged."""
    fields = decode_fields(data, PartyFields)
    try:
        sealing, masking = private_key(fields.sealing), private_key(fields.masking)
    except ValueError as error:  # of another length
        raise WireError(f"what this client knows of its session is damaged ({error})") from error
    party = SecureClient(
        fields.client, fields.session, fields.least, sealing=sealing, masking=masking, seed=fields.seed
    )
    party.members, party.held = fields.members, fields.held
    party.masked, party.told = fields.masked, fields.told
    return party
