"""Functions without a rule: right, counted, and of any signature; functions that would lose a tangent are refused."""

from __future__ import annotations

import threading
from typing import NamedTuple

import pytest
import torch
import torch.nn.functional as F
from torch.overrides import handle_torch_function, has_torch_function

from spry.core.errors import ModelError
from spry.forward import Dual, jvp, rule, track_fallbacks
from tests.forward.reference import CHUNKS, agree, drawn, dual, use_chunks


@pytest.fixture(autouse=True, params=CHUNKS)
def _chunks(request, monkeypatch):
    use_chunks(monkeypatch, request.param)


@pytest.mark.parametrize(
    "function",
    [
        lambda x: x.cumprod(-1),
        lambda x: torch.erfinv(x.tanh() * 0.9),
        lambda x: torch.topk(x, 2, -1),
        lambda x: x.max(-1),
        lambda x: x.sort(0),
        lambda x: torch.linalg.vector_norm(x, dim=-1),
        lambda x: F.normalize(x, dim=-1),
        lambda x: F.mse_loss(x, x * x),
        lambda x: F.glu(torch.cat([x, x], -1)),
        lambda x: F.batch_norm(x, torch.zeros(3, dtype=x.dtype), torch.ones(3, dtype=x.dtype)),
        lambda x: F.avg_pool1d(x.T[None], 2),
        lambda x: torch.lerp(x, x * x, 0.3),
        lambda x: x.var(-1) + x.std(-1),
        lambda x: x.prod(),
    ],
)
def test_right_without_a_rule(function):
    agree(function, drawn(4, 3))
    agree(function, drawn(3, 4).T)
    agree(function, drawn(1, 3).expand(4, 3))


class Mixed(NamedTuple):
    value: torch.Tensor
    places: torch.Tensor
    inside: torch.Tensor
    pair: tuple
    nothing: None
    flag: bool
    name: str


def unknown(x, options=None):
    """A function that a rule cannot know, with results of all kinds."""
    if has_torch_function((x,)):
        return handle_torch_function(unknown, (x,), x, options)
    return Mixed(x * 3, x.argsort(-1), x > 0, (x.sum(), {"square": x * x}), None, True, "x")


def test_results_of_all_kinds():
    x = dual(drawn(2, 3))
    with track_fallbacks() as report:
        out = unknown(x, options=[1, None])
    assert isinstance(out, Mixed)
    assert out.places.dtype == torch.int64
    assert out.inside.dtype == torch.bool
    assert out[4:] == (None, True, "x")
    assert out.value.tangents[1].equal(3 * x.tangents[1])
    assert torch.allclose(out.pair[1]["square"].tangents[0], 2 * x.primal * x.tangents[0])
    assert report.fallbacks == {"unknown": 1}


def test_a_rule_can_be_registered():
    def tripled(x):
        return handle_torch_function(tripled, (x,), x) if type(x) is Dual else 3 * x

    @rule(tripled)
    def _tripled(x):
        return Dual(3 * x.primal, [3 * t for t in x.tangents])

    with track_fallbacks() as report:
        agree(tripled, drawn(2, 3))
    assert not report.fallbacks


def test_reports_nest_and_belong_to_their_thread():
    other = {}

    def elsewhere():
        with track_fallbacks() as report:
            dual(drawn(3)).cumprod(0)
        other["report"] = report

    with track_fallbacks() as outer:
        dual(drawn(3)).cumprod(0)
        with track_fallbacks() as inner:
            dual(drawn(3)).erfinv()
            thread = threading.Thread(target=elsewhere)
            thread.start()
            thread.join()
    assert outer.fallbacks == {"cumprod": 1, "erfinv": 1}
    assert inner.fallbacks == {"erfinv": 1}
    assert other["report"].fallbacks == {"cumprod": 1}


@pytest.mark.parametrize(
    ("name", "use"),
    [
        ("item", lambda x: x.sum().item()),
        ("tolist", lambda x: x.tolist()),
        ("numpy", lambda x: x.numpy()),
        ("data", lambda x: x.data),
        ("data", lambda x: setattr(x, "data", torch.zeros(3))),
        ("__float__", lambda x: float(x.sum())),
        ("__int__", lambda x: int(x.sum())),
        ("backward", lambda x: x.sum().backward()),
    ],
)
def test_what_would_lose_the_tangent_is_refused_by_name(name, use):
    with pytest.raises(ModelError, match=f"'{name}'"):
        use(dual(drawn(3)))


def scripted(x):
    return torch.jit.trace(torch.square, torch.ones(3))(x)


@pytest.mark.filterwarnings("ignore:`torch.jit")
@pytest.mark.parametrize(
    ("name", "use"),
    [
        ("nn.Parameter", torch.nn.Parameter),
        ("torch.jit", scripted),
    ],
)
def test_what_pytorch_itself_cannot_do_on_a_dual_is_refused_with_advice(name, use):
    with pytest.raises(ModelError, match=name):
        jvp(lambda p: use(p["w"]).sum(), {"w": drawn(3)}, [{"w": drawn(3)}])


def test_what_stops_the_derivative_on_purpose_is_counted():
    x = dual(drawn(3))
    with track_fallbacks() as report:
        assert type(x.detach()) is torch.Tensor
        with torch.no_grad():
            assert type(x * 2) is torch.Tensor
    assert report.dropped == {"detach": 1, "mul": 1}


def test_no_forward_derivative_is_an_error_by_name():
    with pytest.raises(ModelError, match="'cdist'"):
        torch.cdist(dual(drawn(4, 3)), drawn(4, 3))


def test_metadata_runs_no_program():
    x = dual(drawn(4, 3))
    y = F.gelu(F.linear(x, drawn(6, 3)))
    assert (y.shape, y.dtype, y.device.type, y.dim(), y.size(-1), len(y)) == (
        (4, 6),
        torch.float64,
        "cpu",
        2,
        6,
        4,
    )
    assert y.is_floating_point()
    assert not y.requires_grad
    assert y.numel() == 24
    assert repr(y).startswith("Dual(")
    assert hash(y) == id(y)
    assert bool((y > -9).all())


def test_random_functions_draw_once_for_value_and_derivatives():
    x = dual(torch.ones(40, 5, 3, dtype=torch.float64))
    before = torch.get_rng_state()
    out = F.dropout1d(x, 0.5)
    kept = out.primal != 0
    assert 0 < kept.sum() < kept.numel()
    for t, u in zip(out.tangents, x.tangents, strict=True):
        torch.testing.assert_close(t, 2 * u * kept)
    assert not torch.get_rng_state().equal(before)


def test_a_random_function_of_several_results_draws_once_for_all_of_them():
    def drawing(x):
        torch.manual_seed(1)
        return torch.svd_lowrank(x, q=2)[1:]

    with torch.random.fork_rng(devices=[]):
        agree(lambda x: drawing(x)[0], drawn(4, 3))


def test_operators_reached_past_the_functions_are_refused():
    x = dual(drawn(3))
    with torch._C.DisableTorchFunctionSubclass(), pytest.raises(ModelError, match=r"'aten\.mul\.Tensor'"):
        x * 2
