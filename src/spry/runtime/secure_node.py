"""A client elsewhere under secure aggregation: what it answers in each phase, and what it tells only under masks."""

from __future__ import annotations

from dataclasses import dataclass

from msgspec.structs import replace

from spry.core.errors import DataError, PrivacyError
from spry.federated.algorithm import Algorithm
from spry.federated.secure.party import SecureClient
from spry.federated.secure.party_state import decode_party, encode_party
from spry.runtime.node_memory import NodeMemory
from spry.runtime.parties import SecureAggregation
from spry.runtime.report import SecureAssignment, SecureInvitation
from spry.wire.codec import decode_reply
from spry.wire.frame import Kind, decode_frame, read_kind
from spry.wire.messages import Answer, Order

PHASES = frozenset({Kind.SECURE_INVITATION, Kind.SECURE_ROSTER, Kind.SECURE_SURVIVORS})
"""Messages to a client that ask for no numbers."""


@dataclass(frozen=True)
class MaskedClient:
    """Plays one client's part; between two messages it is bytes, which hold its secrets.

    Args:
        settings: Those that all nodes agreed on; the server cannot ask for a sum over fewer.
    """

    settings: SecureAggregation

    def answer(self, client: int, message: bytes, memory: NodeMemory) -> tuple[bytes, NodeMemory]:
        """Answer in one of the phases in which no numbers are sent, which takes neither model nor data.

        An invitation begins a session with new secrets, whatever came of the last one. Nothing is kept of a session
        once the shares that take masks away are given.

        Args:
            memory: The client's.

        Returns:
            The answer, and what the client knows then.

        Raises:
            WireError: If the message is malformed, or of another session.
            PrivacyError: If too few others take part, it was asked before, or there is no session.
        """
        kind = read_kind(message)
        if kind is Kind.SECURE_INVITATION:
            session = decode_frame(message, SecureInvitation).session
            party = SecureClient(client, session, self.settings.owners)
            return party.advertise(), replace(memory, party=encode_party(party))
        party = _party(memory.party)
        if kind is Kind.SECURE_ROSTER:
            return party.share(message), replace(memory, party=encode_party(party))
        return party.reveal(message), replace(memory, party=None)

    def mask(
        self, kept: bytes | None, asked: SecureAssignment, algorithm: Algorithm, order: Order, reply: bytes
    ) -> tuple[bytes, bytes]:
        """Put what a reply adds under masks.

        Args:
            reply: As the codec wrote it, which is as exact as one that travels.

        Raises:
            WireError: If training broke down, or the session has not come so far.
            DataError: If a number lies outside the range of the sum.
            PrivacyError: If too few others take part.
        """
        assert algorithm.added is not None  # the configuration asks for methods that have it
        party = _party(kept)
        answer = Answer(order, decode_reply(reply, order, algorithm.slopes_exact))
        try:
            numbers = self.settings.point(asked.clients).encode(algorithm.added(answer))
        except DataError:  # which names a number, and would tell it
            largest = f"privacy.largest, {self.settings.largest:g}"
            raise DataError(
                f"a number to be summed lies beyond {largest}. Set a larger one, or shorten updates with client.clip"
            ) from None
        return party.mask(asked.delivery, numbers), encode_party(party)


def _party(kept: bytes | None) -> SecureClient:
    if kept is None:
        raise PrivacyError("this client is in no session of secure aggregation, or has forgotten its secrets")
    return decode_party(kept)
