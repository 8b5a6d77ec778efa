"""Client side of ``server.send``: turn a message and the last known state into this round's order."""

from __future__ import annotations

from dataclasses import replace

from spry.core.errors import WireError
from spry.core.keys import Key
from spry.core.params import digest, merge
from spry.federated.algorithm import Algorithm, ServerState
from spry.federated.replay.codec import CatchUp, decode_answers, decode_catch_up, decode_round
from spry.federated.replay.log import max_order_bytes
from spry.wire.codec import DIGEST_BYTES, decode_order
from spry.wire.frame import Kind, read_kind
from spry.wire.messages import Order


def receive(data: bytes, algorithm: Algorithm, known: ServerState) -> tuple[Order, ServerState]:
    """Read an order, replaying the server's rounds if it came with their slopes instead of weights.

    ``known`` is the last state the client knows: what this function returned last, at first ``algorithm.init`` of the
    initial weights. Of a client that cannot draw these, shapes and dtypes suffice. The state that is returned is to be
    kept: its weights are the server's bit for bit after catching up; its moments and memory are, for the weights that
    slopes determine. After all weights it is new only if the server remembers nothing but weights; else it has of them
    those that nobody trains, which later orders leave out.

    Raises:
        WireError: If the message is damaged, begins after what is known, or leads to other weights than the server's.
    """
    if read_kind(data) is Kind.CATCH_UP:
        longest = max_order_bytes(algorithm, known.weights)
        if len(data) > longest:  # so what it has to replay is bounded, too
            raise WireError(
                f"message for catching up has {len(data)} bytes; all weights take {longest} at most"
            )
        return _caught_up(decode_catch_up(data, known.weights), algorithm, known)
    order = decode_order(data, known.weights)
    if algorithm.remembers:
        return order, replace(known, weights={**known.weights, **algorithm.untrained(order.weights)})
    return order, replace(algorithm.init(order.weights), round=order.round)


def _caught_up(message: CatchUp, algorithm: Algorithm, known: ServerState) -> tuple[Order, ServerState]:
    if not message.since <= known.round <= message.round:
        raise WireError(
            f"message has rounds {message.since} to {message.round}; this client knows round {known.round}. "
            "Ask for all weights."
        )
    if message.client not in message.asked:
        raise WireError(f"message is for client {message.client}, which is not among those asked")
    state = known
    for data in message.rounds[known.round - message.since :]:  # a lost answer makes some come again
        state = _replayed(data, algorithm, state, message.key)
    state = replace(state, weights=merge(state.weights, message.exact))
    if digest(state.weights, DIGEST_BYTES) != message.digest:
        raise WireError(
            f"replaying rounds {message.since} to {message.round} led to other weights than the server's: this machine "
            "rounds differently, or its model or configuration is another. Ask for all weights."
        )
    return algorithm.plan(state, message.asked, message.key)[message.client], state


def _replayed(data: bytes, algorithm: Algorithm, state: ServerState, key: Key) -> ServerState:
    fields = decode_round(data)
    orders = algorithm.plan(state, fields.asked, key)
    return algorithm.absorb(state, decode_answers(fields, [orders[client] for client in fields.asked]))
