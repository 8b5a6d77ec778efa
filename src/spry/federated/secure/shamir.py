"""Shamir's secret sharing: any t of n shares give the secret back, and fewer tell nothing of it."""

from __future__ import annotations

import secrets
from collections.abc import Mapping

PRIME = 2**521 - 1
"""A Mersenne prime above every 64-byte secret."""
SHARE_BYTES = 66


def split_secret(secret: bytes, places: range, threshold: int) -> dict[int, bytes]:
    """Share a secret of at most 64 bytes: ``y_i = s + a_1 i + ... + a_{t-1} i^{t-1}`` modulo a prime, random ``a``.

    Args:
        places: The numbers i >= 1 of those who get a share.
        threshold: t, at least 1 and at most their number.

    Source:
        Shamir 1979, How to share a secret.
    """
    assert 1 <= threshold <= len(places) and places.start >= 1 and len(secret) <= 64
    terms = [int.from_bytes(secret, "big"), *(secrets.randbelow(PRIME) for _ in range(threshold - 1))]
    return {place: _at(terms, place).to_bytes(SHARE_BYTES, "big") for place in places}


def join_shares(shares: Mapping[int, bytes], length: int) -> bytes | None:
    """Interpolate at 0 from shares by place; None if they are not of one secret of that many bytes."""
    total = 0
    points = {place: int.from_bytes(share, "big") for place, share in shares.items()}
    for place, value in points.items():
        above = below = 1
        for other in points:
            if other != place:
                above = above * other % PRIME
                below = below * (other - place) % PRIME
        total += value * above * pow(below, -1, PRIME)
    secret = total % PRIME
    return secret.to_bytes(length, "big") if secret < 256**length else None


def _at(terms: list[int], place: int) -> int:
    value = 0
    for term in reversed(terms):
        value = (value * place + term) % PRIME
    return value
