"""Check the engine's slopes on this device: tiny architectures in several dtypes, against autograd.

In half precision autograd itself is off; so both are compared with autograd in float64 on the same (in 4 bits: the
dequantised) weights, and the engine may not be worse than a small multiple of autograd.

    python benchmarks/gpu_checks.py [--device cuda]
"""

from __future__ import annotations

import argparse
import copy
import sys
import traceback
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn

from spry.core.keys import Key
from spry.core.params import Params, dot
from spry.forward import call, jvp
from spry.profile.architectures import ARCHITECTURES
from spry.profile.random_model import build_model, example_batch

NAMES = ("minilm", "roberta-base", "distilbert", "albert-large", "gpt2", "opt-125m", "llama-1k")
DTYPES = ("float64", "float32", "bfloat16", "float16")
DIRECTIONS = 4
LIMIT = {"float64": 1e-10, "float32": 1e-4}
"""Largest relative error allowed against float64; in half precision, four times autograd's own or 3 %. Llama in
float64 may be off by 1e-7: its norms and rotary embeddings compute in float32 whatever the dtype."""


def trained(model: nn.Module) -> dict[str, Tensor]:
    """List the trained weights."""
    return {name: weight for name, weight in model.named_parameters() if weight.requires_grad}


def draw(model: nn.Module) -> list[Params]:
    """Draw the directions."""
    weights = trained(model).items()
    keys = [Key(1).fold(k) for k in range(DIRECTIONS)]
    return [{name: key.normal(name, tuple(w.shape), w) for name, w in weights} for key in keys]


def by_autograd(model: nn.Module, batch: dict[str, Tensor], directions: list[Params]) -> Tensor:
    """Compute ``<g, v_k>`` by backpropagation."""
    weights = trained(model)
    gradients = torch.autograd.grad(model(**batch).loss, list(weights.values()))
    found = dict(zip(weights, gradients, strict=True))
    return torch.tensor([dot(found, direction) for direction in directions], dtype=torch.float64)


def by_engine(model: nn.Module, batch: dict[str, Tensor], directions: list[Params]) -> Tensor:
    """Compute the slopes by ``spry.forward``."""
    _, slopes = jvp(lambda params: call(model, params, **batch).loss, trained(model), directions)
    return slopes.detach().double().cpu()


def error(found: Tensor, exact: Tensor) -> float:
    """Relative error over all directions."""
    return float((found - exact).norm() / exact.norm())


def double(model: nn.Module) -> nn.Module:
    """Copy a model into float64, its quantised layers as ordinary ones."""
    twin = copy.deepcopy(model)
    for path, module in list(twin.named_modules()):
        if type(module).__name__ != "Linear4bit" or not hasattr(module, "quant_state"):
            continue
        from bitsandbytes.functional import dequantize_4bit

        plain = nn.Linear(module.in_features, module.out_features, module.bias is not None, device="meta")
        weight = dequantize_4bit(module.weight.data, module.weight.quant_state)
        plain.weight, plain.bias = nn.Parameter(weight, requires_grad=False), module.bias
        parent, _, name = path.rpartition(".")
        setattr(twin.get_submodule(parent), name, plain)
    return twin.double()


def batch_of(model: nn.Module, padded: bool) -> dict[str, Tensor]:
    """Draw a batch, the second row padded to its half if asked."""
    batch = example_batch(model, 3, 33)
    if padded:
        batch["attention_mask"][1, 16:] = 0
    return batch


def check(name: str, kind: str, device: str, padded: bool) -> tuple[bool, str]:
    """Compare engine and autograd on one small model.

    Returns:
        Whether the engine is right, and a line that says so.
    """
    dtype = torch.bfloat16 if kind == "4-bit" else getattr(torch, kind)
    model = build_model(
        name, layers=2, device=device, dtype=dtype, quantization="nf4" if kind == "4-bit" else None
    )
    batch, directions = batch_of(model, padded), draw(model)
    engine, tape = by_engine(model, batch, directions), by_autograd(model, batch, directions)
    twin = double(model)
    exact = by_autograd(twin, batch, [{n: v.double() for n, v in d.items()} for d in directions])
    ours, theirs = error(engine, exact), error(tape, exact)
    limit = 1e-7 if (name, kind) == ("llama-1k", "float64") else LIMIT.get(kind, max(0.03, 4 * theirs))
    return ours <= limit, f"engine {ours:.1e}  autograd {theirs:.1e}"


def attempt(work: Callable[[], tuple[bool, str]]) -> tuple[bool, str]:
    """Run one check; an error is a failed check with its last line."""
    try:
        return work()
    except Exception as problem:  # one broken row must not hide the others
        where = traceback.extract_tb(problem.__traceback__)[-1]
        return (
            False,
            f"{type(problem).__name__}: {str(problem)[:200]} ({where.filename.split('/')[-1]}:{where.lineno})",
        )


def main() -> None:
    """Check all models and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--models", default=",".join(NAMES))
    options = parser.parse_args()
    names = [name for name in options.models.split(",") if name in ARCHITECTURES]
    failed = 0
    for name in names:
        for kind in (*DTYPES, "4-bit"):
            if kind == "4-bit" and name == "gpt2":
                continue  # its projections are Conv1D, which bitsandbytes does not quantise
            for padded in (False, True):
                right, line = attempt(partial(check, name, kind, options.device, padded))
                failed += not right
                mark = "ok  " if right else "FAIL"
                print(f"{mark} {name:<13} {kind:<9} {'padded' if padded else 'full':<7} {line}", flush=True)
    print(f"{failed} failed on {options.device}, torch {torch.__version__}")
    sys.exit(failed > 0)


if __name__ == "__main__":
    main()
