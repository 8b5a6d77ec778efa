"""The stage after the last round: local tuning of every client, in a file of its own and in a few numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from spry.core.params import Params
from spry.experiment.atomic import write_json
from spry.experiment.build import Experiment
from spry.experiment.config import Config
from spry.federated.algorithm import ServerState
from spry.runtime.local_tuning import ShareTuning, Tuned, tune_locally
from spry.tasks.score import Score
from spry.tasks.task import Metrics, details

LOCAL_TUNING = "local_tuning.json"
"""The file of a run folder that tells of each client."""
STAGES = ("before", "after", "own")


def tune_and_write(
    config: Config,
    experiment: Experiment,
    state: ServerState,
    weights: Params,
    folder: Path,
    share: ShareTuning | None = None,
) -> dict[str, Any] | None:
    """Tune all clients as ``schedule.local_tuning`` says, write what each gained, and sum it up; None if it is 0.

    Args:
        share: Who does it; this process, without one.
    """
    steps = config.schedule.local_tuning
    (folder / LOCAL_TUNING).unlink(missing_ok=True)  # of fewer rounds, or other steps
    if not steps:
        return None
    tuned = list(
        tune_locally(
            experiment.algorithm,
            experiment.task,
            experiment.clients,
            state,
            weights,
            steps=steps,
            key=experiment.key,
            share=share,
        )
    )
    score = experiment.task.score
    clients = [_client(one, score) for one in tuned]
    write_json(folder / LOCAL_TUNING, {"schema": 1, "steps": steps, "score": score.name, "clients": clients})
    return {"steps": steps, **_summary(tuned, score)}


def _client(tuned: Tuned, score: Score) -> dict[str, Any]:
    told = {
        "client": tuned.client,
        "examples": tuned.examples,
        "held_out": tuned.before.examples,
        "failed": tuned.failed,
        **{stage: _score(getattr(tuned, stage), score) for stage in STAGES},
    }
    return told if tuned.own is None else {**told, "own_details": dict(details(tuned.own))}


def _summary(tuned: Sequence[Tuned], score: Score) -> Mapping[str, Any]:
    """Scores over all held-out examples of the clients whose training did not break down, and who gained."""
    whole = [one for one in tuned if one.failed is None]
    pairs = [(_score(one.before, score), _score(one.after, score)) for one in whole]
    known = [(before, after) for before, after in pairs if before is not None and after is not None]
    return {
        "clients": len(whole),
        "failed": len(tuned) - len(whole),
        "held_out": sum(one.before.examples for one in whole),
        **{stage: _score(_sum([getattr(one, stage) for one in whole]), score) for stage in STAGES},
        "better": sum(score.better(after, before) for before, after in known),
        "worse": sum(score.better(before, after) for before, after in known),
    }


def _score(metrics: Metrics | None, score: Score) -> float | None:
    return None if metrics is None or not metrics.examples else metrics.values()[score.name]


def _sum(parts: Sequence[Metrics | None]) -> Metrics | None:
    known = [part for part in parts if part is not None]
    return sum(known[1:], start=known[0]) if known else None
