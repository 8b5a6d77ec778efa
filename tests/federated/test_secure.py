"""Secure aggregation: exact sums whoever falls out, and nothing without enough clients."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare

from spry.core.errors import ConfigError, DataError, PrivacyError, WireError
from spry.federated.secure.fixed_point import FixedPoint
from spry.federated.secure.masks import agree, new_key, public_bytes, stream
from spry.federated.secure.messages import (
    MaskedFields,
    SecretsFields,
    SharesFields,
    SurvivorsFields,
    decode_secure,
    encode_secure,
)
from spry.federated.secure.party import SecureClient, threshold_of
from spry.federated.secure.party_state import decode_party, encode_party
from spry.federated.secure.server import SecureServer
from spry.federated.secure.shamir import join_shares, split_secret

SESSION = b"round 3"
PHASES = ("keys", "shares", "masked", "secrets")


def session(number, length=5, dtype="<u4", seed=0, least=3):
    rng = np.random.default_rng(seed)
    dtype = np.dtype(dtype)
    clients = {3 * i + 1: SecureClient(3 * i + 1, SESSION, least) for i in range(number)}
    numbers = {
        c: rng.integers(0, 2 ** (8 * dtype.itemsize), length, dtype=np.uint64).astype(dtype) for c in clients
    }
    return SecureServer(SESSION, frozenset(clients), length, dtype, least), clients, numbers


def run(server, clients, numbers, falls=None):
    """Play a session; ``falls`` says in which phase a client is gone."""
    falls = falls or {}

    def there(phase):
        later = PHASES[PHASES.index(phase) + 1 :]
        return [c for c in clients if c not in falls or falls[c] in later]

    for c in there("keys"):
        server.take_keys(clients[c].advertise())
    roster = server.roster()
    for c in there("shares"):
        server.take_shares(clients[c].share(roster))
    for c in there("masked"):
        server.take_masked(clients[c].mask(server.delivery(c), numbers[c]))
    survivors = server.survivors()
    for c in there("secrets"):
        server.take_secrets(clients[c].reveal(survivors))
    return server.sum()


def total(numbers, clients, dtype):
    with np.errstate(over="ignore"):
        return sum((numbers[c] for c in clients), np.zeros(len(next(iter(numbers.values()))), dtype=dtype))


@settings(max_examples=40, deadline=None)
@given(st.integers(3, 9), st.integers(1, 70), st.sampled_from(["<u4", "<u8"]), st.data())
def test_the_sum_is_exact_whoever_falls_out_and_when(number, length, dtype, data):
    server, clients, numbers = session(number, length, dtype, seed=data.draw(st.integers(0, 9)))
    falls = data.draw(st.dictionaries(st.sampled_from(list(clients)), st.sampled_from(PHASES)))
    members = [c for c in clients if falls.get(c) != "keys"]
    sent = [c for c in clients if falls.get(c) not in {"keys", "shares", "masked"}]
    enough = threshold_of(max(len(members), 1), 3)
    if sum(c not in falls for c in clients) < enough:
        with pytest.raises(PrivacyError, match="it takes"):
            run(server, clients, numbers, falls)
    else:
        assert np.array_equal(run(server, clients, numbers, falls), total(numbers, sent, dtype))


def test_two_clients_are_too_few():
    with pytest.raises(PrivacyError, match="2 of 2 clients told their keys, and it takes 3"):
        run(*session(2))


@settings(max_examples=50, deadline=None)
@given(st.binary(min_size=32, max_size=32), st.integers(1, 12), st.data())
def test_any_t_shares_give_the_secret_and_fewer_do_not(secret, number, data):
    threshold = data.draw(st.integers(1, number))
    shares = split_secret(secret, range(1, number + 1), threshold)
    chosen = data.draw(st.permutations(list(shares)))
    assert join_shares({i: shares[i] for i in chosen[:threshold]}, 32) == secret
    if threshold > 1:
        assert join_shares({i: shares[i] for i in chosen[: threshold - 1]}, 32) != secret


def test_masks_look_uniform_and_fresh_ones_have_nothing_to_do_with_each_other():
    """Of the same numbers, all zero, under keys of two sessions."""
    seen = []
    for _ in range(2):
        server, clients, numbers = session(4, length=20_000)
        zeros = {c: np.zeros_like(v) for c, v in numbers.items()}
        run(server, clients, zeros)
        seen.append(server.masked[1])
    for masked in seen:
        for shift in (0, 8, 16, 24):
            assert chisquare(np.bincount((masked >> shift) & 255, minlength=256)).pvalue > 1e-4
    real = [masked.astype(np.float64) for masked in seen]
    assert abs(np.corrcoef(*real)[0, 1]) < 0.04
    assert not np.array_equal(*seen)


def test_without_the_shares_the_server_does_not_know_the_sum():
    server, clients, numbers = session(4)
    with pytest.raises(PrivacyError, match="0 of 4 clients gave their shares"):
        run(server, clients, numbers, dict.fromkeys(clients, "secrets"))
    raw = total(server.masked, server.masked, np.uint32)
    assert not np.array_equal(raw, total(numbers, clients, np.uint32))  # the own masks are still on it


def test_what_a_pair_agrees_on_is_what_both_ends_have():
    one, other = new_key(), new_key()
    assert agree(one, public_bytes(other), b"x") == agree(other, public_bytes(one), b"x")
    assert agree(one, public_bytes(other), b"x") != agree(one, public_bytes(other), b"y")
    with pytest.raises(WireError, match="public key"):
        agree(one, bytes(32), b"x")
    assert np.array_equal(stream(bytes(32), 9, np.dtype("<u4"))[:5], stream(bytes(32), 5, np.dtype("<u4")))


def played_to(phase):
    """A session of four clients that has come so far that ``phase`` comes next."""
    server, clients, numbers = session(4)
    steps = (
        lambda: [server.take_keys(c.advertise()) for c in clients.values()],
        lambda: [server.take_shares(c.share(server.roster())) for c in clients.values()],
        lambda: [server.take_masked(c.mask(server.delivery(n), numbers[n])) for n, c in clients.items()],
    )
    for step in steps[: PHASES.index(phase)]:
        step()
    return server, clients, numbers


def test_messages_that_come_twice_are_refused():
    server, clients, _ = played_to("keys")
    keys = clients[1].advertise()
    server.take_keys(keys)
    with pytest.raises(WireError, match="keys of client 1 came twice"):
        server.take_keys(keys)
    server, clients, _ = played_to("secrets")
    told = clients[1].reveal(server.survivors())
    server.take_secrets(told)
    with pytest.raises(WireError, match="came twice"):
        server.take_secrets(told)


def test_a_client_tells_its_shares_once():
    server, clients, _ = played_to("secrets")
    clients[1].reveal(server.survivors())
    with pytest.raises(PrivacyError, match="once in a session"):
        clients[1].reveal(server.survivors())


def test_strangers_and_other_sessions_are_refused():
    server, *_ = played_to("keys")
    with pytest.raises(WireError, match="client 99"):
        server.take_keys(SecureClient(99, SESSION).advertise())
    with pytest.raises(WireError, match="session"):
        server.take_keys(SecureClient(1, b"round 2").advertise())


def test_numbers_of_another_size_are_refused():
    server, clients, _ = played_to("masked")
    with pytest.raises(WireError, match="24 bytes; 5 of 32 bits are 20"):
        server.take_masked(clients[1].mask(server.delivery(1), np.zeros(6, dtype="<u4")))


def test_a_share_that_was_changed_or_sent_to_another_is_refused():
    server, clients, numbers = played_to("masked")
    sealed = server.sealed[4]
    sealed[1], kept = bytes([sealed[1][0] ^ 1]) + sealed[1][1:], sealed[1]
    with pytest.raises(WireError, match="changed on its way"):
        clients[1].mask(server.delivery(1), numbers[1])
    sealed[1] = sealed[7]
    with pytest.raises(WireError, match="not for this client"):
        clients[1].mask(server.delivery(1), numbers[1])
    assert kept not in server.sealed[4].values()


def test_a_server_that_asks_for_too_much_gets_nothing():
    """Of a client either the key's shares are told or the own mask's: survivors must be those that shared."""
    server, clients, _ = played_to("secrets")
    masked = server.masked
    server.masked = {1: masked[1], 4: masked[4]}
    with pytest.raises(PrivacyError, match="2 of 4 clients sent their numbers"):
        server.survivors()
    server.least = 2
    server.keys = {c: server.keys[c] for c in (1, 4)}
    with pytest.raises(PrivacyError, match="client 1 sends nothing: there are 2"):
        clients[1].reveal(server.survivors())


def test_a_roster_that_lies_about_a_client_is_refused():
    server, clients, _ = played_to("shares")
    server.keys[1] = server.keys[4]
    with pytest.raises(WireError, match="a key twice"):
        clients[1].share(server.roster())
    server.keys[1] = (public_bytes(new_key()), public_bytes(new_key()))
    with pytest.raises(WireError, match="does not have client 1"):
        clients[1].share(server.roster())


def test_shares_that_are_not_of_one_secret_are_noticed():
    server, clients, numbers = played_to("masked")
    for c in (1, 4, 7):  # the last one falls out
        server.take_masked(clients[c].mask(server.delivery(c), numbers[c]))
    for c in (1, 4, 7):
        told = decode_secure(clients[c].reveal(server.survivors()), SecretsFields, SESSION)
        if c == 4:
            told.keys = ((10, bytes(65) + b"\x01"),)
        server.take_secrets(encode_secure(told))
    with pytest.raises(PrivacyError, match="client 10"):
        server.sum()


def test_secrets_that_were_not_asked_for_are_refused():
    server, clients, _ = played_to("secrets")
    told = decode_secure(clients[1].reveal(server.survivors()), SecretsFields, SESSION)
    told.keys = told.seeds[:1]
    with pytest.raises(WireError, match="asked about"):
        server.take_secrets(encode_secure(told))


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=200))
def test_garbage_is_a_wire_error(data):
    server, *_ = played_to("keys")
    for take in (server.take_keys, server.take_shares, server.take_masked, server.take_secrets):
        with pytest.raises(WireError):
            take(data)
    with pytest.raises(WireError):
        server.take_masked(encode_secure(SharesFields(session=SESSION, client=1, shares=())))
    with pytest.raises(WireError):
        server.take_shares(encode_secure(MaskedFields(session=SESSION, client=1, numbers=data)))


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.lists(st.floats(-3, 3), min_size=2, max_size=2), min_size=1, max_size=40),
    st.sampled_from([32, 64]),
)
def test_a_sum_of_fixed_point_numbers_is_exact(rows, bits):
    point = FixedPoint(bits=bits, largest=3.0, clients=len(rows))
    encoded = [point.encode({"w": torch.tensor(row, dtype=torch.float64)}) for row in rows]
    whole = np.zeros(2, dtype=point.dtype)
    for one in encoded:
        whole += one
    found = point.decode(whole, {"w": (2,)})["w"]
    scale = 2**point.fraction
    rounded = [sum(round(Fraction(x) * scale) for x in column) for column in zip(*rows, strict=True)]
    assert found.tolist() == [float(Fraction(total, scale)) for total in rounded]
    true = [float(sum(map(Fraction, column))) for column in zip(*rows, strict=True)]
    assert all(abs(x - y) <= len(rows) / scale / 2 + 1e-12 for x, y in zip(found.tolist(), true, strict=True))


def test_names_and_shapes_come_back():
    point = FixedPoint(bits=64, largest=8.0, clients=4)
    values = {"a": torch.tensor([[1.5, -2.25]]), "b": torch.tensor(7.0)}
    found = point.decode(point.encode(values), {"a": (1, 2), "b": ()})
    assert torch.equal(found["a"], values["a"].double()) and torch.equal(found["b"], values["b"].double())


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"bits": 16}, "privacy.bits is 16"),
        ({"largest": 0.0}, "privacy.largest is 0.0"),
        ({"clients": 1 << 24}, "do not fit in 32 bits"),
    ],
)
def test_numbers_that_cannot_be_written_are_refused(given, told):
    with pytest.raises(ConfigError, match=told):
        FixedPoint(**{"bits": 32, "largest": 16.0, "clients": 10, **given})


@pytest.mark.parametrize("value", [16.1, float("nan"), float("inf")])
def test_numbers_beyond_the_range_are_refused(value):
    with pytest.raises(DataError, match=r"privacy\.largest"):
        FixedPoint(bits=32, largest=16.0, clients=10).encode({"w": torch.tensor([value])})


def test_a_client_that_is_bytes_between_two_messages_is_the_same_client():
    server, clients, numbers = session(5)

    class Stored:
        """Is read anew for each message."""

        def __init__(self, client):
            self.data = encode_party(client)

        def __getattr__(self, name):
            def answer(*given):
                party = decode_party(self.data)
                found = getattr(party, name)(*given)
                self.data = encode_party(party)
                return found

            return answer

    stored = {number: Stored(client) for number, client in clients.items()}
    assert np.array_equal(
        run(server, stored, numbers, {4: "masked"}), total(numbers, {1, 7, 10, 13}, np.uint32)
    )
    with pytest.raises(PrivacyError, match="has told its shares; it does so once"):
        stored[1].reveal(server.survivors())


@pytest.mark.parametrize(
    "damage",
    [lambda data: b"", lambda data: data[:-1], lambda data: data.replace(b"\xc4\x20", b"\xc4\x1f", 1)],
)
def test_a_damaged_client_is_refused(damage):
    with pytest.raises(WireError):
        decode_party(damage(encode_party(SecureClient(1, SESSION))))


def test_what_another_client_sent_is_refused():
    server, clients, _ = session(4)
    with pytest.raises(WireError, match="keys are of client 4, and client 1 sent them"):
        server.take_keys(clients[4].advertise(), 1)
    server.take_keys(clients[4].advertise(), 4)


def test_a_client_answers_each_question_once():
    server, clients, numbers = played_to("masked")
    party, delivery = clients[1], server.delivery(1)
    with pytest.raises(PrivacyError, match="has shared its secrets; it does so once"):
        party.share(server.roster())
    with pytest.raises(WireError, match="before it sent its numbers"):
        party.reveal(encode_secure(SurvivorsFields(session=SESSION, clients=(1, 4, 7, 10))))
    party.mask(delivery, numbers[1])
    with pytest.raises(PrivacyError, match="has sent its numbers; it does so once"):
        party.mask(delivery, numbers[1])
    with pytest.raises(WireError, match="before it shared its secrets"):
        SecureClient(1, SESSION).mask(delivery, numbers[1])
