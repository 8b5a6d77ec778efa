"""The linear layer over a frozen weight that is kept packed, in 4 or 8 bits: ``y = x W' + b``.

``W`` is dequantised by tiles of its rows, which are outputs, so a dequantised layer never exists whole. A tile serves
the value and all derivatives before the next one is made. Whoever differentiates the layer, in whatever mode, gets the
derivative by its input and its bias; the weight is a constant.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.overrides import handle_torch_function, has_torch_function

from spry.forward.chunking import TILE, by_device


class Packed(Protocol):
    """A frozen weight of shape (N, D) that can be dequantised some rows at a time.

    Args:
        shape: (N, D): outputs and inputs.
        unit: Rows that are packed together: a tile starts at a multiple of it.
        device: Where it lies.
    """

    @property
    def shape(self) -> tuple[int, int]: ...
    @property
    def unit(self) -> int: ...
    @property
    def device(self) -> torch.device: ...

    def rows(self, start: int, stop: int, dtype: torch.dtype) -> Tensor:
        """Dequantise the rows from ``start`` to before ``stop``, shape (stop - start, D)."""
        ...


def packed_linear(input: Tensor, weight: Packed, bias: Tensor | None = None) -> Tensor:
    """Compute ``x W' + b`` in the input's type, shape (..., N), from an input of shape (..., D).

    Input and bias may be plain tensors or dual numbers, and may require grad.
    """
    if has_torch_function((input, bias)):
        return handle_torch_function(packed_linear, (input, bias), input, weight, bias)
    return _Product.apply(input, weight, bias)  # pyright: ignore[reportReturnType]


def packed_products(inputs: Sequence[Tensor], weight: Packed) -> list[Tensor]:
    """Compute ``x W'`` for inputs of one shape (..., D), with one dequantisation for all of them; each (..., N)."""
    flat = [x.reshape(-1, x.shape[-1]) for x in inputs]
    outs = [x.new_empty(x.shape[0], weight.shape[0]) for x in flat]
    for part, tile in tiles(weight, inputs[0].dtype):
        for x, out in zip(flat, outs, strict=True):
            torch.mm(x, tile.T, out=out[:, part])
        del tile  # or it would live until the next one is made
    return [out.view(*x.shape[:-1], weight.shape[0]) for x, out in zip(inputs, outs, strict=True)]


def tiles(weight: Packed, dtype: torch.dtype) -> Iterator[tuple[slice, Tensor]]:
    """Dequantise a weight tile by tile; yields the rows' range and the tile, shape (rows, D)."""
    count, width = weight.shape
    most = by_device(TILE, weight.device) // (width * dtype.itemsize)
    step = max(weight.unit, most // weight.unit * weight.unit)
    for start in range(0, count, step):
        stop = min(start + step, count)
        yield slice(start, stop), weight.rows(start, stop, dtype)


class _Product(torch.autograd.Function):
    """``x W' + b``; keeps nothing for the backward pass but the packed weight."""

    @staticmethod
    def forward(input: Tensor, weight: Packed, bias: Tensor | None) -> Tensor:
        (out,) = packed_products([input], weight)
        return out if bias is None else out.add_(bias)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        input, ctx.weight, bias = inputs
        ctx.shape, ctx.biased = input.shape, bias is not None

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Any) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Compute ``g W`` and, for a bias that is trained, the sum of g over all rows."""
        grad = grads[0].reshape(-1, grads[0].shape[-1])
        by_input = _back(grad, ctx.weight).view(ctx.shape) if ctx.needs_input_grad[0] else None
        by_bias = grad.sum(0) if ctx.biased and ctx.needs_input_grad[2] else None
        return by_input, None, by_bias

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> Any:
        """Let PyTorch's own forward mode through, which Spry's engine is compared with."""
        input, _, bias = tangents
        out = None if input is None else packed_linear(input, ctx.weight)
        return bias if out is None else out if bias is None else out + bias


def _back(grad: Tensor, weight: Packed) -> Tensor:
    """``g W``, summed over the tiles in float32 at least."""
    wide = torch.promote_types(grad.dtype, torch.float32)
    total = grad.new_zeros(grad.shape[0], weight.shape[1], dtype=wide)
    for part, tile in tiles(weight, grad.dtype):
        if wide == grad.dtype:
            total.addmm_(grad[:, part], tile)
        else:
            total += grad[:, part] @ tile
        del tile
    return total.to(grad.dtype)
