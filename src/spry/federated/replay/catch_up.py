"""Client side of ``server.send``: turn a message and the last known state into this round's order."""

from __future__ import annotations

from dataclasses import replace

from spry.core.errors import WireError
from spry.core.params import digest, merge
from spry.federated.algorithm import Algorithm, ServerState
from spry.federated.replay.codec import CATCH_UP, DIGEST_BYTES, CatchUp, decode_catch_up, decode_round
from spry.wire import frame
from spry.wire.codec import decode_order
from spry.wire.messages import Answer, Order


def receive(data: bytes, algorithm: Algorithm, known: ServerState) -> tuple[Order, ServerState]:
    """Read an order, replaying the server's rounds if it came with their slopes instead of weights.

    Args:
        data: What ``Downlink.send`` wrote.
        algorithm: The server's.
        known: The last state the client knows: what this function returned last, at first ``algorithm.init`` of the
            initial weights. Of a client that cannot draw these, shapes and dtypes suffice.

    Returns:
        The order, and the state to keep. Its weights are the server's bit for bit after catching up; its moments and
        memory are, for the weights that slopes determine. After all weights it is new only if the server remembers
        nothing but weights.

    Raises:
        WireError: If the message is damaged, begins after what is known, or leads to other weights than the server's.
    """
    if frame.unpack(data).kind == CATCH_UP:
        return _caught_up(decode_catch_up(data, known.weights), algorithm, known)
    order = decode_order(data, known.weights)
    if algorithm.remembers:
        return order, known
    return order, replace(algorithm.init(order.weights), round=order.round)


def _caught_up(message: CatchUp, algorithm: Algorithm, known: ServerState) -> tuple[Order, ServerState]:
    if not message.since <= known.round <= message.round:
        raise WireError(
            f"message has rounds {message.since} to {message.round}; this client knows round {known.round}. "
            "Ask for all weights."
        )
    state = known
    for data in message.rounds[
        known.round - message.since :
    ]:  # an answer that was lost makes some come again
        asked, replies = decode_round(data, state.round)
        orders = algorithm.plan(state, _some(asked), message.key)
        state = algorithm.absorb(state, (Answer(orders[reply.client], reply) for reply in replies))
    state = replace(state, weights=merge(state.weights, message.exact))
    if digest(state.weights, DIGEST_BYTES) != message.digest:
        raise WireError(
            f"replaying rounds {message.since} to {message.round} led to other weights than the server's: this machine "
            "rounds differently, or its model or configuration is another. Ask for all weights."
        )
    orders = algorithm.plan(state, _some(message.asked), message.key)
    if message.client not in orders:
        raise WireError(f"message is for client {message.client}, which is not among those asked")
    return orders[message.client], state


def _some(asked: list[int] | tuple[int, ...]) -> list[int]:
    if not asked:
        raise WireError("message has a round that asks no clients")
    return list(asked)
