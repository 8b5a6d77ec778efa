"""A client elsewhere: answers what the server asks, from the data that lies with it. Bytes in, bytes out."""

from __future__ import annotations

import dataclasses
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from msgspec.structs import replace

from spry.core.errors import DataError, WireError
from spry.core.keys import Key
from spry.data.federation import Federation
from spry.federated.algorithm import Algorithm, ServerState
from spry.federated.closed_head.codec import decode_head
from spry.federated.closed_head.fits import HeadSolver
from spry.federated.replay.catch_up import receive
from spry.runtime.client_runner import ClientRunner
from spry.runtime.counts import encode_counts
from spry.runtime.executor import Completed
from spry.runtime.head_sums import ClientSums
from spry.runtime.known import decode_known, encode_known
from spry.runtime.node_memory import NodeMemory, answer_from
from spry.runtime.report import (
    Assignment,
    HeadReport,
    Present,
    RollCall,
    SecureAssignment,
    TrainingReport,
    decode_message,
    encode_message,
    refuse,
)
from spry.runtime.secure_node import PHASES, MaskedClient
from spry.runtime.work import Work
from spry.tasks.linear_head import HasLinearHead
from spry.tasks.task import Task
from spry.wire.frame import Kind, read_kind
from spry.wire.messages import Order

NOISE_SECRET_BYTES = 40
"""Of a secret that a client draws, 320 bits."""


@dataclass
class ClientNode:
    """One machine's clients, with one model between them.

    Args:
        clients: Their data; a client that has none here is refused.
        key: The run's.
        client: Which client this node is, where the data is its own; None if it may play any.
        secure: Lets replies be told only under masks; None tells them as they are.
        head: What sums it takes for a head in closed form; what the head learns says it if None.
        noised: Makes the method with noise that a client draws by a secret of its own; None if it has none.
        reticent: Whether it tells nothing that follows from its examples but replies: no metrics, and of their number
            only whether there are any.
    """

    algorithm: Algorithm
    task: Task
    clients: Federation
    key: Key
    device: str = "cpu"
    client: int | None = None
    secure: MaskedClient | None = None
    head: HeadSolver[Any] | None = None
    noised: Callable[[bytes], Algorithm] | None = None
    reticent: bool = False
    _work: Work = field(default_factory=Work, init=False)

    def answer(self, client: int, message: bytes, known: bytes | None) -> tuple[bytes, bytes | None]:
        """Answer a message to a client that it plays.

        Args:
            known: What this function returned last for this client; None at first.

        Returns:
            The answer, and what is to be kept until the next message. What cannot be done is said in the answer.
        """
        return answer_from(known, lambda memory: self._answer(client, message, memory))

    def _answer(self, client: int, message: bytes, memory: NodeMemory) -> tuple[bytes, NodeMemory]:
        kind = read_kind(message)
        if self.secure and kind in PHASES:
            self._check(client)
            return self.secure.answer(client, message, memory)
        if kind is Kind.HEAD_QUESTION:
            return self._sum(message), memory
        match decode_message(message):
            case Assignment() as assignment if not self.secure:
                return self._carry_out(client, assignment, memory)
            case SecureAssignment() as asked if self.secure:
                return self._carry_out(client, _assignment(asked), memory, asked)
            case RollCall() if self.client is not None:
                return encode_message(Present(client=self.client, examples=self._examples())), memory
            case other:
                told = ", and tells replies only under masks" if self.secure else ""
                return refuse(
                    f"a client cannot answer a message of the kind {type(other).__name__}{told}"
                ), memory

    @cached_property
    def _sums(self) -> ClientSums:
        return ClientSums(self.task, self.clients, self.head)

    def _sum(self, question: bytes) -> bytes:
        if self.reticent:
            return refuse("sums for a head in closed form have no noise, and this node tells nothing without")
        summed = self._sums(question)
        return encode_message(
            HeadReport(
                sums=summed.message,
                seconds=summed.seconds,
                cpu_seconds=summed.cpu_seconds,
                operations=summed.operations,
            )
        )

    def _examples(self) -> int:
        number = sum(self.clients.examples(client) for client in self.clients.trainable())
        return min(number, 1) if self.reticent else number

    def _check(self, client: int) -> None:
        if client not in self.clients.trainable():
            raise DataError(f"there are no examples of client {client} here")

    def _carry_out(
        self,
        client: int,
        assignment: Assignment,
        memory: NodeMemory,
        asked: SecureAssignment | None = None,
    ) -> tuple[bytes, NodeMemory]:
        """Train; if it was asked under secure aggregation, the report has numbers under masks in place of a reply."""
        try:
            order, state = receive(assignment.order, self.algorithm, self._state(assignment, memory.state))
        except WireError as error:
            return refuse(str(error), lost=True), memory
        if order.client != client:
            return refuse(f"this order is for client {order.client}, and came to client {client}"), memory
        self._check(client)
        if self.noised and memory.secret is None:
            memory = replace(memory, secret=secrets.token_bytes(NOISE_SECRET_BYTES))
        algorithm = self.noised(memory.secret) if self.noised and memory.secret else self.algorithm
        done, party = self._trained(order, assignment, state, algorithm), memory.party
        if asked and self.secure:
            masked, party = self.secure.mask(party, asked, self.algorithm, order, done.data)
            done = done._replace(data=masked)
        return _report(done), replace(memory, state=encode_known(state), party=party)

    def _state(self, assignment: Assignment, known: bytes | None) -> ServerState:
        """What this client knows: what it kept, or the beginning."""
        fresh = self.algorithm.init(self.task.init())
        if known is not None:
            return decode_known(known, fresh)
        if not assignment.start:
            return fresh
        assert isinstance(self.task, HasLinearHead)  # or the server could not have solved for one
        head = self.task.linear_head()
        names = [name for name in (head.weight, head.bias) if name is not None]
        begun = self.task.init()
        start = decode_head(assignment.start, {name: begun[name] for name in names})
        return self.algorithm.init({**begun, **start})

    def _trained(
        self, order: Order, assignment: Assignment, state: ServerState, algorithm: Algorithm
    ) -> Completed:
        runner = ClientRunner(
            algorithm=algorithm,
            task=self.task,
            clients=self.clients,
            state=dataclasses.replace(state, weights=order.weights, memory={}),
            sent=lambda _: assignment.order,
            key=self.key,
            evaluates=assignment.evaluates and not self.reticent,
            personalized=assignment.personalized,
            measures=assignment.measures,
            device=self.device,
            work=self._work,
        )
        return runner(order)


def _assignment(asked: SecureAssignment) -> Assignment:
    found = decode_message(asked.assignment)
    if not isinstance(found, Assignment):
        raise WireError(f"message has a {type(found).__name__} in place of an assignment")
    return found


def _report(done: Completed) -> bytes:
    cost = done.record
    return encode_message(
        TrainingReport(
            reply=done.data,
            examples=cost.examples,
            steps=cost.steps,
            loss=cost.loss,
            seconds=cost.seconds,
            cpu_seconds=cost.cpu_seconds,
            operations=cost.operations,
            slowed=cost.slowed,
            peak_bytes=cost.peak_bytes,
            generalized=encode_counts(cost.generalized),
            personalized=None if cost.own else encode_counts(cost.personalized),
            own=cost.own,
        )
    )
