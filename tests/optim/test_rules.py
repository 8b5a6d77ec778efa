"""Optimizers against torch.optim, and the properties a federated use needs."""

from __future__ import annotations

import pytest
import torch

from spry.core.errors import ConfigError
from spry.core.keys import Key
from spry.core.params import add
from spry.optim.named import OPTIMIZERS, optimizer
from spry.optim.rules import adagrad, adam, adamw, clip, schedule, sgd, warmup_linear, yogi
from spry.optim.transform import Transform, chain, scaled

PAIRS = {
    "sgd": (sgd(0.1), lambda p: torch.optim.SGD(p, lr=0.1)),
    "momentum": (sgd(0.1, 0.9), lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9)),
    "adam": (adam(0.01, (0.8, 0.95)), lambda p: torch.optim.Adam(p, lr=0.01, betas=(0.8, 0.95))),
    "adamw": (adamw(0.01, weight_decay=0.1), lambda p: torch.optim.AdamW(p, lr=0.01, weight_decay=0.1)),
    "adagrad": (adagrad(0.1), lambda p: torch.optim.Adagrad(p, lr=0.1)),
}


def weights(dtype=torch.float32):
    return {"a": Key(0).normal("a", (3, 4)).to(dtype), "b": Key(0).normal("b", ()).to(dtype)}


def gradients(step, like):
    return {n: Key(1).fold(step).normal(n, tuple(w.shape), like=w) for n, w in like.items()}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", PAIRS)
def test_agrees_with_torch_over_50_steps(name, dtype):
    ours, make = PAIRS[name]
    w = weights(dtype)
    theirs = {n: v.clone().requires_grad_() for n, v in w.items()}
    reference = make(list(theirs.values()))
    state = ours.init(w)
    for step in range(50):
        g = gradients(step, w)
        for n, v in theirs.items():
            v.grad = g[n].clone()
        reference.step()
        updates, state = ours.update(g, state, w)
        w = add(w, updates)
    for n in w:
        torch.testing.assert_close(w[n], theirs[n].detach(), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", PAIRS)
def test_scaled_is_torchs_parameter_groups(name, dtype):
    """Each weight has a learning rate of its own; weight decay is part of the step, and falls with it."""
    ours, make = PAIRS[name]
    factors, w = {"a": 0.25, "b": 3.0}, weights(dtype)
    ours = scaled(ours, factors)
    theirs = {n: v.clone().requires_grad_() for n, v in w.items()}
    reference = make([{"params": [v]} for v in theirs.values()])
    for group, n in zip(reference.param_groups, theirs, strict=True):
        group["lr"] *= factors[n]
    state = ours.init(w)
    for step in range(20):
        g = gradients(step, w)
        for n, v in theirs.items():
            v.grad = g[n].clone()
        reference.step()
        updates, state = ours.update(g, state, w)
        w = add(w, updates)
    for n in w:
        torch.testing.assert_close(w[n], theirs[n].detach(), rtol=1e-6, atol=1e-6)


def test_scaled_has_the_state_of_what_it_scales_and_leaves_others_alone():
    w = weights()
    plain, half = adamw(0.1), scaled(adamw(0.1), {"a": 0.5})
    (u, state), (v, same) = (t.update(gradients(0, w), t.init(w), w) for t in (plain, half))
    assert torch.equal(v["a"], 0.5 * u["a"]) and torch.equal(v["b"], u["b"])
    assert state.keys() == same.keys() == half.init(w).keys()
    assert all(torch.equal(state[slot][n], same[slot][n]) for slot in state for n in w)


def test_yogi_follows_the_paper_for_two_hand_worked_steps():
    rule = yogi(0.5, (0.5, 0.75), tau=0.1)
    w = {"a": torch.tensor(1.0, dtype=torch.float64)}
    state = rule.init(w)
    g = {"a": torch.tensor(2.0, dtype=torch.float64)}
    u1, state = rule.update(g, state, w)
    v1 = 0.01 + 0.25 * 4.0  # v < g^2, so v grows by (1 - beta2) g^2
    assert u1["a"].item() == pytest.approx(-0.5 * 1.0 / (v1**0.5 + 0.1))
    u2, state = rule.update({"a": torch.tensor(0.5, dtype=torch.float64)}, state, w)
    v2 = v1 - 0.25 * 0.25  # v > g^2, so v shrinks by (1 - beta2) g^2
    assert u2["a"].item() == pytest.approx(-0.5 * 0.75 / (v2**0.5 + 0.1))


def test_clip_agrees_with_torch():
    g = gradients(0, weights())
    theirs = [v.clone().requires_grad_() for v in g.values()]
    for v, grad in zip(theirs, g.values(), strict=True):
        v.grad = grad.clone()
    torch.nn.utils.clip_grad_norm_(theirs, 0.5)
    ours, _ = clip(0.5).update(g, {}, weights())
    for v, n in zip(theirs, ours, strict=True):
        torch.testing.assert_close(ours[n], v.grad)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_weight_without_gradient_keeps_value_and_state(name):
    rule = optimizer(name, lr=0.1)
    w = weights()
    state = rule.init(w)
    _, state = rule.update(gradients(0, w), state, w)
    updates, after = rule.update({"a": gradients(1, w)["a"]}, state, w)
    assert set(updates) == {"a"}
    for slot in state:
        assert torch.equal(after[slot]["b"], state[slot]["b"])


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_arguments_are_never_written(name):
    rule = optimizer(name, lr=0.1)
    w, g = weights(), gradients(0, weights())
    state = rule.init(w)
    _, state = rule.update(g, state, w)
    copies = [{n: v.clone() for n, v in tree.items()} for tree in (w, g, *state.values())]
    rule.update(g, state, w)
    for tree, copy in zip((w, g, *state.values()), copies, strict=True):
        assert all(torch.equal(tree[n], copy[n]) for n in tree)


def test_chain_feeds_updates_on_and_keeps_slots_apart():
    both = chain(clip(0.5), sgd(0.1, 0.9), sgd(1.0, 0.5))
    w, g = weights(), gradients(0, weights())
    updates, state = both.update(g, both.init(w), w)
    clipped, _ = clip(0.5).update(g, {}, w)
    assert set(state) == {"1.m", "2.m"}
    torch.testing.assert_close(updates["a"], 0.1 * clipped["a"])


@pytest.mark.parametrize("bad", [0.0, -1.0, float("nan")])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_bad_step_sizes_are_refused(name, bad):
    with pytest.raises(ConfigError, match="lr"):
        optimizer(name, lr=bad)


def test_unknown_settings_are_refused():
    with pytest.raises(ConfigError, match="momentun"):
        optimizer("sgd", lr=1.0, momentun=0.9)
    assert isinstance(optimizer("sgd", lr=1.0, momentum=0.9), Transform)


def warmed(rule, steps, warmup):
    optimizer = torch.optim.SGD(rule, lr=0.1, momentum=0.9)
    return optimizer, torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda t: (t + 1) / (warmup + 1) if t < warmup else max(steps - t, 0) / (steps - warmup)
    )


def test_a_schedule_agrees_with_torch():
    ours = chain(sgd(0.1, 0.9), warmup_linear(20, 5))
    w = weights(torch.float64)
    theirs = {n: v.clone().requires_grad_() for n, v in w.items()}
    reference, decay = warmed(list(theirs.values()), 20, 5)
    state = ours.init(w)
    for step in range(25):
        g = gradients(step, w)
        for n, v in theirs.items():
            v.grad = g[n].clone()
        reference.step()
        decay.step()
        updates, state = ours.update(g, state, w)
        w = add(w, updates)
    for n in w:
        torch.testing.assert_close(w[n], theirs[n].detach(), rtol=1e-12, atol=1e-14)


def test_warm_up_and_decay_by_hand():
    """Two steps of warm-up in six: 1/3, 2/3, then 4/4, 3/4, 2/4, 1/4, then nothing."""
    rule, w = warmup_linear(6, 2), {"a": torch.ones((), dtype=torch.float64)}
    state, seen = rule.init(w), []
    for _ in range(8):
        updates, state = rule.update(w, state, w)
        seen.append(updates["a"].item())
    assert seen == pytest.approx([1 / 3, 2 / 3, 1, 0.75, 0.5, 0.25, 0, 0])


def test_a_weight_without_a_gradient_does_not_grow_old():
    rule = schedule(float)
    w = {"a": torch.ones(1), "b": torch.ones(1)}
    state = rule.init(w)
    for names in (("a", "b"), ("a",), ("a", "b")):
        updates, state = rule.update({n: w[n] for n in names}, state, w)
    assert (updates["a"].item(), updates["b"].item()) == (2.0, 1.0)


@pytest.mark.parametrize(("steps", "warmup"), [(0, 0), (5, 5), (5, -1)])
def test_a_warm_up_that_does_not_fit_is_refused(steps, warmup):
    with pytest.raises(ConfigError, match="does not fit"):
        warmup_linear(steps, warmup)
