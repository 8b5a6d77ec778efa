"""One run, from a configuration to a run folder; killed at any moment, it goes on from its last checkpoint."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from spry.core.params import Params, restrict, size
from spry.core.units import names_of
from spry.experiment import fingerprint, lock, log
from spry.experiment.adapter import describe_adapter, write_adapter
from spry.experiment.atomic import write_json
from spry.experiment.build import Experiment, build, check_settings
from spry.experiment.checkpoint import has_checkpoint, read_checkpoint, read_kept
from spry.experiment.config import Config, read_record
from spry.experiment.enrolment import enrolled
from spry.experiment.folder import (
    CONFIG,
    SUMMARY,
    Fingerprints,
    changed_versions,
    check_fingerprints,
    check_folder,
    enrolled_before,
    prepare_folder,
    recorded,
)
from spry.experiment.given import NOTHING, Given, check_given
from spry.experiment.head import start_head
from spry.experiment.journal import Journal
from spry.experiment.kept import Keeping
from spry.experiment.local_tuning import tune_and_write
from spry.experiment.log import read_rounds
from spry.experiment.privacy_budget import told_of
from spry.experiment.runtimes import Runtime, open_runtime
from spry.experiment.safekeeping import LastRound
from spry.experiment.start import evaluate_start
from spry.experiment.summary import RunFacts, summarize
from spry.experiment.workers import Workers, at_work
from spry.federated.algorithm import ServerState
from spry.runtime.courier import Courier
from spry.runtime.records import Round
from spry.runtime.rounds import simulate
from spry.tasks.adapter_folder import ADAPTER
from spry.tasks.model_task import ModelTask


@dataclass(frozen=True, kw_only=True)
class Started:
    """What is known once model and data are loaded.

    Args:
        units: How many units are dealt, the head left out.
        resumed_at: Rounds that were already done.
        data: What was read of the data, in lines.
        notes: What the user should know before the first round.
    """

    config: Config
    folder: Path
    clients: int
    clients_per_round: int
    units: int
    trainable_weights: int
    resumed_at: int
    data: Sequence[str] = ()
    notes: Sequence[str] = ()


@dataclass(frozen=True, kw_only=True)
class Finished:
    """What a run ends with: the task, whose model is loaded, and the trained weights that the adapter holds."""

    task: ModelTask
    weights: Params


Running = Generator[Started | Round, None, Finished]
"""The events of a run, in order; it returns how the run ended."""


def run(
    config: Config,
    folder: Path,
    *,
    resume: bool = False,
    given: Given = NOTHING,
    courier: Courier | None = None,
) -> Running:
    """Run a configuration, writing its run folder as it goes.

    Nothing is written before model and data are loaded and the settings are known to fit them.

    Args:
        config: The configuration.
        folder: The run folder; made if it is not there.
        resume: Whether to go on from the folder's checkpoint, if it has one.
        given: Objects that stand in for the model and the data that the configuration names.
        courier: Who carries messages to clients elsewhere, in place of what ``runtime.name`` starts.

    Yields:
        First what was started, then each finished round.

    Returns:
        The task and its trained weights.

    Raises:
        CheckpointError: If the folder holds another run, another process writes it, model or data have changed, or a
            checkpoint cannot be written or read.
    """
    if (folder / CONFIG).is_file():
        lock.check_unlocked(folder)
    check_folder(config, folder, resume=resume)
    check_given(folder, given)
    check_settings(config, given)
    with at_work(config, folder, given) as workers:
        experiment = build(config, given)
        folder.mkdir(parents=True, exist_ok=True)
        with lock.exclusive(folder) as note:
            # again: another process may have begun it while this one loaded
            check_folder(config, folder, resume=resume)
            going_on = resume and has_checkpoint(folder)
            with (
                closing(Journal(folder)) as journal,
                journal.told_of_the_end(),
                open_runtime(
                    config, experiment, given, courier, enrolled_before(folder) if going_on else {}
                ) as runtime,
            ):
                notes = [*experiment.notes, *workers.notes(), *runtime.notes, *([note] if note else [])]
                finished = yield from _run(
                    config,
                    folder,
                    runtime,
                    given,
                    going_on=going_on,
                    notes=notes,
                    journal=journal,
                    workers=workers,
                )
    return finished  # ruff: ignore[return-in-generator]  # for whoever wants the model, too


def _run(
    config: Config,
    folder: Path,
    runtime: Runtime,
    given: Given,
    *,
    going_on: bool,
    notes: list[str],
    journal: Journal,
    workers: Workers,
) -> Running:
    experiment = runtime.experiment
    state, kept = experiment.algorithm.init(experiment.task.init()), None
    found = _fingerprints(config, experiment, given)
    if going_on:
        check_fingerprints(folder, found)
        notes += [*changed_versions(folder), *workers.changed_threads(folder)]
        state, kept = read_checkpoint(folder, state), read_kept(folder, state)
    written = log.Writer(folder, state.round)
    data = {**experiment.facts.as_dict(), **experiment.found()}
    prepare_folder(config, folder, found, data, anew=not going_on, given=given.names)
    journal.started(rounds=config.schedule.rounds, resumed_at=state.round, workers=workers.size)
    yield _started(config, folder, runtime, state, notes)
    state, before = _before_round_1(config, runtime, found["model"], state, journal, workers)
    keeping = Keeping(schedule=config.schedule, score=experiment.task.score)
    last = LastRound(folder=folder, journal=journal, state=state, kept=kept, written=state.round)
    with last.kept_if_cut_short():
        for record in () if keeping.is_over(kept) else _rounds(config, runtime, state, workers):
            record = record if record.number else replace(record, **before)
            written.append(record)
            journal.joined(workers.newcomers())
            journal.round(record, config.schedule.rounds)
            last.take(record.state, keeping.follow(last.kept, record))
            ends = last.state.round == config.schedule.rounds or keeping.is_over(last.kept)
            if ends or last.state.round % config.schedule.checkpoint_every == 0:
                last.write()
            yield record
            if ends:
                break
    journal.note("saving")
    weights = _finish(config, folder, experiment, keeping, last, workers)
    journal.note("finished", rounds=last.state.round)
    return Finished(task=experiment.task, weights=weights)  # ruff: ignore[return-in-generator]


def _started(
    config: Config, folder: Path, runtime: Runtime, state: ServerState, notes: Sequence[str]
) -> Started:
    experiment = runtime.experiment
    return Started(
        config=config,
        folder=folder,
        clients=runtime.clients,
        clients_per_round=experiment.clients_per_round,
        units=sum(not unit.head for unit in experiment.algorithm.units),
        trainable_weights=_trainable_weights(experiment, state),
        resumed_at=state.round,
        data=experiment.facts.lines(),
        notes=notes,
    )


def _before_round_1(
    config: Config,
    runtime: Runtime,
    model: Mapping[str, str],
    state: ServerState,
    journal: Journal,
    workers: Workers,
) -> tuple[ServerState, dict[str, Any]]:
    """Fit the head and evaluate where nothing is trained yet: the state to begin with, and what round 1 records."""
    experiment, head = runtime.experiment, None
    if state.round == 0:
        head = start_head(config, experiment, model, runtime.ask or workers.sums(experiment))
    if head is not None:
        if config.server.send == "slopes":
            runtime.tell(head.weights)
        state = experiment.algorithm.init({**experiment.task.init(), **head.weights})
        journal.head(head.cost)
    start = evaluate_start(config, experiment, model, state, workers.evaluation(experiment))
    return state, {"start": start, "head": head and head.cost}


def _fingerprints(config: Config, experiment: Experiment, given: Given) -> Fingerprints:
    return {
        "model": fingerprint.of_model(None if given.model is not None else config, experiment.task.module),
        "data": {config.data.name: experiment.fingerprint},
        "files": fingerprint.data_files(config),
        "start": fingerprint.start_files(config),
        "clients": enrolled(config, experiment),
    }


def _rounds(config: Config, runtime: Runtime, state: ServerState, workers: Workers) -> Iterator[Round]:
    experiment = runtime.experiment
    return simulate(
        experiment.algorithm,
        experiment.task,
        experiment.clients,
        key=experiment.key,
        **experiment.schedule,
        state=state,
        downlink=experiment.downlink,
        executor=runtime.executor or workers.executor,
        evaluate=workers.evaluation(experiment),
        device=config.model.device,
        sampler=experiment.parts.sampler,
        spending=experiment.parts.spending,
        secure=experiment.parts.secure,
    )


def _finish(
    config: Config,
    folder: Path,
    experiment: Experiment,
    keeping: Keeping,
    last: LastRound,
    workers: Workers,
) -> Params:
    state, kept = last.state, last.kept
    rounds = read_rounds(folder)
    kept_after, weights = keeping.deliver(kept, state, rounds)
    write_adapter(experiment.task, weights, folder / ADAPTER)
    facts = RunFacts(
        score=experiment.task.score,
        labels=experiment.task.backbone.label_names,
        trainable_weights=_trainable_weights(experiment, state),
        data=experiment.found(),
        kept_after_rounds=kept_after,
        stopped_early=keeping.why_over(kept) if state.round < config.schedule.rounds else None,
        local_tuning=tune_and_write(config, experiment, state, weights, folder, workers.tuning),
        privacy=told_of(config, experiment.parts.spending, state.round),
    )
    summary = summarize(config, rounds, facts)
    describe_adapter(config, summary, folder / ADAPTER)
    write_json(folder / SUMMARY, summary)
    return weights


def _trainable_weights(experiment: Experiment, state: ServerState) -> int:
    return size(restrict(state.weights, names_of(experiment.algorithm.units)))


def resume(folder: Path) -> Running:
    """Go on with the run of a folder; see ``run``.

    Raises:
        CheckpointError: If the folder is no run.
    """
    return run(read_record(recorded(folder)), folder, resume=True)
