"""One run, from a configuration to a run folder; killed at any moment, it goes on from its last checkpoint."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from spry.core.errors import CheckpointError
from spry.core.params import restrict, size
from spry.core.units import names_of
from spry.experiment import checkpoint, log
from spry.experiment.atomic import replace_file, write_json
from spry.experiment.build import build
from spry.experiment.config import Config, load
from spry.experiment.provenance import provenance
from spry.experiment.summary import Facts, summarize
from spry.federated.ema import delivered
from spry.runtime.records import Round
from spry.runtime.rounds import simulate

CONFIG, META, SUMMARY, ADAPTER = "config.toml", "meta.json", "summary.json", "adapter"


@dataclass(frozen=True, kw_only=True)
class Started:
    """What is known once model and data are loaded.

    Args:
        config: The configuration.
        folder: The run folder.
        clients: How many clients there are.
        trainable_clients: How many of them have training examples.
        units: How many units are dealt, the head left out.
        trainable_weights: How many scalar weights are trained.
        resumed_at: Rounds that were already done.
    """

    config: Config
    folder: Path
    clients: int
    trainable_clients: int
    units: int
    trainable_weights: int
    resumed_at: int


def run(config: Config, folder: Path, *, resume: bool = False) -> Iterator[Started | Round]:
    """Run a configuration, writing its run folder as it goes.

    Args:
        config: The configuration.
        folder: The run folder; made if it is not there.
        resume: Whether to go on from the folder's checkpoint, if it has one.

    Yields:
        First what was started, then each finished round.

    Raises:
        CheckpointError: If the folder holds another run, or a checkpoint cannot be written or read.
    """
    _claim(config, folder, resume=resume)
    experiment = build(config)
    state = experiment.algorithm.init(experiment.task.init())
    if resume and checkpoint.exists(folder):
        state = checkpoint.read(folder, state)
    log.rewind(folder, state.round)
    facts = Facts(
        score=experiment.task.score,
        trainable_weights=size(restrict(state.weights, names_of(experiment.algorithm.units))),
    )
    yield Started(
        config=config,
        folder=folder,
        clients=len(experiment.clients.clients),
        trainable_clients=len(experiment.clients.trainable()),
        units=sum(not unit.head for unit in experiment.algorithm.units),
        trainable_weights=facts.trainable_weights,
        resumed_at=state.round,
    )
    for record in simulate(
        experiment.algorithm,
        experiment.task,
        experiment.clients,
        key=experiment.key,
        rounds=config.schedule.rounds,
        clients_per_round=config.schedule.clients_per_round,
        evaluate_every=config.schedule.evaluate_every,
        personalized=config.schedule.personalized,
        state=state,
        downlink=experiment.downlink,
        device=config.model.device,
    ):
        state = record.state
        log.append(record, folder)
        if state.round % config.schedule.checkpoint_every == 0 or state.round == config.schedule.rounds:
            checkpoint.write(state, folder)
        yield record
    experiment.task.save_adapter(delivered(state), folder / ADAPTER)
    write_json(folder / SUMMARY, summarize(config, log.read(folder), facts))


def resume(folder: Path) -> Iterator[Started | Round]:
    """Go on with the run of a folder.

    Args:
        folder: The run folder.

    Returns:
        What ``run`` yields.

    Raises:
        CheckpointError: If the folder is no run.
    """
    if not (folder / CONFIG).is_file():
        raise CheckpointError(f"{folder} is no run folder (it has no {CONFIG}). Give the folder of a run.")
    return run(load(folder / CONFIG), folder, resume=True)


def is_finished(config: Config, folder: Path) -> bool:
    """Tell whether a folder holds the finished run of a configuration.

    Args:
        config: The configuration.
        folder: A run folder.

    Returns:
        True if there is nothing left to do.
    """
    return (folder / SUMMARY).is_file() and matches(config, folder)


def matches(config: Config, folder: Path) -> bool:
    """Tell whether a folder holds the run of a configuration, finished or not.

    Args:
        config: The configuration.
        folder: A run folder.

    Returns:
        True if all that concerns the run is the same.
    """
    return (folder / CONFIG).is_file() and load(folder / CONFIG).alone() == config.alone()


def _claim(config: Config, folder: Path, *, resume: bool) -> None:
    """Make the folder this run's own, or make sure that it already is."""
    folder.mkdir(parents=True, exist_ok=True)
    written = folder / CONFIG
    if written.is_file():
        if not matches(config, folder):
            raise CheckpointError(
                f"{folder} holds a run with another configuration ({', '.join(_changes(load(written), config))}). "
                f"Resume it with the configuration in {written}, or choose another folder."
            )
        if not resume and checkpoint.exists(folder):
            raise CheckpointError(f"{folder} already holds this run. Resume it, or choose another folder.")
    replace_file(written, config.dump().encode())
    write_json(folder / META, provenance())


def _changes(old: Config, new: Config) -> list[str]:
    before, after = old.alone().flat(), new.alone().flat()
    names = [name for name in {**before, **after} if before.get(name) != after.get(name)]
    shown = [f"{name} was {before.get(name)!r}, is {after.get(name)!r}" for name in names[:3]]
    return shown + ([f"and {len(names) - 3} more"] if len(names) > 3 else [])
