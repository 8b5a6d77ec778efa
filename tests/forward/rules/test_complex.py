"""Complex numbers on the way from real weights to a real loss carry their derivatives."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from tests.forward.reference import CHUNKS, agree, drawn, dual, use_chunks

from spry.core.errors import ModelError
from spry.forward import jvp


@pytest.fixture(autouse=True, params=CHUNKS)
def _sizes(request, monkeypatch):
    use_chunks(monkeypatch, request.param)


def rotary(x, y):
    """Llama 4's rotation: pairs of features as complex numbers, times unit ones."""
    pairs = torch.view_as_complex(x.float().reshape(*x.shape[:-1], -1, 2))
    turned = pairs * torch.polar(torch.ones_like(y), y)[..., None]
    return torch.view_as_real(turned).flatten(2).type_as(x)


FUNCTIONS = [
    lambda x, y: torch.fft.rfft(x).real.square() + torch.fft.rfft(y).imag,
    lambda x, y: torch.fft.fftn(F.gelu(x).float(), dim=(0, 1)).real,
    lambda x, y: torch.fft.irfft(torch.fft.rfft(x * y), n=4),
    lambda x, y: torch.complex(x, y).abs(),
    lambda x, y: torch.view_as_real(torch.view_as_complex(torch.stack([x, y], -1)) * 1j) ** 2,
    lambda x, y: x.to(torch.complex128).real * y.cdouble().imag,
    lambda x, y: ((x * 1j).exp().conj() * y).imag + F.gelu(x),
    lambda x, y: torch.polar(x.exp(), y).angle(),
    lambda x, y: (torch.complex(x, y) @ torch.complex(y, x).mH).real,
    lambda x, y: torch.complex(x, y).square().sqrt().sgn().real + torch.complex(x, y).tanh().imag,
    lambda x, y: (
        torch.complex(x, y).pow(3).sum(-1).real + torch.complex(x, y).reciprocal().mean(0).imag.sum()
    ),
]


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize("moving", [(0,), (0, 1)])
def test_complex_numbers_carry_the_derivative(function, moving):
    agree(function, drawn(3, 4), drawn(3, 4, seed=1), moving=moving, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("moving", [(0,), (1,), (0, 1)])
def test_rotation_by_complex_numbers(moving):
    agree(rotary, drawn(2, 3, 4), drawn(2, 3), moving=moving, rtol=1e-5, atol=1e-6)


def test_a_complex_loss_is_refused():
    with pytest.raises(ModelError, match="must be a real number"):
        jvp(lambda p: torch.fft.fft(p["w"]).sum(), {"w": drawn(3)}, [{"w": drawn(3)}])


def test_the_parts_of_a_complex_number_are_not_written_to():
    z = torch.complex(dual(drawn(3)), dual(drawn(3)))
    with pytest.raises(ModelError, match="real"):
        z.real = drawn(3)
