"""How many floating-point operations a client's round takes, counted and not estimated."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Any

from torch.utils.flop_counter import FlopCounterMode

from spry.core.keys import Key
from spry.experiment.atomic import write_json
from spry.experiment.build import build
from spry.experiment.config import Config, read_config
from spry.experiment.folder import CONFIG
from spry.runtime.rounds import simulate

FILE = "flops.json"


def flops(folder: Path) -> float:
    """Count the operations of matrix products while a client trains for a round, on average over a round's clients.

    A step of each client of the second round is counted: in the first, LoRA's A sleeps. torch's counter does not know
    the CPU's fused attention, which takes about a hundredth of all here.

    Args:
        folder: A run folder, where the count is kept.

    Returns:
        Floating-point operations, counting a multiplication and an addition as two.
    """
    kept = folder / FILE
    if not kept.is_file():
        write_json(kept, {"flops_per_client_round": _counted(read_config(folder / CONFIG))})
    return json.loads(kept.read_text(encoding="utf-8"))["flops_per_client_round"]


def _counted(config: Config) -> float:
    assert config.client.steps is not None
    experiment = build(config.with_settings({"data.test_examples": 1, "client.steps": 1}))
    train, counters = experiment.algorithm.train, list[FlopCounterMode]()

    def counted(*args: Any, **kwargs: Any) -> Any:
        counters.append(FlopCounterMode(display=False))
        with counters[-1]:
            return train(*args, **kwargs)

    schedule = {**experiment.schedule, "rounds": 2, "evaluate_every": 2, "personalized": False}
    algorithm = replace(experiment.algorithm, train=counted)
    for _ in simulate(
        algorithm, experiment.task, experiment.clients, key=Key(config.seed), **schedule
    ):
        pass
    return config.client.steps * fmean(
        counter.get_total_flops() for counter in counters[schedule["clients_per_round"] :]
    )
