"""Every rule against ``torch.func.jvp``, over shapes drawn at random: empty, single, odd, broadcast, non-contiguous."""

from __future__ import annotations

import copy
import io

import pytest
import torch
import torch.nn.functional as F
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.forward.reference import CHUNKS, agree, drawn, dual, use_chunks

from spry.core.errors import ModelError
from spry.forward import Dual, track_fallbacks
from spry.forward.rules.elementwise import PUSHES

quick = settings(max_examples=8, deadline=None, suppress_health_check=list(HealthCheck))
lengths = st.sampled_from([1, 2, 3, 5])
shapes = st.lists(st.sampled_from([0, 1, 2, 3, 5]), min_size=0, max_size=4).map(tuple)
layouts = st.sampled_from(["contiguous", "transposed", "strided", "expanded"])


@pytest.fixture(autouse=True, params=CHUNKS)
def _chunks(request, monkeypatch):
    use_chunks(monkeypatch, request.param)


@pytest.fixture(autouse=True)
def _no_fallback(request):
    with track_fallbacks() as report:
        yield
    assert not report.fallbacks or "rarer" in request.node.name


def laid(x, layout):
    """The same values, in memory of another layout."""
    if layout == "transposed" and x.dim() > 1:
        return x.transpose(0, -1).contiguous().transpose(0, -1)
    if layout == "strided" and x.numel():
        return torch.stack([x, x], -1)[..., 0]
    if layout == "expanded" and x.dim() > 1:
        return x[:1].expand(x.shape)
    return x


def test_a_view_that_the_values_memory_allows_but_not_the_derivatives():
    """A bias is added: its derivative is one row, expanded, then turned as the value is, and read in one piece."""
    x = drawn(2, 5, 3)
    agree(lambda b: ((x.transpose(0, 1) + b).transpose(0, 1)).view(10, 3) ** 3, drawn(3))
    agree(lambda b: (x + b).view(2, 15).view(-1)[3:9] ** 2, drawn(3))


@pytest.mark.parametrize("name", PUSHES)
@quick
@given(shape=shapes, layout=layouts)
def test_elementwise(name, shape, layout):
    positive = name in {"log", "log1p", "log2", "sqrt", "rsqrt", "reciprocal"}
    x = laid(drawn(*shape, positive=positive), layout)
    for home in (torch, F, torch.special):
        if hasattr(home, name):
            agree(getattr(home, name), x)


@pytest.mark.parametrize(
    "function",
    [
        lambda x: F.gelu(x, approximate="tanh"),
        lambda x: F.leaky_relu(x, 0.3),
        lambda x: F.elu(x, 0.7),
        lambda x: F.softplus(x, 2, 1),
        lambda x: F.hardtanh(x, -0.3, 0.5),
        lambda x: x.clamp(-0.2, 0.4),
        lambda x: x.clamp(min=0.1),
        lambda x: x.relu().sigmoid().tanh(),
        lambda x: x**2 + x.pow(3) + abs(x) ** 0.5,
        lambda x: 2.0 ** (x / 3) - 1 / (x * x + 2) + (1 - x),
        lambda x: 0.5 * x * (1 + torch.tanh(0.8 * (x + 0.044715 * torch.pow(x, 3)))),
        lambda x: x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-3),
        lambda x: x.softmax(-1) + F.log_softmax(x, -1) + x.logsumexp(-1, keepdim=True),
        lambda x: torch.softmax(x, 0) * torch.log_softmax(x, 0) - x.logsumexp(0),
        lambda x: torch.where(x > 0, x, 2 * x) + torch.where(x < 0, 1.0, x) + x.masked_fill(x > 1, 3.0),
        lambda x: F.dropout(x, 0.5, training=False) + F.relu(x, inplace=False),
        lambda x: torch.cat([x, 2 * x], -1) + torch.cat([torch.zeros_like(x), x], -1),
        lambda x: torch.stack([x, x * x, torch.ones_like(x)]).sum(0) + x.cumsum(-1) - x.mean(),
        lambda x: F.pad(x, (1, 2), value=3.0).sum() + x.flip(0).tril().sum() if x.dim() > 1 else x,
        lambda x: (x.unsqueeze(1).expand(-1, 3, *x.shape[1:]).reshape(-1), x.T.contiguous(), x[None, ..., :1]),
        lambda x: (x.split(1, -1), x.chunk(2, 0), x.unbind(0), x.flatten(), list(x)),
        lambda x: (x.argmax() if x.numel() else None, x > 0, x.long(), x.new_zeros(2) + 1, x.float().double()),
    ],
)  # fmt: skip
@quick
@given(shape=shapes.filter(lambda s: s and s[-1] > 0), layout=layouts)
def test_functions_of_one_argument(function, shape, layout):
    agree(function, laid(drawn(*shape), layout), rtol=1e-5 if "float" in function.__code__.co_names else 1e-9)


BINARY = [
    torch.add,
    torch.sub,
    torch.mul,
    torch.maximum,
    torch.minimum,
    lambda x, y: torch.add(x, y, alpha=3) - torch.rsub(x, y),
    lambda x, y: x / (y.abs() + 1) + torch.pow(x.abs() + 1, y),
    lambda x, y: torch.addcmul(x, x, y, value=2.0) + torch.where(x > y, x, y),
    lambda x, y: x.type_as(y) + y.masked_fill(y > 0, 0.0),
]


@pytest.mark.parametrize("function", BINARY)
@pytest.mark.parametrize("moving", [(0,), (1,), (0, 1)])
@quick
@given(
    shape=shapes,
    squeezed=st.lists(st.booleans(), min_size=4, max_size=4),
    dropped=st.integers(0, 3),
    swap=st.booleans(),
)
def test_arithmetic_broadcasts(function, moving, shape, squeezed, dropped, swap):
    other = tuple(1 if one else n for one, n in zip(squeezed, shape, strict=False))[
        min(dropped, len(shape) - 1) :
    ]
    x, y = drawn(*shape), drawn(*other, seed=1)
    agree(function, *((y, x) if swap else (x, y)), moving=moving)


@pytest.mark.parametrize("moving", [(0,), (1,), (0, 1)])
@pytest.mark.parametrize(
    ("function", "left", "right"),
    [
        (torch.matmul, (2, 3, 4, 5), (2, 3, 5, 2)),
        (torch.matmul, (3, 4, 5), (5, 2)),
        (torch.matmul, (5,), (5, 2)),
        (torch.matmul, (4, 5), (5,)),
        (torch.bmm, (2, 1, 5), (2, 5, 3)),
        (torch.mm, (0, 5), (5, 3)),
        (torch.outer, (3,), (4,)),
        (lambda x, y: x @ y, (2, 4, 5), (1, 5, 3)),
        (lambda x, y: torch.einsum("bij,jk->bik", x, y), (2, 3, 4), (4, 5)),
        (lambda x, y: torch.addmm(torch.ones(3, dtype=x.dtype), x, y, alpha=2.0), (4, 5), (5, 3)),
        (
            lambda x, y: torch.baddbmm(torch.ones(1, 4, 3, dtype=x.dtype), x, y, beta=0.5),
            (2, 4, 5),
            (2, 5, 3),
        ),
        (lambda x, y: F.conv1d(x, y, torch.ones(6, dtype=x.dtype), padding=1), (2, 4, 7), (6, 4, 3)),
        (lambda x, y: F.conv1d(x, y, groups=2), (2, 4, 7), (6, 2, 3)),
    ],
)
def test_products(function, left, right, moving):
    agree(function, drawn(*left), drawn(*right), moving=moving)


@pytest.mark.parametrize("moving", [(0,), (1,), (2,), (0, 1), (0, 2), (0, 1, 2)])
@pytest.mark.parametrize("lead", [(), (1,), (3,), (2, 3), (0, 3), (2, 1, 3), (2000,)])
def test_linear(lead, moving):
    agree(F.linear, drawn(*lead, 4), drawn(6, 4), drawn(6), moving=moving)
    if 2 not in moving:
        agree(F.linear, drawn(*lead, 4), drawn(3, 4), moving=moving)


@pytest.mark.parametrize("moving", [(0,), (0, 1, 2), (1, 2)])
@quick
@given(lead=shapes, width=st.integers(1, 6), layout=layouts)
def test_layer_norm(moving, lead, width, layout):
    x, weight, bias = laid(drawn(*lead, width), layout), drawn(width), drawn(width)
    agree(
        lambda x, w, b: F.layer_norm(x, (width,), w, b, 1e-3),
        x,
        weight,
        bias,
        moving=moving,
        rtol=1e-8,
        atol=1e-9,
    )
    if moving == (0,):
        agree(lambda x: F.layer_norm(x, tuple(x.shape[-2:]), eps=0.1), x, rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("moving", [(0,), (1,), (0, 1)])
@pytest.mark.parametrize("lead", [(), (3,), (2, 3), (0,)])
def test_rms_norm(lead, moving):
    agree(lambda x, w: F.rms_norm(x, (5,), w, 1e-3), drawn(*lead, 5), drawn(5), moving=moving)
    agree(lambda x, w: F.rms_norm(x * w, (5,)), drawn(*lead, 5), drawn(5), moving=moving)


def test_embedding_of_trained_weights_holds_the_padding_row_constant():
    tokens = torch.tensor([[0, 2, 2], [1, 3, 0]])
    agree(lambda w: F.embedding(tokens, w), drawn(4, 3))
    weight = dual(drawn(4, 3))
    out = F.embedding(tokens, weight, padding_idx=0)
    assert out.tangents[0][0, 0].eq(0).all()
    assert out.tangents[0][0, 1].equal(weight.tangents[0][2])


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("count", [1, 2, 7])
def test_cross_entropy(count, reduction):
    labels = torch.arange(count) % 5
    agree(lambda x: F.cross_entropy(x, labels, reduction=reduction), drawn(count, 5))
    ignored = labels.clone()
    ignored[-1] = -100
    if count > 1:
        agree(lambda x: F.cross_entropy(x, ignored, reduction=reduction), drawn(count, 5))


@pytest.mark.parametrize(
    "options",
    [
        {"label_smoothing": 0.1},
        {"weight": torch.tensor([1.0, 2, 3, 4, 5], dtype=torch.float64)},
        {"size_average": False},
        {"reduce": False},
        {"label_smoothing": 0.1, "ignore_index": 4, "reduction": "sum"},
    ],
)
@pytest.mark.filterwarnings("ignore:size_average and reduce args")
def test_cross_entropy_of_the_rarer_kinds(options):
    labels = torch.tensor([0, 4, 2])
    agree(lambda x: F.cross_entropy(x, labels, **options), drawn(3, 5))
    agree(lambda x: F.cross_entropy(x, drawn(3, 5).softmax(-1)), drawn(3, 5))


OPTIONS = [
    {"size_average": False},
    {"size_average": True},
    {"reduce": False},
    {"reduction": "sum"},
    {"ignore_index": 4},
    {"weight": drawn(5, positive=True), "ignore_index": 0},
]


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.filterwarnings("ignore:size_average")
def test_no_option_of_a_loss_is_lost_in_the_rarer_kinds(options):
    labels = torch.tensor([0, 4, 2])
    agree(lambda x: F.cross_entropy(x, labels, **options), drawn(3, 5))
    agree(lambda x: F.nll_loss(x, labels, **options), drawn(3, 5))
    if "weight" not in options and "ignore_index" not in options:
        losses = (F.mse_loss, F.l1_loss, F.smooth_l1_loss, F.kl_div, F.soft_margin_loss)
        for loss in losses:
            agree(lambda x, loss=loss: loss(x, drawn(3, 5, seed=1).sigmoid(), **options), drawn(3, 5))


def test_labels_of_another_number_than_rows_are_an_error_as_in_pytorch():
    with pytest.raises(ValueError, match="batch_size"):
        F.cross_entropy(dual(drawn(3, 5)), torch.tensor([1]))
    with pytest.raises(ValueError, match="not a valid value for reduction"):
        F.cross_entropy(dual(drawn(3, 5)), torch.tensor([1, 2, 3]), reduction="bad")


def test_powers_at_zero():
    exponents = torch.tensor([0.0, 1, 2, 3], dtype=torch.float64)
    zero = torch.zeros(4, dtype=torch.float64)
    agree(torch.pow, zero, exponents, moving=(0,))
    agree(torch.pow, zero, exponents)
    agree(lambda x: x**0 + x**1.0 + x**2 + torch.pow(0.0, x + 1), zero)


def test_bounds_of_clamp_may_move_in_rarer_cases():
    low, high = drawn(3, seed=1) - 1, drawn(2, 3, seed=2) + 1
    agree(lambda x, a, b: torch.clamp(x, a, b) + x.clamp(max=b.mean()), drawn(2, 3), low, high)
    agree(lambda a, b: torch.clamp(drawn(2, 3), min=a).clamp_max(b), low, high)
    agree(lambda x: torch.clamp(input=x, min=low) + torch.clamp(x, max=0.1), drawn(2, 3))


def test_arguments_by_name():
    x, y, z = drawn(3, 4), drawn(4, 2), drawn(3, 2)
    agree(lambda x, y: torch.mm(input=x, mat2=y) + torch.matmul(x, other=y), x, y)
    agree(
        lambda x, y, z: torch.addmm(z, mat2=y, mat1=x) + torch.addmm(input=z, mat1=x, mat2=y, alpha=2),
        x,
        y,
        z,
    )
    agree(lambda x: torch.dot(x[0], tensor=x[1]) + torch.outer(x[0], vec2=x[1]).sum(), x)
    agree(
        lambda x: torch.softmax(x, -1, torch.float32) + torch.log_softmax(x, 0, dtype=torch.float32),
        x,
        rtol=1e-5,
    )
    agree(lambda x: torch.where(condition=x > 0, input=x, other=2 * x) + x[torch.where(x > 0)].sum(), x)
    agree(lambda x: torch.dropout(x, 0.5, train=False) + torch.layer_norm(x, (4,), cudnn_enable=False), x)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_half_precision_stays_near_float64(dtype):
    def block(x, w, g):
        y = F.layer_norm(x, (8,), g)
        y = F.gelu(F.linear(y, w)) @ w
        return F.softmax(x + F.silu(y), -1) * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-3)

    exact = [dual(x) for x in (drawn(4, 8), drawn(16, 8), drawn(8))]
    rough = [Dual(x.primal.to(dtype), [t.to(dtype) for t in x.tangents]) for x in exact]
    want, got = block(*exact), block(*rough)
    assert got.dtype == dtype
    for a, b in zip((want.primal, *want.tangents), (got.primal, *got.tangents), strict=True):
        assert (b.double() - a).norm() <= 30 * torch.finfo(dtype).eps * a.norm()


@pytest.mark.parametrize(
    "function",
    [
        lambda x: torch.full_like(x, x.mean()),
        lambda x: x.new_full((2,), fill_value=x.mean()),
        lambda x: x.view(torch.float32),
        lambda x: F.embedding(torch.tensor([0]), x, scale_grad_by_freq=True),
        lambda x: x.scatter_reduce(0, torch.zeros(1, 3, dtype=torch.long), x[:1], "prod"),
        lambda x: torch.save(x, io.BytesIO()),
        copy.deepcopy,
    ],
)
def test_what_would_lose_the_derivative_without_a_word_is_refused(function):
    with pytest.raises(ModelError):
        function(dual(drawn(2, 3)))


def test_a_copy_of_the_value_counts_as_a_dropped_derivative():
    x = dual(drawn(3))
    with track_fallbacks() as report:
        assert type(x.new_tensor(x)) is torch.Tensor
        assert type(x.new_tensor([1.0])) is torch.Tensor
    assert report.dropped == {"detach": 1}


def test_logcumsumexp_keeps_what_is_far_below_the_largest():
    x, v = torch.tensor([[50.0, -80.0, 100.0, 20.0]], dtype=torch.float64), drawn(1, 4)
    (tangent,) = torch.logcumsumexp(Dual(x, [v]), 1).tangents
    ahead, behind = (torch.logcumsumexp(x + step * v, 1) for step in (1e-5, -1e-5))
    torch.testing.assert_close(tangent, (ahead - behind) / 2e-5, rtol=1e-8, atol=1e-8)
