"""The rows of the comparison: what each method sets, and what it may try."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Row:
    """One method as it is compared.

    Args:
        title: Its name in tables.
        method: The method and its options.
        settings: What else is set for it.
        body: Four step sizes in their order; the setting that they are for is ``stepper``. See ``tries``.
        stepper: Who steps.
        trials: The row whose trials choose its step size; its own if empty.
    """

    title: str
    method: Mapping[str, Any]
    settings: Mapping[str, Any] = field(default_factory=dict)
    body: Sequence[float] = (1e-3, 3e-3, 1e-2, 3e-2)
    stepper: str = "client"
    trials: str = ""

    def tries(self, alpha: float) -> Sequence[float]:
        """The three step sizes that it tries: the larger ones where clients are alike, for skew bears less."""
        return self.body[1:] if alpha >= 1 else self.body[:-1]


HEADS = (0.0, 0.01, 0.1)
"""Factors that the head's step size may have, 0 keeps it in closed form."""
ADAMW = {"client.optimizer": "adamw"}
ADAM = {"client.optimizer": None, "server.optimizer": "adam"}
RANK_ONE = {"peft.rank": 1, "peft.alpha": 1.0}
BLOCK = (
    "attention.self.query", "attention.self.key", "attention.self.value", "attention.output.dense",
    "intermediate.dense", "output.dense",
)  # fmt: skip
FEW = {
    "peft.kind": "lora_xs",
    "peft.rank": 4,
    "peft.alpha": 4.0,
    "peft.exact": "head",
    "peft.targets": [f"layer.5.{name}" for name in BLOCK],
}
"""96 numbers in MiniLM's last block. Tune with ``--body-only``: a head that moves would be backpropagated."""
ROWS: Mapping[str, Row] = {
    "last_block": Row(title="last block", method={"name": "head_only"}, settings=ADAMW),
    "last_block_1": Row(
        title="last block, rank 1", method={"name": "head_only"}, settings={**ADAMW, **RANK_ONE}
    ),
    "identity": Row(title="identity", method={"name": "residual"}, settings=ADAMW),
    "identity_2": Row(
        title="identity, 2 blocks a step", method={"name": "residual", "blocks_per_step": 2}, settings=ADAMW
    ),
    "mlp": Row(title="mlp", method={"name": "residual", "guess": "mlp"}, settings=ADAMW),
    "full": Row(
        title="full, on a tape",
        method={"name": "residual", "guess": "full"},
        settings=ADAMW,
        trials="fedavg",
    ),
    "full_drawn": Row(
        title="full, to a drawn depth",
        method={"name": "residual", "guess": "full", "blocks_per_step": "drawn"},
        settings=ADAMW,
        trials="fedavg",
    ),
    "identity_server": Row(
        title="identity, split, server steps",
        method={"name": "residual", "clients_step": False, "split": "contiguous"},
        settings=ADAM,
        stepper="server",
    ),
    "fedavg": Row(title="FedAvg + checkpointing", method={"name": "fedavg"}, settings=ADAMW),
    "fedsgd_adam": Row(
        title="FedSGD, Adam + checkpointing",
        method={"name": "fedsgd"},
        settings=ADAM,
        body=(3e-4, 1e-3, 3e-3, 1e-2),
        stepper="server",
    ),
    "spry": Row(title="Spry (weights)", method={"name": "spry"}, settings={**ADAMW, **RANK_ONE}),
    "fedmezo": Row(
        title="FedMeZO (weights)",
        method={"name": "fedmezo"},
        settings={"client.optimizer": "sgd", **RANK_ONE},
        body=(1e-4, 1e-3, 1e-2, 1e-1),
    ),
    "spry_few": Row(
        title="Spry (few dimensions)",
        method={"name": "spry_per_iteration", "num_directions": 16, "split": "everything"},
        settings={**ADAM, **FEW},
        body=(6e-3, 2e-2, 6e-2, 1e-1),
        stepper="server",
    ),
    "fedmezo_few": Row(
        title="FedMeZO (few dimensions)",
        method={"name": "fedmezo", "num_directions": 16, "send": "slopes"},
        settings={"client.optimizer": "sgd", **FEW},
        body=(1e-2, 3e-2, 1e-1, 3e-1),
    ),
    "fwdllm": Row(
        title="FwdLLM",
        method={"name": "fwdllm", "threshold": 1e-5},
        settings={"client.optimizer": None, "server.optimizer": "sgd", **RANK_ONE},
        body=(0.01, 0.03, 0.1, 0.3),
        stepper="server",
    ),
}
"""By name, in the order of the tables. The head alone is every run's own start."""
