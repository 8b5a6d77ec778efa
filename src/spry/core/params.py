"""Trainable weights as immutable values: names mapped to tensors, and the few operations on them.

``Params`` holds the small, trainable part of a model (about 1 %). Nothing here writes into a tensor it was given.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping

import torch
from torch import Tensor

Params = Mapping[str, Tensor]
"""Names mapped to tensors, in the order in which the model defines them."""
METHODS_OWN = "method:"
"""What names begin with of weights that a method trains beside those of the model, such as a policy."""


def tree_map(function: Callable[..., Tensor], first: Params, *others: Params) -> dict[str, Tensor]:
    """Apply a function to the tensors of each name in ``first``; the others must hold these names, too."""
    return {name: function(value, *(other[name] for other in others)) for name, value in first.items()}


def leaf(weight: Tensor) -> Tensor:
    """Copy a weight so that autograd gives the gradient by the copy."""
    return weight.detach().clone().requires_grad_()


def restrict(params: Params, names: Iterable[str]) -> dict[str, Tensor]:
    """Keep the named tensors only, shared and in the order of ``params``; an unknown name is a KeyError."""
    kept = set(names)
    missing = kept - params.keys()
    if missing:
        raise KeyError(f"no weights named {sorted(missing)}; there are {sorted(params)}")
    return {name: value for name, value in params.items() if name in kept}


def without_own(params: Params) -> dict[str, Tensor]:
    """Leave out the weights that are a method's own, which no model is given."""
    return {name: value for name, value in params.items() if not name.startswith(METHODS_OWN)}


def merge(base: Params, part: Params) -> dict[str, Tensor]:
    """Replace tensors of ``base`` by those of the same name in ``part``, whose names must all be in ``base``."""
    assert part.keys() <= base.keys(), sorted(part.keys() - base.keys())
    return {name: part.get(name, value) for name, value in base.items()}


def add(params: Params, updates: Params) -> dict[str, Tensor]:
    """Add updates to the weights they name, ``w + u``; the other weights stay."""
    return merge(params, {name: params[name] + update for name, update in updates.items()})


def dot(left: Params, right: Params) -> float:
    """Inner product over the tensors of ``left``, ``sum_n <left_n, right_n>``, summed in float64."""
    return float(sum((left[n].double() * right[n].double()).sum() for n in left))


def nbytes(params: Params) -> int:
    """Bytes of the values, ``sum_n numel_n * itemsize_n``."""
    return sum(value.numel() * value.element_size() for value in params.values())


def size(params: Params) -> int:
    """Count the scalar weights, ``sum_n numel_n``: the ``d`` of the estimators' error formulas."""
    return sum(value.numel() for value in params.values())


def digest(params: Params, length: int) -> bytes:
    """Hash names and bits of all tensors to 1 to 64 bytes of BLAKE2b, so that two sides can compare theirs."""
    hashed = hashlib.blake2b(digest_size=length, person=b"spry-params")
    for name, value in params.items():
        hashed.update(name.encode())
        hashed.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return hashed.digest()
