"""What a reader needs to judge and repeat a run: where it ran, what failed, who trained what."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Iterable, Sequence

from spry.report import formats
from spry.report.groups import Section
from spry.report.load import Run
from spry.report.tables import Table, plain

KINDS = {"lora": "LoRA"}


def origins(runs: Sequence[Run]) -> list[str]:
    """Say with which versions, where, when and by which commands runs were made.

    Args:
        runs: The runs.

    Returns:
        Sentences; what is the same for all runs is said once.
    """
    versions = _each(_versions(run) for run in runs)
    machines = _each(_machine(run) for run in runs)
    dates = sorted(filter(None, (str(run.meta.get("date", "")).replace("T", " ") for run in runs)))
    commands = _each(shlex.join(map(str, run.meta.get("command", []))) for run in runs)
    when = [dates[0] if dates[0] == dates[-1] else f"{dates[0]} to {dates[-1]}"] if dates else []
    return [*versions, *machines, *when, *commands]


def setting(section: Section) -> str:
    """Say in a line what the runs of a section have in common.

    Args:
        section: Runs of one model on one data set.

    Returns:
        Clients, partition, PEFT kind and seeds, as far as all runs agree.
    """
    said = {_told(run) for run in section.runs}
    seeds = sorted({run.config["seed"] for run in section.runs})
    told = [said.pop()] if len(said) == 1 else []
    return "; ".join([*told, f"seed{'s' if len(seeds) > 1 else ''} {', '.join(map(str, seeds))}"])


def evaluations(run: Run) -> Table:
    """Tabulate the rounds in which a run was evaluated.

    Args:
        run: The run.

    Returns:
        One row a round.
    """
    keys = ("test_accuracy", "generalized_accuracy", "personalized_accuracy")
    seen = [round for round in run.rounds if any(round.get(key) is not None for key in keys)]
    rows = [
        [str(round["round"] + 1), f"{round['loss']:.4f}", *(formats.accuracy(round.get(key)) for key in keys)]
        for round in seen
    ]
    headings = ("round", "training loss", "test accuracy (%)", "generalized (%)", "personalized (%)")
    return plain("evaluations", headings, rows)


def failures(run: Run) -> Table:
    """Tabulate the replies that were dropped.

    Args:
        run: The run.

    Returns:
        One row a reply.
    """
    rows = [
        [str(round["round"] + 1), str(client["client"]), str(client["failed"])]
        for round in run.rounds
        for client in round["clients"]
        if client.get("failed")
    ]
    return plain("dropped replies", ("round", "client", "reason"), rows)


def units(run: Run) -> Table:
    """Tabulate how often each unit was trained.

    Args:
        run: The run.

    Returns:
        One row a unit, in the order in which they first appear.
    """
    owners: Counter[str] = Counter()
    idle: Counter[str] = Counter()
    for round in run.rounds:
        owners.update(
            unit for client in round["clients"] if not client.get("failed") for unit in client["units"]
        )
        idle.update(round["untrained_units"])
    rows = [[unit, str(owners[unit]), str(idle[unit])] for unit in dict.fromkeys([*owners, *idle])]
    return plain("units", ("unit", "replies that trained it", "rounds without one"), rows)


def _versions(run: Run) -> str:
    versions = {"python": run.meta.get("python"), **run.meta.get("versions", {})}
    return ", ".join(f"{name} {version}" for name, version in versions.items() if version)


def _machine(run: Run) -> str:
    machine = run.meta.get("machine", {})
    units = {"cpus": " CPUs", "threads": " threads", "memory_gb": " GB", "gpu_memory_gb": " GB"}
    return ", ".join(f"{value}{units.get(name, '')}" for name, value in machine.items() if value is not None)


def _told(run: Run) -> str:
    get = run.config.get
    dealt = {"dirichlet": f"Dirichlet {get('data.alpha')}", "column": f"by column {get('data.column')}"}
    split = str(get("data.partition", ""))
    told = [
        f"{get('data.clients')} clients ({dealt.get(split, split)})" if get("data.clients") else "",
        f"{get('schedule.clients_per_round')} a round" if get("schedule.clients_per_round") else "",
        f"{KINDS.get(str(get('peft.kind')), get('peft.kind'))} of rank {get('peft.rank')}"
        if get("peft.kind")
        else "",
    ]
    return ", ".join(filter(None, told))


def _each(texts: Iterable[str]) -> list[str]:
    return [text for text in dict.fromkeys(texts) if text]
