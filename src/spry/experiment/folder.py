"""A run folder: which run it holds, whether it may be written, and how each start of it is noted down."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from spry.core.errors import CheckpointError, ModelError
from spry.experiment import fingerprint
from spry.experiment.atomic import replace_file, write_json
from spry.experiment.checkpoint import has_checkpoint
from spry.experiment.config import BESIDE_RECORD, RECORD, Config, read_record
from spry.experiment.provenance import provenance, versions

CONFIG, META, SUMMARY = RECORD, BESIDE_RECORD, "summary.json"
ROUNDS = "schedule.rounds"
LOOSE = {
    ROUNDS,
    "schedule.evaluate_every",
    "schedule.evaluate_start",
    "schedule.checkpoint_every",
    "schedule.personalized",
    "schedule.local_tuning",
    "schedule.test",
    "schedule.patience",
    "runtime.deadline",
    "runtime.workers",
    "runtime.threads",
    "runtime.name",
    "runtime.nodes",
    "runtime.wait",
}
"""Settings that no weights depend on, or on the clock as much, so that a run may go on with others."""
NUMERIC = ("torch", "transformers", "peft")
"""Packages whose versions may change the last bits of a run."""

Fingerprints = Mapping[str, fingerprint.Fingerprint]
"""Of the base model's files (``model``), of the adapter that training began with (``start``), of the examples
(``data``), of data files that settings name (``files``); who is enrolled (``clients``), where privacy depends on it."""


def matches(config: Config, folder: Path) -> bool:
    """Tell whether a folder holds a run, finished or not, without loading model or data.

    Settings must be the same, and the files that they name unchanged, as far as they are here.
    """
    written = folder / CONFIG
    return (
        written.is_file() and read_record(written).is_same_run(config) and not _changed_files(config, folder)
    )


def is_finished(config: Config, folder: Path) -> bool:
    return (folder / SUMMARY).is_file() and matches(config, folder)


def recorded(folder: Path) -> Path:
    """The configuration that a run folder has; CheckpointError if it is none."""
    if not (folder / CONFIG).is_file():
        raise CheckpointError(f"{folder} is no run folder (it has no {CONFIG}). Give the folder of a run.")
    return folder / CONFIG


def check_folder(config: Config, folder: Path, *, resume: bool) -> None:
    """Refuse (CheckpointError) a folder with another run, or with this one unless it is resumed; nothing is written."""
    if not (folder / CONFIG).is_file():
        return
    before, after = read_record(folder / CONFIG).alone().flat(), config.alone().flat()
    changed = [name for name in {**before, **after} if before.get(name) != after.get(name)]
    begun = has_checkpoint(folder)
    if not resume and begun and not changed:
        raise CheckpointError(
            f"{folder} already holds this run. Resume it with spry resume {folder}, or choose another folder."
        )
    if not changed or (resume and set(changed) <= _loose(config) and after[ROUNDS] >= before[ROUNDS]):
        return
    if resume and set(changed) <= _loose(config):
        raise CheckpointError(
            f"{folder} holds a run of {before[ROUNDS]} rounds, and schedule.rounds is {after[ROUNDS]}: rounds only "
            f"grow. Ask for {before[ROUNDS]} or more, or choose another folder (--out)."
        )
    shown = [f"{name} was {before.get(name)!r}, is {after.get(name)!r}" for name in changed[:3]]
    shown += [f"and {len(changed) - 3} more"] if len(changed) > 3 else []
    raise CheckpointError(
        f"{folder} holds a run with another configuration ({', '.join(shown)}). {_advice(config, folder, changed)}"
    )


def how_to_go_on(config: Config, folder: Path) -> str | None:
    """Say by which command a finished run goes on for more rounds; None if no command makes it longer."""
    summary = json.loads((folder / SUMMARY).read_text(encoding="utf-8"))
    if summary.get("stopped_early"):
        return f"To go on all the same: spry run --resume {shlex.quote(str(folder))} --set schedule.patience=none"
    if config.plans_rounds:
        return None
    return f"For more rounds: spry resume {shlex.quote(str(folder))} --rounds {2 * max(config.schedule.rounds, 1)}"


def check_fingerprints(folder: Path, now: Fingerprints) -> None:
    """Refuse (CheckpointError) to go on with another model or other data than the run began with."""
    known: Fingerprints = read_meta(folder).get("fingerprints", {})
    kinds = (
        ("model", "another base model", "its files"),
        ("start", "the weights of another adapter", "its files"),
        ("data", "other data", "it"),
        ("clients", "other clients enrolled, for whom privacy is counted", "their nodes"),
    )
    for what, told, remedy in kinds:
        changed = fingerprint.changes(known[what], now[what]) if what in known else []
        if changed:
            raise CheckpointError(
                f"{folder} began with {told}: {'; '.join(changed)}. A resumed run gives the same weights as an "
                f"unbroken one, bit for bit, so put {remedy} back, or start a new run in another folder."
            )


def changed_versions(folder: Path) -> list[str]:
    """Say which packages are not those that a run began with; that stops no run."""
    old, new = read_meta(folder).get("versions", {}), versions()
    changed = [
        f"{name} was {old[name]}, is {new[name]}" for name in NUMERIC if old.get(name, new[name]) != new[name]
    ]
    told = f"The last bits of weights may differ from those of an unbroken run: {', '.join(changed)}."
    return [told] if changed else []


def prepare_folder(
    config: Config,
    folder: Path,
    fingerprints: Fingerprints,
    data: Mapping[str, Any],
    *,
    anew: bool,
    given: Sequence[str] = (),
) -> None:
    """Make a folder this run's, or note down that the run goes on: when, where and by which command."""
    (folder / SUMMARY).unlink(missing_ok=True)  # of fewer rounds; it comes back when the run is finished
    now = provenance()
    meta = {} if anew else read_meta(folder)
    noted = (
        {**meta, "resumptions": [*meta.get("resumptions", []), now]} if meta else {**now, "resumptions": []}
    )
    replace_file(folder / CONFIG, config.dump().encode())
    write_json(folder / META, {**noted, "given": given, "fingerprints": fingerprints, "data": data})


def read_meta(folder: Path) -> dict[str, Any]:
    """Read what was noted down; nothing if that is missing or damaged, which stops no run."""
    try:
        return json.loads((folder / META).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}


def enrolled_before(folder: Path) -> fingerprint.Fingerprint:
    """Read who was enrolled when a run began; nothing where nobody asks that."""
    return read_meta(folder).get("fingerprints", {}).get("clients", {})


def _loose(config: Config) -> set[str]:
    return LOOSE - {ROUNDS} if config.plans_rounds else LOOSE


def _advice(config: Config, folder: Path, changed: Sequence[str]) -> str:
    going_on = "" if (folder / SUMMARY).is_file() else f"Go on as it was with spry resume {folder}, or "
    other = f"{going_on}choose another folder (--out)."
    if set(changed) <= LOOSE and not set(changed) <= _loose(config):
        if config.plans_noise:
            return (
                "The noise of a run with privacy.epsilon is as much as its rounds need, so that a run keeps their "
                f"number. {other[0].upper()}{other[1:]}"
            )
        planned = config.method.info.plans_rounds
        whose = config.method.name if planned else f"a run with schedule.decay = {config.schedule.decay!r}"
        return (
            f"The steps of {whose} depend on how many rounds there will be, so that a run keeps their number. "
            f"{other[0].upper()}{other[1:]}"
        )
    free = sorted(_loose(config))
    return (
        f"A run keeps its settings; only {', '.join(free)} may change when it is resumed, and rounds only grow. "
        f"{other[0].upper()}{other[1:]}"
    )


def _changed_files(config: Config, folder: Path) -> Sequence[str]:
    known: Fingerprints = read_meta(folder).get("fingerprints", {})
    try:
        model = fingerprint.model_files(config)
    except ModelError:  # the model is not here any more, which a finished run does not need
        model = {}
    now = {"model": model, "files": fingerprint.data_files(config), "start": fingerprint.start_files(config)}
    return [
        change
        for what, files in now.items()
        if files and what in known
        for change in fingerprint.changes(known[what], files)
    ]
