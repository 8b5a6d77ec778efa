"""Optimizers as pure functions, the same on client and server."""

from spry.optim.named import OPTIMIZERS, Named, optimizer
from spry.optim.rules import adagrad, adam, adamw, clip, schedule, sgd, warmup_linear, yogi
from spry.optim.transform import Transform, chain, scaled

__all__ = [
    "OPTIMIZERS",
    "Named",
    "Transform",
    "adagrad",
    "adam",
    "adamw",
    "chain",
    "clip",
    "optimizer",
    "scaled",
    "schedule",
    "sgd",
    "warmup_linear",
    "yogi",
]
