"""The server's side of secure aggregation: it passes messages on, and takes masks away that nobody's numbers need."""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass, field

import numpy as np

from spry.core.errors import PrivacyError, WireError
from spry.federated.secure.masks import SEED_BYTES, Residues, agree, private_key, public_bytes, stream
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
from spry.federated.secure.party import pair_bytes, threshold_of
from spry.federated.secure.shamir import join_shares


@dataclass
class SecureServer:
    """The server of one session. It takes each client's messages, in any order, and then goes on with those that came.

    Whoever carries them may say of which client (``sender``): what is of another is refused.

    Args:
        session: What tells this session from all others.
        clients: Who was asked.
        length: Residues that each client sends.
        dtype: Their type, ``<u4`` or ``<u8``.
        least: Clients, >= 2, below which there is no sum.
    """

    session: bytes
    clients: frozenset[int]
    length: int
    dtype: np.dtype[np.unsignedinteger]
    least: int = 3
    keys: dict[int, tuple[bytes, bytes]] = field(default_factory=dict, init=False)
    sealed: dict[int, dict[int, bytes]] = field(default_factory=dict, init=False)
    masked: dict[int, Residues] = field(default_factory=dict, init=False)
    secrets: dict[int, SecretsFields] = field(default_factory=dict, init=False)

    def take_keys(self, data: bytes, sender: int | None = None) -> None:
        """Take a client's public keys; WireError if it was not asked, or told some before."""
        found = decode_secure(data, KeysFields, self.session)
        self._refuse(found.client, sender, self.clients, self.keys, "keys")
        self.keys[found.client] = (found.sealing, found.masking)

    def roster(self) -> bytes:
        """Tell everybody who takes part; PrivacyError if these are too few."""
        self._refuse_few(len(self.keys), "told their keys")
        members = tuple((client, *keys) for client, keys in sorted(self.keys.items()))
        return encode_secure(RosterFields(session=self.session, members=members))

    def take_shares(self, data: bytes, sender: int | None = None) -> None:
        """Take a client's sealed shares; WireError unless there is one for each other member."""
        found = decode_secure(data, SharesFields, self.session)
        self._refuse(found.client, sender, self.keys, self.sealed, "shares")
        shares = dict(found.shares)
        if len(shares) < len(found.shares) or shares.keys() != self.keys.keys() - {found.client}:
            raise WireError(f"shares of client {found.client} are not one for each other member")
        self.sealed[found.client] = shares

    def delivery(self, client: int) -> bytes:
        """Give a client the shares that others sealed for it; PrivacyError if too few shared."""
        self._refuse_few(len(self.sealed), "shared their secrets")
        shares = tuple(
            (sender, own[client]) for sender, own in sorted(self.sealed.items()) if sender != client
        )
        return encode_secure(DeliveryFields(session=self.session, shares=shares))

    def take_masked(self, data: bytes, sender: int | None = None) -> None:
        """Take a client's masked numbers; WireError if they are not as many as asked for."""
        found = decode_secure(data, MaskedFields, self.session)
        self._refuse(found.client, sender, self.sealed, self.masked, "numbers")
        if len(found.numbers) != self.length * self.dtype.itemsize:
            raise WireError(
                f"numbers of client {found.client} are {len(found.numbers)} bytes; {self.length} of "
                f"{8 * self.dtype.itemsize} bits are {self.length * self.dtype.itemsize}"
            )
        self.masked[found.client] = np.frombuffer(found.numbers, dtype=self.dtype)

    def survivors(self) -> bytes:
        """Tell whose numbers came; PrivacyError if these are too few."""
        self._refuse_few(len(self.masked), "sent their numbers")
        return encode_secure(SurvivorsFields(session=self.session, clients=tuple(sorted(self.masked))))

    def take_secrets(self, data: bytes, sender: int | None = None) -> None:
        """Take a client's shares of others' secrets; WireError unless they are those that were asked for."""
        found = decode_secure(data, SecretsFields, self.session)
        self._refuse(found.client, sender, self.masked, self.secrets, "secrets")
        keys, seeds = ([client for client, _ in part] for part in (found.keys, found.seeds))
        fallen = self.sealed.keys() - self.masked.keys()
        if sorted(keys) != sorted(fallen) or sorted(seeds) != sorted(self.masked):
            raise WireError(
                f"secrets of client {found.client} are not one for each member that was asked about"
            )
        self.secrets[found.client] = found

    def sum(self) -> Residues:
        """Add up the numbers that came and take all masks away.

        Raises:
            PrivacyError: If too few clients gave their shares, or what they gave is no secret of the others.
        """
        self._refuse_few(len(self.secrets), "gave their shares")
        total = np.zeros(self.length, dtype=self.dtype)
        for client, numbers in self.masked.items():
            total += numbers
            total -= stream(self._secret(client, "seeds"), self.length, self.dtype)
        for fallen in self.sealed.keys() - self.masked.keys():
            key = private_key(self._secret(fallen, "keys"))
            if public_bytes(key) != self.keys[fallen][1]:
                raise PrivacyError(
                    f"the shares of client {fallen}'s key give another one: a client lied or erred"
                )
            for other in self.masked:
                seed = agree(key, self.keys[other][1], pair_bytes(self.session, fallen, other))
                pad = stream(seed, self.length, self.dtype)
                total = total + pad if other > fallen else total - pad
        return total

    def _secret(self, client: int, kind: str) -> bytes:
        place = {member: number for number, member in enumerate(sorted(self.keys), start=1)}
        shares = {place[giver]: dict(getattr(found, kind))[client] for giver, found in self.secrets.items()}
        secret = join_shares(shares, SEED_BYTES)
        if secret is None:
            raise PrivacyError(
                f"the shares of a secret of client {client} do not fit: a client lied or erred"
            )
        return secret

    def _refuse(
        self, client: int, sender: int | None, allowed: Container[int], known: Container[int], what: str
    ) -> None:
        if sender not in {client, None}:
            raise WireError(f"{what} are of client {client}, and client {sender} sent them")
        if client not in allowed:
            raise WireError(f"{what} are of client {client}, from which none are expected")
        if client in known:
            raise WireError(f"{what} of client {client} came twice")

    def _refuse_few(self, number: int, what: str) -> None:
        needed = threshold_of(max(len(self.keys), 1), self.least)
        if number < needed:
            raise PrivacyError(
                f"there is no sum: {number} of {len(self.clients)} clients {what}, and it takes {needed}"
            )
