"""The methods: one file a family, each method with its own options; ``spry.methods.fedavg(units)`` makes one."""

from __future__ import annotations

# each module registers its methods when it is imported; the order is that of lists and tables
from spry.federated.methods import forward_gradient, residual, backpropagation, zeroth_order  # isort: skip
from spry.federated.methods import fwdllm, head_only, local  # isort: skip
from spry.federated.methods.registry import METHODS, MethodInfo, Options, Setup, find_method, method

FAMILIES = (forward_gradient, residual, backpropagation, zeroth_order, fwdllm, head_only, local)
"""The modules that registered the methods."""

__all__ = ["FAMILIES", "METHODS", "MethodInfo", "Options", "Setup", "find_method", "method"]
