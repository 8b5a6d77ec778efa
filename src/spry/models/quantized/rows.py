"""What bitsandbytes and torchao keep of a weight, dequantised some rows at a time."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from math import gcd
from typing import Any, cast

import torch
from torch import Tensor, nn

from spry.forward.packed import Packed

_FOUR_BITS = 0xF
_NATIVE = frozenset({torch.float32, torch.bfloat16, torch.float16})
"""Types that bitsandbytes writes; it leaves the memory of any other as it was."""


def packed_of(module: nn.Module) -> Packed | None:
    """Find the packed weight of a linear layer of bitsandbytes or torchao; None for any other module."""
    weight: Any = dict(module.named_parameters(recurse=False)).get(
        "weight"
    )  # adapters show their base's, too
    kind = type(weight).__name__
    if kind == "Params4bit" and weight.quant_state is not None:
        return FourBitFloat(weight)
    if kind == "Int8Params" and weight.dtype == torch.int8:
        return EightBitInteger(weight, cast(Any, module).state)
    if kind == "Int4OpaqueTensor" and weight.act_mapping_type is None and weight.act_pre_scale is None:
        return FourBitInteger(weight)
    return None


def kept_tensors(weight: Tensor) -> list[Tensor]:
    """List the tensors that a weight is kept in: itself, or its numbers and scales where it is packed."""
    names = getattr(weight, "tensor_data_names", None)
    if names is not None:  # torchao's wrapper has no memory of its own
        return [getattr(weight, name) for name in names]
    state = getattr(weight, "quant_state", None)
    nested = getattr(state, "state2", None)
    scales = [getattr(s, n, None) for s in (state, nested) for n in ("absmax", "code", "offset")]
    return [weight, *(x for x in (*scales, getattr(weight, "SCB", None)) if isinstance(x, Tensor))]


@dataclass(frozen=True, eq=False)
class FourBitFloat:
    """bitsandbytes' 4 bits: ``w = code[q] s`` with a scale for each ``blocksize`` weights, in 8 bits where nested.

    Source:
        Dettmers et al. 2023 (QLoRA, arXiv 2305.14314), section 3.
    """

    weight: Any

    @property
    def shape(self) -> tuple[int, int]:
        return tuple(self.weight.quant_state.shape)

    @property
    def unit(self) -> int:
        block = self.weight.quant_state.blocksize
        return block // gcd(block, self.shape[1])

    @property
    def device(self) -> torch.device:
        return self.weight.device

    def rows(self, start: int, stop: int, dtype: torch.dtype) -> Tensor:
        state, width = self.weight.quant_state, self.shape[1]
        block = state.blocksize
        packed = self.weight.data.view(torch.uint8).reshape(-1)[start * width // 2 : (stop * width + 1) // 2]
        scales = self._scales(start * width // block, -(-stop * width // block))
        native = dtype if dtype in _NATIVE else torch.float32
        flat = (
            1,
            (stop - start) * width,
        )  # bitsandbytes 0.50 on the CPU mixes up scales where width % block != 0
        unpack = torch.ops.bitsandbytes.dequantize_4bit
        whole = unpack(packed.unsqueeze(1), scales, block, state.quant_type, flat, native)
        return whole.view(stop - start, width).to(dtype)

    def _scales(self, first: int, last: int) -> Tensor:
        """The float32 scales of some blocks; nested ones are ``code2[s] s2 + offset``."""
        state = self.weight.quant_state
        scales = state.absmax[first:last]
        if not state.nested:
            return scales.float()
        outer = state.state2
        block = torch.arange(first, last, device=scales.device) // outer.blocksize
        return outer.code[scales.int()] * outer.absmax[block] + state.offset


@dataclass(frozen=True, eq=False)
class EightBitInteger:
    """bitsandbytes' 8 bits: ``w = q s / 127`` with the largest magnitude s of each row.

    Spry takes activations as they are, where bitsandbytes' own layer rounds them to 8 bits, too, and has no slope.

    Source:
        Dettmers et al. 2022 (LLM.int8(), arXiv 2208.07339), section 2.
    """

    weight: Any
    state: Any
    unit: int = 1

    @property
    def shape(self) -> tuple[int, int]:
        return tuple(self.weight.shape)

    @property
    def device(self) -> torch.device:
        return self.weight.device

    def rows(self, start: int, stop: int, dtype: torch.dtype) -> Tensor:
        largest = self.weight.SCB if self.weight.SCB is not None else self.state.SCB
        scales = largest[start:stop, None].to(torch.promote_types(dtype, torch.float32)) / 127
        return self.weight.data[start:stop].to(dtype).mul_(scales.to(dtype))


@dataclass(frozen=True, eq=False)
class FourBitInteger:
    """torchao's 4 bits on the CPU: ``w = (q - 8) s + z`` with a scale and a zero for each group of a row."""

    weight: Any

    @property
    def shape(self) -> tuple[int, int]:
        return tuple(self.weight.shape)

    @property
    def unit(self) -> int:
        return _block_rows()

    @property
    def device(self) -> torch.device:
        return self.weight.qdata.device

    def rows(self, start: int, stop: int, dtype: torch.dtype) -> Tensor:
        width, block = self.shape[1], _block_rows()
        whole = (stop - start) // block * block
        parts = [
            _unpacked(self.weight.qdata[a:b].reshape(-1, width, rows // 2))
            for a, b, rows in ((start, start + whole, block), (start + whole, stop, stop - start - whole))
            if b > a
        ]
        numbers = (parts[0] if len(parts) == 1 else torch.cat(parts)).to(dtype)
        scale, zero = self.weight.scale_and_zero[:, start:stop].to(dtype).permute(2, 1, 0).unsqueeze(-1)
        grouped = numbers.view(stop - start, -1, self.weight.block_size[-1])
        return grouped.sub_(8).mul_(scale).add_(zero).view(stop - start, width)


def _unpacked(blocks: Tensor) -> Tensor:
    """Unpack blocks of n rows, shape (blocks, D, n / 2), to their numbers, shape (blocks n, D)."""
    halves = torch.cat([blocks & _FOUR_BITS, blocks >> 4], dim=-1)
    return halves.mT[:, _order(halves.shape[-1])].reshape(-1, blocks.shape[1])


@cache
def _block_rows() -> int:
    """Rows that PyTorch packs together, which depends on the processor: the least that can be packed apart."""
    for rows in (16, 32):
        column = torch.arange(64, dtype=torch.int32).unsqueeze(1).expand(64, 16) % 16
        together = _pack(column.contiguous())
        apart = torch.cat([_pack(part.contiguous()) for part in column.split(rows)])
        if torch.equal(together, apart):
            return rows
    return 64


@cache
def _order(rows: int) -> Tensor:
    """Where the rows of one block lie among its low and high halves: found by packing the rows' own numbers."""
    bits = torch.arange(16, dtype=torch.int32)
    own = (torch.arange(rows, dtype=torch.int32).unsqueeze(1) >> bits) & 1
    packed = _pack(own.contiguous()).reshape(16, rows // 2).int()
    lying = torch.cat([packed & _FOUR_BITS, packed >> 4], dim=-1)
    return (lying << bits.unsqueeze(1)).sum(0).argsort()


def _pack(numbers: Tensor) -> Tensor:
    return torch.ops.aten._convert_weight_to_int4pack_for_cpu(numbers, 1)
