"""``jvp`` and ``call``: slopes against autograd, exact heads, the module left as it was, threads, clear errors."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from spry.core.errors import ModelError
from spry.core.params import dot, tree_map
from spry.forward import call, jvp, track_fallbacks
from tests.forward.reference import CHUNKS, drawn, use_chunks


@pytest.fixture(autouse=True, params=CHUNKS)
def _chunks(request, monkeypatch):
    use_chunks(monkeypatch, request.param)


class Net(nn.Module):
    """Embedding tied to the output layer, a buffer, dropout off, and a layer that is frozen."""

    def __init__(self):
        super().__init__()
        self.words = nn.Embedding(7, 4)
        self.body = nn.Sequential(nn.Linear(4, 8), nn.GELU(), nn.Linear(8, 4), nn.LayerNorm(4))
        self.out = nn.Linear(4, 7, bias=False)
        self.out.weight = self.words.weight
        self.register_buffer("scale", torch.tensor(0.5))
        self.broken = False
        self.body[0].requires_grad_(False)

    def forward(self, tokens):
        hidden = self.body(self.words(tokens) * self.scale)
        if self.broken:
            raise ValueError("broken")
        return self.out(hidden)


def net():
    module = Net().double()
    for i, value in enumerate(module.parameters()):
        value.data = drawn(*value.shape, seed=i)
    return module


TOKENS = torch.arange(12).view(3, 4) % 7
NAMES = ["words.weight", "body.2.weight", "body.3.bias"]


def problem(module, names=NAMES, k=3):
    own = dict(module.named_parameters())
    params = {name: own[name].detach() + 0.1 * drawn(*own[name].shape, seed=9) for name in names}
    directions = [tree_map(lambda w, i=i: drawn(*w.shape, seed=50 + i), params) for i in range(k)]

    def loss(p):
        return F.cross_entropy(call(module, p, TOKENS).view(-1, 7), TOKENS.view(-1))

    return loss, params, directions


def gradient(loss, params):
    leaves = {name: value.clone().requires_grad_() for name, value in params.items()}
    return dict(zip(leaves, torch.autograd.grad(loss(leaves), list(leaves.values())), strict=True))


def state(module):
    return {
        name: (id(value), value._version, value.clone())
        for name, value in module.state_dict(keep_vars=True).items()
    }


def unchanged(before, module):
    after = state(module)
    return all(before[n][:2] == after[n][:2] and before[n][2].equal(after[n][2]) for n in before)


def test_slopes_are_products_with_the_gradient():
    module = net()
    before = state(module)
    loss, params, directions = problem(module)
    value, slopes = jvp(loss, params, directions)
    grad = gradient(loss, params)
    assert value.item() == pytest.approx(loss(params).item(), rel=1e-12)
    assert slopes.tolist() == pytest.approx([dot(grad, v) for v in directions], rel=1e-10)
    assert unchanged(before, module)
    assert not value.requires_grad
    assert not slopes.requires_grad


@pytest.mark.parametrize("ambient", [torch.no_grad, torch.enable_grad, torch.inference_mode])
def test_the_ambient_mode_does_not_matter(ambient):
    loss, params, directions = problem(net())
    want = jvp(loss, params, directions)[1]
    with ambient():
        torch.testing.assert_close(jvp(loss, params, directions)[1], want, rtol=1e-12, atol=0)


def test_directions_may_leave_weights_out():
    loss, params, directions = problem(net())
    parts = [{"words.weight": directions[0]["words.weight"]}, {"body.3.bias": directions[1]["body.3.bias"]}]
    grad = gradient(loss, params)
    want = [(grad[name] * v).sum().item() for part in parts for name, v in part.items()]
    assert jvp(loss, params, parts)[1].tolist() == pytest.approx(want, rel=1e-10)


def test_an_exact_head_gets_its_gradient_from_autograd():
    module = net()
    loss, params, directions = problem(module)
    head = {
        "body.3.weight": dict(module.named_parameters())["body.3.weight"].detach().clone().requires_grad_()
    }
    value, slopes = jvp(lambda p: loss({**p, **head}), params, directions)
    assert not slopes.requires_grad
    (found,) = torch.autograd.grad(value, list(head.values()))
    grad = gradient(loss, params | tree_map(torch.Tensor.detach, head))
    torch.testing.assert_close(found, grad["body.3.weight"], rtol=1e-10, atol=1e-12)
    assert slopes.tolist() == pytest.approx(
        [sum((grad[n] * v[n]).sum().item() for n in v) for v in directions], rel=1e-10
    )


def test_unnamed_weights_are_constants():
    module = net()
    out = call(module, {"body.2.weight": module.body[2].weight.detach()}, TOKENS)
    assert not out.requires_grad
    assert all(p.requires_grad for n, p in module.named_parameters() if not n.startswith("body.0"))


def test_an_exception_leaves_the_module_and_its_lock_as_they_were():
    module = net()
    loss, params, directions = problem(module)
    before = state(module)
    module.broken = True
    for _ in range(2):
        with pytest.raises(ValueError, match="broken"):
            jvp(loss, params, directions)
    module.broken = False
    assert unchanged(before, module)
    with ThreadPoolExecutor(1) as pool:  # another thread: a lock left behind would hang it
        pool.submit(jvp, loss, params, directions).result(timeout=20)


def test_threads_share_a_module():
    module = net()
    before = state(module)
    jobs = [problem(module, k=1 + i % 3) for i in range(12)]
    for i, (_, params, _) in enumerate(jobs):
        params["body.3.bias"] += i
    want = [jvp(*job) for job in jobs]
    start = threading.Barrier(4)

    def work(part):
        start.wait(timeout=20)
        with track_fallbacks() as report:
            results = [jvp(*job) for job in part for _ in range(3)]
        assert not report.dropped
        return results[::3]

    with ThreadPoolExecutor(4) as pool:
        found = [x for part in pool.map(work, [jobs[i::4] for i in range(4)]) for x in part]
    order = [i for start in range(4) for i in range(start, 12, 4)]
    for i, (value, slopes) in zip(order, found, strict=True):
        torch.testing.assert_close((value, slopes), want[i], rtol=1e-12, atol=0)
    assert unchanged(before, module)


@pytest.mark.parametrize(
    ("message", "break_it"),
    [
        ("needs a direction", lambda loss, p, v: (loss, p, [])),
        (
            "Did you mean 'words.weight'",
            lambda loss, p, v: (loss, p, [{"word.weight": v[0]["words.weight"]}]),
        ),
        ("have shapes {\\(7, 3\\)}", lambda loss, p, v: (loss, p, [{"words.weight": torch.ones(7, 3)}])),
        ("must be a scalar", lambda loss, p, v: (lambda q: loss(q) * torch.ones(2), p, v)),
        ("stopped by {'detach': 1}", lambda loss, p, v: (lambda q: loss(q).detach(), p, v)),
        ("the derivative was stopped", lambda loss, p, v: (torch.no_grad()(loss), p, v)),
        (
            "no weight 'body.9.bias'. Did you mean",
            lambda loss, p, v: (lambda q: loss(q | {"body.9.bias": 1}), p, v),
        ),
    ],
)
def test_errors_say_what_is_wrong(message, break_it):
    with pytest.raises(ModelError, match=message):
        jvp(*break_it(*problem(net())))


def test_a_loss_that_does_not_use_the_weights_has_slope_zero():
    _, slopes = jvp(lambda p: torch.tensor(2.0), {"w": torch.ones(2)}, [{"w": torch.ones(2)}] * 2)
    assert slopes.tolist() == [0, 0]
