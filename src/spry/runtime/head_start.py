"""A head in closed form before round 1: every client sums its features up once, and the server solves."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, cast

from torch import Tensor

from spry.core.errors import ModelError, TrainingError, WireError
from spry.core.keys import Key
from spry.core.params import Params
from spry.data.client_data import ClientData, Encoder
from spry.data.federation import Federation
from spry.federated.closed_head.codec import Question, encode_head, encode_question
from spry.federated.closed_head.fits import HeadSolver
from spry.federated.closed_head.projection import projection, summed_features
from spry.federated.closed_head.solve import Head
from spry.runtime.head_sums import AskForSums, ClientSums, Summed, solver_of
from spry.runtime.records import HeadCost
from spry.tasks.linear_head import HasLinearHead, LinearHead
from spry.tasks.task import Task
from spry.wire.tensors import sane


@dataclass(frozen=True, kw_only=True)
class HeadStart:
    """The weights of a head in closed form by name, and what they took."""

    weights: Params
    cost: HeadCost


def closed_form_head(
    task: Task,
    data: Federation | ClientData,
    *,
    key: Key = Key(0),
    features: int | None = None,
    number: int | None = None,
    tell: bool = False,
    ask: AskForSums | None = None,
    solver: HeadSolver[Any] | None = None,
) -> HeadStart:
    """Fit the last map of a task's head to all clients' training examples, by sums that each client takes once.

    Exact whatever lies with whom. A run begins there with ``algorithm.init({**task.init(), **head.weights})`` as its
    ``state``.

    Args:
        task: Owner of the model, whose scores end in a linear map.
        data: The clients' data; text that is not yet tokenised is tokenised for the task.
        key: Where the random features come from.
        features: How many features are summed up, random combinations if the head reads more; None takes all up to
            1,024, and as many of more.
        number: How many clients take sums, chosen at random, and more if these have no example of some class or
            label; all without it, or where there are fewer.
        tell: Whether the clients are sent the head, for the ledger; they need not if orders have all weights.
        ask: Who puts the question to clients; they are here, one after the other, without it.
        solver: What sums are taken and how they are solved, such as with noise; what the task learns says it if None.

    Returns:
        The weights by name, and what they took.

    Raises:
        ModelError: If the head's last map is not linear.
        DataError: If no client has an example of some class.
        TrainingError: If no client's features are finite.
    """
    if not isinstance(task, HasLinearHead):
        raise ModelError(
            f"{type(task).__name__} does not say what its head reads (linear_head), so that it has no closed form"
        )
    clients = data.encode(cast(Encoder, task)) if isinstance(data, ClientData) else data
    head, weights = task.linear_head(), task.init()
    size = summed_features(head.features, features)
    here = key.fold("head features")
    summing = _Summing(head=head, features=size, fit=solver or solver_of(head))
    ask = ask or ClientSums(task, clients, solver).ask
    for group in _in_turn(clients.trainable(), number, here):
        if number is not None and summing.clients >= number and summing.fit.enough(summing.total):
            break
        questions = [(one, encode_question(Question(client=one, key=here, features=size))) for one in group]
        summing.bytes_down += sum(len(question) for _, question in questions)
        for summed in ask(questions):
            summing.take(summed)
    if not summing.clients:
        why = "; ".join(f"client {client}: {reason}" for client, reason in summing.left_out.items())
        raise TrainingError(
            f"no client's sums for the head can be used ({why}). Set model.dtype=bfloat16 in place of float16, or "
            "head.start=drawn"
        )
    solved = summing.fit.solve(summing.total, head.bias is not None)
    found = _named(head, solved, projection(here, head.features, size), weights)
    told = len(encode_head(found)) * len(clients.trainable()) if tell else 0
    return HeadStart(weights=found, cost=summing.cost(told))


def _in_turn(trainable: list[int], number: int | None, key: Key) -> list[list[int]]:
    """The clients in the order in which they are asked, those of a group at once: chance decides where not all are."""
    if number is None or number >= len(trainable):
        return [trainable]
    turn = [trainable[place] for place in key.permutation(len(trainable), "asked")]
    return [turn[:number], *([one] for one in turn[number:])]


@dataclass
class _Summing:
    """Adds up what clients send, and what it took."""

    head: LinearHead
    features: int
    fit: HeadSolver[Any]
    clients: int = 0
    bytes_up: int = 0
    bytes_down: int = 0
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    operations: int = 0
    left_out: dict[int, str] = field(default_factory=dict)
    total: Any = field(init=False)

    def __post_init__(self) -> None:
        self.total = self.fit.empty(self.head.classes, self.features)

    def take(self, summed: Summed) -> None:
        self.seconds += summed.seconds
        self.cpu_seconds += summed.cpu_seconds
        self.operations += summed.operations
        self.bytes_up += len(summed.message)
        if summed.failed is not None:
            self.left_out[summed.client] = summed.failed
            return
        try:
            sums = self.fit.decode(summed.message, summed.client, self.head.classes, self.features)
        except WireError as error:
            self.left_out[summed.client] = str(error)
            return
        self.total, self.clients = self.total.add(sums), self.clients + 1

    def cost(self, told: int) -> HeadCost:
        return HeadCost(
            examples=self.total.examples,
            clients=self.clients,
            left_out=self.left_out,
            features=self.features,
            bytes_up=self.bytes_up,
            bytes_down=self.bytes_down + told,
            seconds=self.seconds,
            cpu_seconds=self.cpu_seconds,
            operations=self.operations,
        )


def _named(head: LinearHead, solved: Head, mixed: Tensor | None, like: Params) -> dict[str, Tensor]:
    """Bring a head under its weights' names, in their types."""
    values = {head.weight: solved.weight if mixed is None else solved.weight @ mixed}
    if head.bias is not None:
        values[head.bias] = solved.bias
    found = {name: value.to(like[name]) for name, value in values.items()}
    if not all(map(sane, found.values())):
        raise TrainingError("the head in closed form is not finite: set head.start=drawn")
    return found
