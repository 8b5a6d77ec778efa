"""A client's side of secure aggregation: four messages, and what it refuses to send."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from spry.core.errors import PrivacyError, WireError
from spry.federated.secure.masks import (
    SEED_BYTES,
    Residues,
    agree,
    new_key,
    public_bytes,
    seal,
    stream,
    unseal,
)
from spry.federated.secure.messages import (
    DeliveryFields,
    KeysFields,
    MaskedFields,
    RosterFields,
    SecretsFields,
    SharesFields,
    SurvivorsFields,
    decode_secure,
    encode_secure,
)
from spry.federated.secure.shamir import SHARE_BYTES, split_secret

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey


def threshold_of(members: int, least: int) -> int:
    """How many must remain for a sum: ``least``, and more than half, so that no two sets without a common one do."""
    return max(least, members // 2 + 1)


def place_bytes(session: bytes, sender: int, receiver: int) -> bytes:
    """What a sealed share belongs to."""
    return b"%d:%b:%d>%d" % (len(session), session, sender, receiver)


def pair_bytes(session: bytes, one: int, other: int) -> bytes:
    """What a pair's mask is for, the same from both ends."""
    return b"mask %d:%b:%d,%d" % (len(session), session, min(one, other), max(one, other))


@dataclass
class SecureClient:
    """One client in one session; each method gives one answer, in their order, and refuses another.

    ``y_u = x_u + PRG(b_u) + sum_{v > u} PRG(s_uv) - sum_{v < u} PRG(s_uv)``: the masks of pairs cancel in the sum,
    and the own ones are taken away with the help of those that remain.

    Args:
        client: Its number.
        session: What tells this session from all others.
        least: Members, >= 2, below which it sends nothing.
        sealing: Private key of the shares that others send it.
        masking: Private key of the masks that it has with others.
        seed: Of its own mask.

    Source:
        Bonawitz et al. 2017, Practical secure aggregation for privacy-preserving machine learning, figure 4, against a
        server that follows the protocol.
    """

    client: int
    session: bytes
    least: int = 3
    sealing: X25519PrivateKey = field(default_factory=new_key, repr=False)
    masking: X25519PrivateKey = field(default_factory=new_key, repr=False)
    seed: bytes = field(default_factory=lambda: secrets.token_bytes(SEED_BYTES), repr=False)
    members: dict[int, tuple[bytes, bytes]] = field(default_factory=dict, init=False)
    held: dict[int, bytes] = field(default_factory=dict, init=False, repr=False)
    masked: bool = field(default=False, init=False)
    told: bool = field(default=False, init=False)

    def advertise(self) -> bytes:
        """Tell the public keys."""
        sealing, masking = public_bytes(self.sealing), public_bytes(self.masking)
        return encode_secure(
            KeysFields(session=self.session, client=self.client, sealing=sealing, masking=masking)
        )

    def share(self, roster: bytes) -> bytes:
        """Share the masking key and the own mask's seed among all members.

        Raises:
            PrivacyError: If there are too few members, or it was asked before.
            WireError: If the roster is malformed, or tells of this client what it did not.
        """
        self._refuse_again(bool(self.members), "shared its secrets")
        found = decode_secure(roster, RosterFields, self.session)
        members = {client: (sealing, masking) for client, sealing, masking in found.members}
        own = (public_bytes(self.sealing), public_bytes(self.masking))
        keys = [key for pair in members.values() for key in pair]
        if len(members) < len(found.members) or len(set(keys)) < len(keys):
            raise WireError("the roster has a client or a key twice")
        if members.get(self.client) != own:
            raise WireError(f"the roster does not have client {self.client} with the keys that it told")
        self.members = members
        self._refuse_few(len(self.members), "members")
        parts = [self._split(secret) for secret in (self.masking.private_bytes_raw(), self.seed)]
        texts = {client: parts[0][client] + parts[1][client] for client in self.members}
        self.held[self.client] = texts.pop(self.client)
        sealed = tuple((client, self._seal(client, text)) for client, text in texts.items())
        return encode_secure(SharesFields(session=self.session, client=self.client, shares=sealed))

    def mask(self, delivery: bytes, numbers: Residues) -> bytes:
        """Take the others' shares, and send the numbers under masks that those cancel.

        Args:
            numbers: Integers modulo 2^32 or 2^64, shape (d,).

        Raises:
            PrivacyError: If too few others shared their secrets, or it was asked before: the difference of two answers
                would have no masks.
            WireError: If it has not shared its own, or a share is not for this client, or of no member.
        """
        self._refuse_again(self.masked, "sent its numbers")
        if not self.members:
            raise WireError(f"client {self.client} was asked for its numbers before it shared its secrets")
        found = decode_secure(delivery, DeliveryFields, self.session)
        for sender, sealed in found.shares:
            if sender in self.held or sender not in self.members:
                raise WireError(f"a share is of client {sender}, which sent one already or is no member")
            place = place_bytes(self.session, sender, self.client)
            key = agree(self.sealing, self.members[sender][0], b"seal " + place)
            self.held[sender] = unseal(key, sealed, place)
        self._refuse_few(len(self.held), "members that shared their secrets")
        self.masked = True
        total = numbers + stream(self.seed, len(numbers), numbers.dtype)
        for other in self.held.keys() - {self.client}:
            seed = agree(self.masking, self.members[other][1], pair_bytes(self.session, self.client, other))
            pad = stream(seed, len(numbers), numbers.dtype)
            total = total + pad if other > self.client else total - pad
        return encode_secure(MaskedFields(session=self.session, client=self.client, numbers=total.tobytes()))

    def reveal(self, survivors: bytes) -> bytes:
        """Give the shares that take masks away: of each other client one kind, and only once.

        Raises:
            PrivacyError: If too few remain, or it was asked before: another answer could unmask single clients.
            WireError: If the survivors are not among those that shared, or lack this client.
        """
        found = decode_secure(survivors, SurvivorsFields, self.session)
        remaining = set(found.clients)
        self._refuse_again(self.told, "told its shares")
        if not self.masked:
            raise WireError(f"client {self.client} was asked for shares before it sent its numbers")
        if len(remaining) < len(found.clients) or not remaining <= self.held.keys():
            raise WireError("survivors come twice, or did not share their secrets")
        if self.client not in remaining:
            raise WireError(f"survivors lack client {self.client}, which sent its numbers")
        self._refuse_few(len(remaining), "clients that sent their numbers")
        self.told = True
        keys = ((c, held[:SHARE_BYTES]) for c, held in self.held.items() if c not in remaining)
        seeds = ((c, held[SHARE_BYTES:]) for c, held in self.held.items() if c in remaining)
        return encode_secure(
            SecretsFields(session=self.session, client=self.client, keys=tuple(keys), seeds=tuple(seeds))
        )

    def _split(self, secret: bytes) -> dict[int, bytes]:
        threshold = threshold_of(len(self.members), self.least)
        shares = split_secret(secret, range(1, len(self.members) + 1), threshold)
        return dict(zip(sorted(self.members), shares.values(), strict=True))

    def _seal(self, client: int, text: bytes) -> bytes:
        place = place_bytes(self.session, self.client, client)
        return seal(agree(self.sealing, self.members[client][0], b"seal " + place), text, place)

    def _refuse_again(self, done: bool, what: str) -> None:
        if done:
            raise PrivacyError(f"client {self.client} has {what}; it does so once in a session")

    def _refuse_few(self, number: int, what: str) -> None:
        needed = threshold_of(len(self.members), self.least)
        if number < needed:
            raise PrivacyError(
                f"client {self.client} sends nothing: there are {number} {what}, and it takes {needed}, so that no "
                "single one can be told from the sum"
            )
