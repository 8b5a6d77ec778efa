"""Keys that two clients agree on without the server, and the streams of numbers that hide what they send."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from spry.core.errors import ConfigError, WireError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

SEED_BYTES = 32
Residues = NDArray[np.unsignedinteger]
"""Integers modulo 2^32 or 2^64, in the type that wraps there."""


def new_key() -> X25519PrivateKey:
    """Draw a private key from the operating system's random numbers; ConfigError without ``cryptography``."""
    check_installed()
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

    return X25519PrivateKey.generate()


def check_installed() -> None:
    try:
        import cryptography  # ruff: ignore[unused-import]
    except ModuleNotFoundError as error:
        raise ConfigError(
            f'Install what secure aggregation needs: pip install "spry-fl[privacy]" ({error})'
        ) from error


def public_bytes(key: X25519PrivateKey) -> bytes:
    return key.public_key().public_bytes_raw()


def private_key(data: bytes) -> X25519PrivateKey:
    """Make a key of the bytes that were shared."""
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

    return X25519PrivateKey.from_private_bytes(data)


def agree(own: X25519PrivateKey, other: bytes, purpose: bytes) -> bytes:
    """Derive the 32 bytes that both ends of a pair know: X25519, then HKDF-SHA256 with the purpose as its info.

    Raises:
        WireError: If the other end's key is none.
    """
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PublicKey
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.hazmat.primitives.kdf.hkdf import HKDF

    try:
        shared = own.exchange(X25519PublicKey.from_public_bytes(other))
    except ValueError as error:  # of another length, or a point that makes every secret zero
        raise WireError(f"a public key cannot be used ({error})") from error
    return HKDF(algorithm=SHA256(), length=SEED_BYTES, salt=None, info=b"spry " + purpose).derive(shared)


def stream(seed: bytes, length: int, dtype: np.dtype[np.unsignedinteger]) -> Residues:
    """Expand a seed into numbers that look uniform: ChaCha20's key stream, read little endian."""
    from cryptography.hazmat.primitives.ciphers import Cipher
    from cryptography.hazmat.primitives.ciphers.algorithms import ChaCha20

    encryptor = Cipher(ChaCha20(seed, bytes(16)), mode=None).encryptor()
    return np.frombuffer(encryptor.update(bytes(length * dtype.itemsize)), dtype=dtype)


def seal(key: bytes, text: bytes, place: bytes) -> bytes:
    """Encrypt and sign a text under a key that is used for nothing else; ``place`` says where it belongs."""
    from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

    return ChaCha20Poly1305(key).encrypt(bytes(12), text, place)


def unseal(key: bytes, data: bytes, place: bytes) -> bytes:
    """Read what ``seal`` wrote; WireError if it was changed, or is of another place or key."""
    from cryptography.exceptions import InvalidTag
    from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

    try:
        return ChaCha20Poly1305(key).decrypt(bytes(12), data, place)
    except (InvalidTag, ValueError) as error:
        raise WireError("a sealed share was changed on its way, or is not for this client") from error
