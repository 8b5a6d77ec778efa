"""A run counts the operations of each client's training, exactly, though it looks at each kind of step once."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from spry.core.keys import Key
from spry.runtime.rounds import simulate
from spry.runtime.work import Work, kind_of
from spry.tasks.classification import ClassificationTask
from spry.wire.messages import Order
from tests.laws.test_methods import make
from tests.runtime.stage import Clients, Task

ORDER = Order(round=0, client=0, weights={}, trained=("w",), key=Key(0), num_directions=1)


def batch(*shape, hidden=0):
    mask = torch.ones(shape, dtype=torch.int64)
    mask[0, shape[1] - hidden :] = 0
    return {"input_ids": torch.zeros(shape, dtype=torch.int64), "attention_mask": mask}


def played(work, batches, order=ORDER):
    """Train with one product a batch, of its tokens times a matrix; operations, and whether any step was counted."""
    with work.steps(order, batches) as steps:
        for one in steps:
            torch.ones(one["input_ids"].numel(), 3) @ torch.ones(3, 5)
    return steps.operations, steps.counted


def test_a_kind_of_step_is_counted_once_and_known_afterwards():
    work = Work()
    assert played(work, [batch(2, 4), batch(2, 6)]) == (2 * 3 * 5 * (8 + 12), True)
    assert played(work, [batch(2, 6), batch(2, 6)]) == (2 * 3 * 5 * 24, False)
    assert played(work, [batch(2, 6), batch(1, 1)]) == (2 * 3 * 5 * 13, True)
    for other in ({"trained": ("v",)}, {"num_directions": 2}, {"guess": {}}):
        assert played(work, [batch(2, 6)], replace(ORDER, **other)) == (2 * 3 * 5 * 12, True)
    assert kind_of(batch(2, 6, hidden=1)) != kind_of(batch(2, 6))


def test_a_training_that_breaks_off_stops_the_count():
    work = Work()
    with pytest.raises(RuntimeError), work.steps(ORDER, [batch(2, 4)]) as steps:
        for _ in steps:
            raise RuntimeError
    assert not work.known
    torch.ones(2, 2) @ torch.ones(2, 2)
    assert steps.operations == 0 and torch.utils._python_dispatch._len_torch_dispatch_stack() == 0


METHODS = ["spry", "fedavg", "fedmezo", "fwdllm", "head_only", "spry_per_iteration"]


@pytest.mark.parametrize("name", METHODS)
def test_each_clients_number_is_what_torchs_counter_says_of_its_training(name):
    algorithm, expected = make(name), {}

    def train(loss_of, order, batches, examples):
        with FlopCounterMode(display=False) as counter:
            algorithm.train(
                loss_of, order, list(Clients().batches(order.client, order.round, Key(0))), examples
            )
        expected[order.round, order.client] = counter.get_total_flops()
        return algorithm.train(loss_of, order, batches, examples)

    spied = replace(algorithm, train=train)
    for round in simulate(spied, Task(), Clients(), rounds=3, clients_per_round=2):
        for record in round.clients:
            assert record.operations == expected[round.number, record.client] > 0
            assert record.cpu_seconds > 0 and record.slowed


def test_a_resumed_run_says_what_one_that_never_stopped_says():
    def told(rounds, state=None):
        found = list(
            simulate(make("spry"), Task(), Clients(), rounds=rounds, clients_per_round=2, state=state)
        )
        return [[record.operations for record in round.clients] for round in found], found[-1].state

    whole, _ = told(4)
    first, state = told(2)
    rest, _ = told(4, state)
    assert first + rest == whole


def test_a_known_step_of_a_transformer_has_the_number_of_a_counted_one(tiny_model):
    task = ClassificationTask(str(tiny_model), labels=2)
    algorithm = make("spry", units=task.units)
    order = algorithm.plan(algorithm.init(task.init()), [0], Key(0))[0]
    rows = [{**batch(2, length), "labels": torch.tensor([0, 1])} for length in (5, 7, 5)]
    known, told = Work(), []
    for work in (known, known, Work()):
        with work.steps(order, rows) as steps:
            algorithm.train(task.loss, order, steps, 2)
        told.append((steps.operations, steps.counted))
    (first, _), again, (fresh, _) = told
    assert again == (first, False) and fresh == first and len(known.known) == 2
