"""Operations are those that one counts by hand, and those of torch's own counter; the results stay the same bits."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from tests.laws import problem
from tests.models.test_checkpointing import INPUTS
from torch.utils.checkpoint import checkpoint
from torch.utils.flop_counter import FlopCounterMode

from spry.core.keys import Key
from spry.estimators.backprop import backprop
from spry.estimators.projected import forward_gradient, zeroth_order
from spry.forward import jvp
from spry.measure.meter import tensor_peak
from spry.measure.operations import OperationCounter
from spry.tasks.classification import ClassificationTask

LAYERS, HIDDEN, INNER, CLASSES, RANK, HEADS = 2, 16, 32, 3, 1, 2
"""The shape of the tiny BERT."""


def counted(step):
    with OperationCounter() as counter:
        step()
    return counter.total


FACTOR = 2 * 8 * problem.D * 2
"""One small matrix of the problem times its eight examples: A and B of a layer take equally many."""

HEAD = 2 * 8 * problem.D * problem.C
INFERENCE = 2 * problem.DEPTH * FACTOR + HEAD

BY_HAND = {
    # the first layer's input does not move: A has its value and one derivative, all else a value and two
    "forward": (forward_gradient(), FACTOR * (2 + 3) + (problem.DEPTH - 1) * 6 * FACTOR + 3 * HEAD),
    # the exact head: its value with autograd's graph and again with the derivative along its input, and its gradient
    "forward, exact head": (
        forward_gradient(exact=["head.weight", "head.bias"]),
        FACTOR * (2 + 3) + (problem.DEPTH - 1) * 6 * FACTOR + 4 * HEAD,
    ),
    "forward, 3 directions": (
        forward_gradient(3),
        FACTOR * (4 + 7) + (problem.DEPTH - 1) * 14 * FACTOR + 7 * HEAD,
    ),
    "central differences": (zeroth_order(3), 6 * INFERENCE),
    # a gradient of each weight and of each input, but of the first layer's
    "backpropagation": (backprop(), INFERENCE + 2 * INFERENCE - FACTOR),
}


@pytest.mark.parametrize("name", BY_HAND)
def test_each_estimator_takes_what_one_counts_by_hand(name):
    estimator, expected = BY_HAND[name]
    loss, weights = problem.loss_of(problem.batch(0), Key(0), {}), problem.weights()
    assert counted(lambda: loss(weights)) == INFERENCE
    assert counted(lambda: estimator(loss, weights, Key(1))) == expected


def test_checkpointing_counts_what_it_recomputes():
    x, (first, second) = torch.randn(8, 5), (torch.randn(5, 5, requires_grad=True) for _ in range(2))

    def block(x):
        return torch.tanh(torch.tanh(x @ first) @ second)

    def gradient(run):
        return torch.autograd.grad(run(x).sum(), [first, second])

    one = 2 * 8 * 5 * 5
    assert counted(lambda: gradient(block)) == (2 + 3) * one
    assert counted(lambda: gradient(lambda x: checkpoint(block, x, use_reentrant=False))) == (2 + 3 + 2) * one


@pytest.fixture(scope="module")
def task(tiny_model):
    return ClassificationTask(str(tiny_model), labels=CLASSES)


BATCH = {**INPUTS, "labels": torch.tensor([0, 2])}


def inference(batch, length):
    """By hand: projections, attention, feed-forward, LoRA of query and value, pooler, head."""
    tokens = batch * length
    attention = 2 * (2 * batch * HEADS * length * length * (HIDDEN // HEADS))
    projections = 4 * 2 * tokens * HIDDEN * HIDDEN
    inner = 2 * 2 * tokens * HIDDEN * INNER
    lora = 2 * (2 * 2 * tokens * HIDDEN * RANK)
    layers = LAYERS * (projections + attention + inner + lora)
    return layers + 2 * batch * HIDDEN * HIDDEN + 2 * batch * HIDDEN * CLASSES


@pytest.mark.parametrize("mode", [torch.enable_grad, torch.no_grad, torch.inference_mode])
def test_inference_of_a_transformer_by_hand(task, mode):
    params = task.init()
    with mode():
        assert counted(lambda: task.logits(params, BATCH)) == inference(2, 4)


ESTIMATORS = {
    "forward": forward_gradient(2),
    "backpropagation": backprop(),
    "checkpointing": backprop(checkpoint=True),
    "finite differences": zeroth_order(1),
}


@pytest.mark.parametrize("name", ESTIMATORS)
def test_a_step_on_a_transformer_is_what_torchs_counter_says(task, name):
    """Of the CPU's fused attention torch has no count, so it computes here by its plain products."""
    loss, params = task.loss(BATCH, Key(0)), task.init()
    with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
        expected = FlopCounterMode(display=False)
        with expected:
            ESTIMATORS[name](loss, params, Key(1))
        assert counted(lambda: ESTIMATORS[name](loss, params, Key(1))) == expected.get_total_flops() > 0


def test_checkpointing_a_transformer_takes_a_forward_pass_more(task):
    loss, params = task.loss(BATCH, Key(0)), task.init()
    plain, more = (counted(lambda c=c: backprop(c)(loss, params, Key(1))) for c in (False, True))
    layers = inference(2, 4) - 2 * 2 * HIDDEN * (HIDDEN + CLASSES)
    assert more - plain == layers


def test_fused_attention_of_the_cpu_counts_as_its_products():
    q, k, v = (torch.randn(2, 3, 7, 4, requires_grad=True) for _ in range(3))
    product = 2 * 2 * 3 * 7 * 7 * 4

    def attend():
        return F.scaled_dot_product_attention(q, k, v)

    assert counted(attend) == 2 * product
    backward = counted(lambda: torch.autograd.grad(attend().sum(), [q, k, v])) - 2 * product
    assert backward == 5 * product  # the scores again, and a gradient of each operand of both products


def test_fallbacks_to_torch_func_are_counted():
    w = torch.randn(5, 5)

    def odd(p):  # no forward rule: torch.func.jvp, which computes value and derivative
        return torch.linalg.matrix_exp(p["w"]).sum() + (p["w"] @ w).sum()

    assert counted(lambda: jvp(odd, {"w": w}, [{"w": w}])) >= 2 * 2 * 5**3


def test_products_of_experts_count_once_a_row():
    a, b = (torch.randn(*s, dtype=torch.bfloat16) for s in ((6, 16), (3, 16, 8)))
    offsets = torch.tensor([1, 4, 6], dtype=torch.int32)
    try:
        torch._grouped_mm(a, b, offs=offsets)
    except (AttributeError, RuntimeError) as error:
        pytest.skip(f"no grouped products here: {error}")
    assert counted(lambda: torch._grouped_mm(a, b, offs=offsets)) == 2 * 6 * 16 * 8
    import transformers.integrations.moe  # ruff: ignore[unused-import]

    op = torch.ops.transformers.grouped_mm_fallback
    assert counted(lambda: op(a, b, offsets)) == 2 * 6 * 16 * 8


@pytest.mark.parametrize("name", ESTIMATORS)
def test_counting_changes_neither_the_bits_nor_the_peak(task, name):
    loss, params = task.loss(BATCH, Key(0)), task.init()
    found = []

    def step():
        found.append(ESTIMATORS[name](loss, params, Key(1)))

    step()
    plain, with_count = tensor_peak(step), tensor_peak(lambda: counted(step))
    assert with_count <= 1.01 * plain
    first, *others = found
    for other in others:
        assert other.value == first.value
        assert all(torch.equal(other.gradient[n], g) for n, g in first.gradient.items())
