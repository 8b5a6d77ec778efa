"""What is known of the methods by their names alone, without building them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

BACKPROPAGATING = frozenset({"fedavg", "fedyogi", "fedsgd", "fedavg_split", "fedyogi_split", "local"})
"""Methods of which a reader must be told whether they recompute activations instead of keeping them."""

BOUNDS = frozenset({"head_only", "head_only_per_iteration", "local"})
"""Methods that are no rivals but bounds: on training the body at all, and on taking part in a federation."""


@dataclass(frozen=True, kw_only=True)
class Steps:
    """Who steps in a method, and by which optimizer if the user names none.

    Args:
        client: The optimizer of local steps; None if clients take none.
        server: The server's optimizer; None if the server takes no step.
    """

    client: str | None
    server: str | None

    @property
    def side(self) -> Literal["client", "server"]:
        """Whose step size matters most: the clients' if they step, else the server's."""
        return "client" if self.client else "server"


STEPS: Mapping[str, Steps] = {
    "spry": Steps(client="adamw", server="yogi"),
    "spry_per_iteration": Steps(client=None, server="yogi"),
    "fedavg": Steps(client="adamw", server="sgd"),
    "fedyogi": Steps(client="adamw", server="yogi"),
    "fedsgd": Steps(client=None, server="sgd"),
    "fedavg_split": Steps(client="adamw", server="sgd"),
    "fedyogi_split": Steps(client="adamw", server="yogi"),
    "fedfgd": Steps(client="adamw", server="yogi"),
    "fedmezo": Steps(client="sgd", server="sgd"),
    "baffle": Steps(client=None, server="sgd"),
    "fwdllm": Steps(client=None, server="sgd"),
    "head_only": Steps(client="adamw", server="sgd"),
    "head_only_per_iteration": Steps(client=None, server="yogi"),
    "local": Steps(client="adamw", server=None),
}
