"""The routed loss against autograd in float64, on whole models: gates at both ends, every estimator, micro-batches."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from spry.contrib.flow import evaluate_routed, route
from spry.contrib.flow.answers import RoutedMetrics
from spry.contrib.flow.policy import BIAS, NAMES, WEIGHT, standardised, start
from spry.core.errors import ModelError
from spry.core.keys import Key
from spry.core.params import dot
from spry.core.units import names_of
from spry.estimators.backprop import backprop
from spry.estimators.projected import SlopeSpec, projected
from spry.estimators.residual import residual
from spry.estimators.slopes import forward_mode
from spry.models.adapters import Lora
from spry.tasks.metrics import ClassificationMetrics
from spry.tasks.model_task import ModelTask
from spry.tasks.regression.kind import Regression
from tests.laws.problem import gradient
from tests.models.setting import setting

bert = pytest.mark.parametrize("kind", ["bert"])
several = pytest.mark.parametrize("kind", ["bert", "gpt2"])
LORA = Lora(rank=2)


def routed(folder, reviews, micro=None, bias=0.3, dropout=False):
    """A task, its plain loss, the routed one, the global adapter with a policy, and a local adapter."""
    task, loss, weights = setting(folder, reviews, LORA, micro=micro, dropout=dropout)
    policy = start(weights, task.units)
    policy = {
        WEIGHT: 0.2 * Key(8).normal("r", tuple(policy[WEIGHT].shape), like=policy[WEIGHT]),
        BIAS: torch.full_like(policy[BIAS], bias),
    }
    local = {n: w + 0.2 * Key(9).normal(n, tuple(w.shape), like=w) for n, w in weights.items()}
    return task, loss, route(loss, local, policy), {**weights, **policy}, local


def by_hand(task, loss, params, local):
    """The mixture of probabilities by plain torch, from the models' scores."""
    labels = loss.batch["labels"].long()
    shares = [F.softmax(task.logits(w, loss.batch), -1) for w in (only(params, task), local)]
    kept, own = (each[torch.arange(len(labels)), labels] for each in shares)
    gate = torch.sigmoid(standardised(task.features(loss.batch)) @ params[WEIGHT] + params[BIAS])
    return -((1 - gate) * kept + gate * own).log().mean()


def only(params, task):
    return {n: params[n] for n in names_of(task.units)}


@several
@pytest.mark.parametrize("micro", [None, 2])
def test_value_and_gradient_are_those_of_the_mixture(folder, reviews, micro):
    task, loss, mixture, params, local = routed(folder, reviews, micro)
    assert float(mixture(params)) == pytest.approx(float(by_hand(task, loss, params, local)), rel=1e-10)
    true = gradient(lambda w: by_hand(task, loss, w, local), params)
    for checkpoint in (False, True):
        found = backprop(checkpoint)(mixture, params, Key(0))
        assert found.gradient.keys() == params.keys()
        for n in params:
            torch.testing.assert_close(found.gradient[n], true[n], rtol=1e-8, atol=1e-12)


@bert
@pytest.mark.parametrize("dropout", [False, True])
def test_at_gate_0_it_is_the_global_model_and_at_1_the_local_one(folder, reviews, dropout):
    _, loss, shut, params, _ = routed(folder, reviews, bias=-1e4, dropout=dropout)
    found, plain = (backprop()(one, params, Key(0)) for one in (shut, without_policy(loss)))
    assert found.value == pytest.approx(plain.value, rel=1e-12)
    for n in params:
        torch.testing.assert_close(found.gradient[n], plain.gradient[n], rtol=1e-10, atol=1e-14)
    _, loss, wide, params, local = routed(folder, reviews, bias=1e4, dropout=dropout)
    found = backprop()(wide, params, Key(0))
    assert found.value == pytest.approx(float(loss(local).detach()), rel=1e-12)
    assert not any(gradient.any() for gradient in found.gradient.values())


def without_policy(loss):
    """The plain loss, whose gradient by the policy is zero."""

    class Plain:
        def __call__(self, params, *, checkpoint=False):
            model = {n: w for n, w in params.items() if n not in NAMES}
            return loss(model) + sum(0 * params[n].sum() for n in NAMES)

        def microbatches(self):
            return [(1.0, self)]

    return Plain()


@several
@pytest.mark.parametrize("micro", [None, 2])
def test_slopes_are_autograds_and_the_policys_gradient_is_exact(folder, reviews, micro):
    task, loss, mixture, params, local = routed(folder, reviews, micro)
    head = {n for unit in task.units if unit.exact for n in unit.names}
    spec = SlopeSpec(exact=frozenset(head | set(NAMES)))
    found = projected(forward_mode, spec, 3)(mixture, params, Key(4))
    true = gradient(lambda w: by_hand(task, loss, w, local), params)
    directions = spec.draw(Key(4), params, 3)
    assert found.slopes.tolist() == pytest.approx([dot(v, true) for v in directions], rel=1e-8)
    for n in spec.exact:
        torch.testing.assert_close(found.gradient[n], true[n], rtol=1e-8, atol=1e-12)


@bert
def test_the_residual_guess_is_exact_in_the_last_blocks_and_for_the_policy(folder, reviews):
    """The tiny model has two blocks: the last one, and the one below it, which is exact, too."""
    _, _, mixture, params, _ = routed(folder, reviews)
    found, true = (each(mixture, params, Key(0)) for each in (residual(), backprop()))
    assert found.value == pytest.approx(true.value, rel=1e-10)
    for n in params:
        torch.testing.assert_close(found.gradient[n], true.gradient[n], rtol=1e-7, atol=1e-11)


@bert
def test_soft_answers_are_the_mixture_and_hard_ones_the_larger_say(folder, reviews):
    task, loss, _, params, local = routed(folder, reviews)
    soft = evaluate_routed(task, params, local, [loss.batch])
    assert soft.loss == pytest.approx(float(by_hand(task, loss, params, local)), rel=1e-9)
    for bias, weights in ((-1e4, only(params, task)), (1e4, local)):
        one = {**params, BIAS: torch.full_like(params[BIAS], bias)}
        alone = task.evaluate(weights, [loss.batch])
        for routing in ("soft", "hard"):
            found = evaluate_routed(task, one, local, [loss.batch], routing)
            assert found.answers.correct == alone.correct
            assert found.loss == pytest.approx(alone.loss, rel=1e-9)
            assert found.local_share == (bias > 0)
    assert set(evaluate_routed(task, params, local, [loss.batch], "hard").gates) <= {0.0, 1.0}


@bert
def test_gates_depend_on_neither_batch_nor_padding(folder, reviews):
    task, _, _, params, local = routed(folder, reviews)
    encoded = task.encode(reviews, max_length=16)
    together = evaluate_routed(task, params, local, [encoded.batch(range(5))])
    alone = evaluate_routed(task, params, local, [encoded.batch([i]) for i in range(5)])
    assert together.gates == pytest.approx(alone.gates, rel=1e-9)
    assert together.details()["local_share"] == alone.local_share
    assert len(alone.details()["gates"]) == 5


def test_no_instances_have_no_share():
    nothing = RoutedMetrics(answers=ClassificationMetrics())
    assert nothing.values()["local_share"] is None
    assert nothing.details() == {"local_share": None, "either_right": None}


@bert
def test_what_has_no_classes_is_refused(folder, reviews):
    task = ModelTask(str(folder), Regression(), labels=1)
    weights = task.init()
    batch = {**task.probe(Key(0), examples=2)}
    with pytest.raises(ModelError, match=r"task regression has none.*fedavg with schedule\.local_tuning"):
        route(task.loss(batch, Key(0)), weights, start(weights, task.units))
