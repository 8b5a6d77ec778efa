"""How many floating-point operations a client's round takes, counted and not estimated."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from torch.utils.flop_counter import FlopCounterMode

from spry.core.keys import Key
from spry.experiment.build import build
from spry.experiment.config import Config
from spry.runtime.simulate import Schedule, simulate


def flops(config: Config) -> float:
    """Count the operations of matrix products while one client trains for one round.

    torch's counter does not know the CPU's fused attention, which takes about a hundredth of all here.

    Args:
        config: The run.

    Returns:
        Floating-point operations, counting a multiplication and an addition as two.
    """
    experiment = build(config.with_settings({"data.test_examples": 1}))
    counter = FlopCounterMode(display=False)
    train = experiment.algorithm.train

    def counted(*args: Any, **kwargs: Any) -> Any:
        with counter:
            return train(*args, **kwargs)

    once = Schedule(rounds=1, clients_per_round=1, personalized=False)
    algorithm = replace(experiment.algorithm, train=counted)
    for _ in simulate(algorithm, experiment.task, experiment.clients, key=Key(config.seed), schedule=once):
        pass
    return float(counter.get_total_flops())
