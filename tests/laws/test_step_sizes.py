"""Step sizes by group and round, for every method: what a factor, a decay and a factor of 0 are, and torch's own."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
import torch

from spry.core.errors import ConfigError, WireError
from spry.core.keys import Key
from spry.core.units import GROUPS, Unit
from spry.experiment import checkpoint
from spry.federated.methods import METHODS
from spry.federated.replay.catch_up import receive
from spry.federated.replay.downlink import by_slopes
from spry.optim.rules import adam, adamw, sgd
from spry.wire.codec import decode_order, decode_reply, encode_order, encode_reply
from spry.wire.messages import Answer, Slopes
from tests.laws import problem, test_catch_up, test_replay
from tests.laws.test_methods import CLIENTS, VARIANTS, make, run

ROUNDS, LR = 3, 0.25
FACTORS = {"head": 0.25, "exact": 0.5, "body": 2.0}


def split_units(*, exact: bool = True) -> tuple[Unit, ...]:
    """The problem's units with the topmost layer as the last block, which every client trains."""
    *body, block, head = problem.units(exact=exact)
    joined = Unit(name="last_block", names=block.names, head=True, exact=exact, last_block=True)
    return (*body, joined, head)


UNITS = split_units()
NAMES = {group: [n for u in UNITS if u.group == group for n in u.names] for group in GROUPS}


def stepper(name: str) -> str:
    method, own = VARIANTS[name]
    options = {key: value for key, value in own.items() if key in METHODS[method].option_names}
    return METHODS[method].parse(options).stepper


def stepping(name, lr=LR, **given):
    """A method whose stepping side is SGD; the server of clients that step takes their mean."""
    always = {"threshold": 1e12} if name == "fwdllm" else {}  # it steps in every round
    return {"server": sgd(1.0), **always, **given, stepper(name): sgd(lr), "units": UNITS}


def equal(left, right, names: Iterable[str] | None = None):
    return all(torch.equal(left.weights[n], right.weights[n]) for n in names or left.weights)


def same(left, right):
    """Weights and memory: without federation the weights are the clients' own, which the server remembers."""
    pairs = [(left.weights, right.weights), *((left.memory[s], right.memory[s]) for s in left.memory)]
    return all(torch.equal(one[n], other[n]) for one, other in pairs for n in one)


@pytest.mark.parametrize("name", VARIANTS)
def test_a_factor_on_all_groups_is_another_step_size(name):
    halved = run(name, given=stepping(name, step_factors=dict.fromkeys(GROUPS, 0.5)))[0]
    assert same(halved, run(name, given=stepping(name, LR / 2))[0])
    assert not same(halved, run(name, given=stepping(name))[0])


@pytest.mark.parametrize("name", VARIANTS)
def test_factors_of_one_change_nothing(name):
    given = {"units": UNITS, "step_factors": dict.fromkeys(GROUPS, 1.0)}
    assert same(run(name, given=given)[0], run(name, given={"units": UNITS})[0])


@pytest.mark.parametrize("name", VARIANTS)
def test_a_groups_first_step_is_its_factor_times_as_long(name):
    """From one point; with one local step, so that the gradients are the same."""
    start, moved = problem.weights(), {}
    for key, factors in (("plain", {}), ("scaled", FACTORS)):
        algorithm = make(name, **stepping(name, step_factors=factors))
        orders = algorithm.plan(algorithm.init(start), CLIENTS, Key(0))
        answers = [
            Answer(o, algorithm.train(problem.loss_of, o, [problem.batch(c)], 3).reply)
            for c, o in orders.items()
        ]
        after = algorithm.absorb(algorithm.init(start), answers)
        last = after.memory.get("client 4", after.weights)  # without federation a client's own
        moved[key] = {n: last[n] - start[n] for n in last}
    assert moved["plain"].keys() >= {*NAMES["head"], *NAMES["exact"]}
    for group, names in NAMES.items():
        for n in set(names) & moved["plain"].keys():
            torch.testing.assert_close(
                moved["scaled"][n], FACTORS[group] * moved["plain"][n], rtol=1e-9, atol=1e-15
            )
            assert moved["plain"][n].any()


@pytest.mark.parametrize("name", VARIANTS)
def test_with_a_decay_the_steps_are_those_computed_by_hand(name):
    """lr, 2/3 lr, 1/3 lr in the three rounds; by hand each round is run by a method of that step size."""
    decayed = run(name, rounds=ROUNDS, given=stepping(name, rounds=ROUNDS, step_decay="linear"))[0]
    state = None
    for number in range(ROUNDS):
        by_hand = stepping(name, LR * (ROUNDS - number) / ROUNDS)
        state = run(name, rounds=number + 1, given=by_hand, state=state)[0]
    plain = run(name, rounds=ROUNDS, given=stepping(name))[0]
    pairs = [
        (decayed.weights, state.weights),
        *((decayed.memory[s], state.memory[s]) for s in decayed.memory),
    ]
    for left, right in pairs:
        for n in left:
            torch.testing.assert_close(left[n], right[n], rtol=1e-9, atol=1e-13)
    assert not same(decayed, plain)


@pytest.mark.parametrize("frozen", GROUPS)
@pytest.mark.parametrize("name", VARIANTS)
def test_a_group_with_factor_0_stays_and_is_not_sent_back(name, frozen):
    start = problem.weights()
    algorithm = make(name, **stepping(name, step_factors={frozen: 0.0}))
    state = algorithm.init(start)
    for order in algorithm.plan(state, CLIENTS, Key(0)).values():
        assert order.weights.keys() == state.weights.keys()  # clients have them all the same
        read = decode_order(encode_order(order), state.weights)
        assert not set(read.trained) & set(NAMES[frozen])
        result = algorithm.train(problem.loss_of, order, [problem.batch(1)], 1)
        payload = result.reply.payload
        sent = payload.exact if isinstance(payload, Slopes) else payload.values
        assert not sent.keys() & set(NAMES[frozen])
        assert all(torch.equal(result.weights[n], start[n]) for n in NAMES[frozen] if n in result.weights)
        got = decode_reply(encode_reply(result.reply, order), order, algorithm.slopes_exact)
        assert got.steps == 1
    after = run(name, given=stepping(name, step_factors={frozen: 0.0}))[0]
    held = after.memory.get("client 4", after.weights)
    assert all(torch.equal(held[n], start[n]) for n in held.keys() & set(NAMES[frozen]))
    rest = [n for group in GROUPS if group != frozen for n in NAMES[group] if n in held]
    assert rest and all(not torch.equal(held[n], start[n]) for n in rest)
    assert frozen not in {unit.group for unit in algorithm.units}


@pytest.mark.parametrize(("server", "left"), [(sgd(1.0), 0.15), (adam(0.02), 0.9)], ids=["sgd", "adam"])
def test_an_adaptive_server_evens_out_the_factors_of_clients(server, left):
    """What ``evened_out`` tells: a tenth of the clients' steps is a tenth of the way only under plain averaging."""

    def moved(factor):
        given = {"units": UNITS, "client": sgd(0.1), "server": server, "step_factors": {"body": factor}}
        after, start = run("fedavg", rounds=5, given=given)[0], problem.weights()
        return torch.cat([(after.weights[n] - start[n]).flatten() for n in NAMES["body"]]).norm()

    ratio = float(moved(0.1) / moved(1.0))
    assert ratio < left if left < 0.5 else ratio > left


@pytest.mark.parametrize("name", VARIANTS)
def test_what_is_frozen_takes_no_bytes_up(name):
    def up(**given):
        algorithm = make(name, **stepping(name, **given))
        order = algorithm.plan(algorithm.init(problem.weights()), CLIENTS, Key(0))[4]
        reply = algorithm.train(problem.loss_of, order, [problem.batch(1)], 1).reply
        return len(encode_reply(reply, order))

    frozen = sum(problem.weights()[n].nbytes for n in NAMES["head"])
    assert up() - up(step_factors={"head": 0.0}) >= frozen


@pytest.mark.parametrize("name", VARIANTS)
def test_nothing_to_train_is_refused(name):
    with pytest.raises(ConfigError, match=r"trains nothing with step_factors\.head = 0.*greater than 0"):
        make(name, units=UNITS, step_factors=dict.fromkeys(GROUPS, 0.0))


def test_head_only_without_its_head_is_refused():
    with pytest.raises(ConfigError, match=r"head_only trains nothing with step_factors\.head = 0"):
        METHODS["head_only"](problem.UNITS, step_factors={"head": 0})
    assert METHODS["head_only"](UNITS, step_factors={"head": 0}).units[0].name == "last_block"


@pytest.mark.parametrize("name", ["fedavg", "spry", "fedmezo", "spry_per_iteration"])
def test_a_client_with_no_share_of_what_is_trained_sends_nothing(name):
    """Budgets of which one has room for no unit, beside a frozen head: it evaluates its loss, and no weight moves."""
    own = {"split": (1e-9,)} if "split" in METHODS[name].option_names else {}
    algorithm = METHODS[name](problem.UNITS, step_factors={"head": 0}, **own)
    state = algorithm.init(problem.weights())
    order = algorithm.plan(state, [0], Key(0))[0]
    reply = algorithm.train(problem.loss_of, order, [problem.batch(1)], 1).reply
    expected = float(problem.ProblemLoss(problem.batch(1))({}))
    assert reply.loss == pytest.approx(
        expected, rel=1e-5
    )  # sent in float32; a difference is the mean of both its sides
    after = algorithm.absorb(state, [Answer(order, reply)])
    assert equal(state, after) == bool(own)


CHANGING = {"rounds": 9, "step_decay": "linear", "step_factors": FACTORS, "units": UNITS}


@pytest.mark.parametrize("name", VARIANTS)
def test_stopped_and_read_back_it_goes_on_as_if_it_had_not(name, tmp_path):
    whole = run(name, rounds=9, given=CHANGING)[0]
    checkpoint.write_checkpoint(run(name, rounds=4, given=CHANGING)[0], tmp_path)
    fresh = make(name, **CHANGING).init(problem.weights())
    rest = run(name, rounds=9, given=CHANGING, state=checkpoint.read_checkpoint(tmp_path, fresh))[0]
    assert whole.memory.keys() == rest.memory.keys() and same(whole, rest)


@pytest.mark.parametrize("factors", [FACTORS, {"head": 0.0}, {"body": 0.0, "exact": 0.5}])
@pytest.mark.parametrize("name", test_replay.STEPPING)
def test_the_server_replays_the_same_steps(name, factors):
    """From slopes it arrives at the weights that clients would have sent, bit for bit."""
    given = {**CHANGING, "step_factors": factors, "num_directions": 2, "client": adamw(0.02), "played": 4}
    sent, _ = test_replay.rounds(name, slopes=True, wire=True, **given)
    assert test_replay.same(sent, test_replay.rounds(name, slopes=False, **given)[0])


@pytest.mark.parametrize("factors", [FACTORS, {"head": 0.0}, {"body": 0.0}])
@pytest.mark.parametrize("name", [*test_replay.PROJECTED, "spry_control_variate"])
def test_clients_that_join_late_replay_the_same_steps(name, factors):
    """``play`` compares all weights and orders; the wire says so, too, by its digest."""
    given = {**CHANGING, "step_factors": factors}
    sent, end = test_catch_up.play(name, played=7, **given)
    assert test_catch_up.kinds(sent)[True] > 4
    assert end.round == 7


def test_who_knows_of_no_decay_is_told_that_the_weights_differ():
    """So the check of late joiners can fail."""
    planned = METHODS["spry"](UNITS, send="slopes", rounds=9, step_decay="linear")
    other = METHODS["spry"](UNITS, send="slopes", rounds=9)
    state, known = (a.init({n: w.float() for n, w in problem.weights().items()}) for a in (planned, other))
    down = by_slopes(planned)
    batches = [problem.Batch(b.x.float(), b.y) for b in (problem.batch(1), problem.batch(2))]
    for _ in range(2):  # round 0 has the whole step, so the client still follows it
        orders = planned.plan(state, CLIENTS, Key(0))
        _, known = receive(down.send(state, orders, Key(0))(4), other, known)
        answers = [Answer(o, planned.train(problem.loss_of, o, batches, 3).reply) for o in orders.values()]
        state = down.absorb(state, orders, Key(0), answers)
    orders = planned.plan(state, CLIENTS, Key(0))
    with pytest.raises(WireError, match="other weights than the server's"):
        receive(down.send(state, orders, Key(0))(4), other, known)


@pytest.mark.parametrize("how", ["fedsgd", "head_only"])
@pytest.mark.parametrize("schedule", ["LinearLR", "LambdaLR"])
@pytest.mark.parametrize("optimizer", ["SGD", "AdamW"])
def test_it_is_torchs_parameter_groups_and_scheduler(how, schedule, optimizer):
    """One client, one batch and one server step a round are torch's loop with a learning rate for each group."""
    rounds, lr = 6, 0.05
    ours = {"SGD": sgd(lr, 0.9), "AdamW": adamw(lr, weight_decay=0.1)}[optimizer]
    own = {"clients_step": False} if how == "head_only" else {}
    given = {
        "server": ours,
        "units": UNITS,
        "step_factors": FACTORS,
        "rounds": rounds,
        "step_decay": "linear",
        **own,
    }
    algorithm = METHODS[how](given.pop("units"), **given)
    state = algorithm.init(problem.weights())
    leaves = {n: problem.weights()[n].requires_grad_() for n in state.weights}
    groups = [
        {"params": [leaves[n] for n in names if n in leaves], "lr": FACTORS[group] * lr}
        for group, names in NAMES.items()
        if set(names) & leaves.keys()
    ]
    made = {
        "SGD": lambda: torch.optim.SGD(groups, lr=lr, momentum=0.9),
        "AdamW": lambda: torch.optim.AdamW(groups, lr=lr, weight_decay=0.1),
    }[optimizer]()
    scheduler = {
        "LinearLR": lambda: torch.optim.lr_scheduler.LinearLR(made, 1.0, 1 / rounds, total_iters=rounds - 1),
        "LambdaLR": lambda: torch.optim.lr_scheduler.LambdaLR(made, lambda r: 1 - r / rounds),
    }[schedule]()
    for number in range(rounds):
        order = algorithm.plan(state, [1], Key(0))[1]
        reply = algorithm.train(problem.loss_of, order, [problem.batch(number)], 5).reply
        state = algorithm.absorb(state, [Answer(order, reply)])
        made.zero_grad()
        problem.ProblemLoss(problem.batch(number))(leaves).backward()
        made.step()
        scheduler.step()
        for n, w in leaves.items():
            torch.testing.assert_close(state.weights[n], w.detach(), rtol=1e-10, atol=1e-13)


@pytest.mark.parametrize("optimizer", ["SGD", "AdamW"])
def test_on_clients_it_is_torchs_parameter_groups(optimizer):
    """One client of two batches a round, with a fresh optimizer, and a server that takes its weights."""
    rounds, lr = 3, 0.05
    ours = {"SGD": sgd(lr, 0.9), "AdamW": adamw(lr, weight_decay=0.1)}[optimizer]
    algorithm = METHODS["fedavg"](
        UNITS, client=ours, step_factors={**FACTORS, "exact": 0.0}, rounds=rounds, step_decay="linear"
    )
    state = algorithm.init(problem.weights())
    leaves = {n: w.requires_grad_() for n, w in problem.weights().items()}
    for number in range(rounds):
        batches = [problem.batch(10 * number + i) for i in range(2)]
        order = algorithm.plan(state, [1], Key(0))[1]
        state = algorithm.absorb(
            state, [Answer(order, algorithm.train(problem.loss_of, order, batches, 5).reply)]
        )
        groups = [
            {"params": [leaves[n] for n in NAMES[g]], "lr": FACTORS[g] * lr * (rounds - number) / rounds}
            for g in ("head", "body")
        ]
        made = (
            torch.optim.SGD(groups, lr=lr, momentum=0.9)
            if optimizer == "SGD"
            else torch.optim.AdamW(groups, lr=lr, weight_decay=0.1)
        )
        for batch in batches:
            made.zero_grad()
            problem.ProblemLoss(batch)(leaves).backward()
            made.step()
        for n, w in leaves.items():
            torch.testing.assert_close(state.weights[n], w.detach(), rtol=1e-10, atol=1e-13)
