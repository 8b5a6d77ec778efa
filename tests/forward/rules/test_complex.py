"""Complex numbers carry derivatives: transforms, rotations by complex products, and the ways from real and back."""

from __future__ import annotations

import pytest
import torch
from tests.forward.reference import CHUNKS, agree, drawn, use_chunks

from spry.forward import Dual, jvp


@pytest.fixture(autouse=True, params=CHUNKS)
def _chunks(request, monkeypatch):
    use_chunks(monkeypatch, request.param)


def rotated(x):
    """Rotary embedding as Llama 4 writes it."""
    angles = torch.polar(torch.ones(3, 2, dtype=torch.float64), drawn(3, 2))
    pairs = torch.view_as_complex(x.float().double().reshape(*x.shape[:-1], -1, 2))
    return torch.view_as_real(pairs * angles[:, None]).flatten(3)


@pytest.mark.parametrize(
    "function",
    [
        lambda x: torch.fft.rfft(x).real + torch.fft.rfft(x).imag,
        lambda x: torch.fft.fftn(x.to(torch.complex128), dim=(0, 2)).real,
        lambda x: torch.fft.irfft(torch.fft.rfft(x)),
        lambda x: torch.complex(x, 2 * x).abs(),
        lambda x: torch.polar(x, x).angle(),
        lambda x: torch.view_as_real(torch.view_as_complex(x.reshape(3, 2, 2, 2)) * 1j),
        lambda x: (x * 1j).exp().conj().imag,
        lambda x: torch.tanh(x * (1 + 2j)) / (x + 3j) ** 2,
        lambda x: torch.complex(x, x).sgn().real,
        lambda x: (x.to(torch.complex128) @ x.to(torch.complex128).mH).sum(-1),
        rotated,
    ],
)
def test_complex(function):
    agree(function, drawn(3, 2, 4), rtol=1e-5 if function is rotated else 1e-10)


def test_an_integer_result_carries_none():
    out = []
    jvp(
        lambda p: out.extend([p["w"].long(), p["w"] > 0, p["w"].argmax()]) or p["w"].sum(),
        {"w": drawn(3)},
        [{"w": drawn(3)}],
    )
    assert not any(isinstance(x, Dual) for x in out)
