"""Details of runs: where they ran, which replies failed, which units were trained."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Iterable, Sequence

from spry.measure.before import head_of
from spry.report import formats
from spry.report.groups import Section
from spry.report.read import PARTS, Run
from spry.report.tables import ReportTable, text_table
from spry.tasks.score_text import NONE, score_label, score_name, score_value, score_with_unit

PEFT_NAMES = {"lora": "LoRA"}


def origins(runs: Sequence[Run]) -> list[str]:
    """Versions, machines, dates and commands of runs; what is the same for all is said once."""
    versions = _each(_versions(run) for run in runs)
    machines = _each(_machine(run) for run in runs)
    dates = sorted(filter(None, (str(run.meta.get("date", "")).replace("T", " ") for run in runs)))
    commands = _each(shlex.join(map(str, run.meta.get("command", []))) for run in runs)
    when = [dates[0] if dates[0] == dates[-1] else f"{dates[0]} to {dates[-1]}"] if dates else []
    return [*versions, *machines, *when, *commands]


def setting(section: Section) -> str:
    """Clients, partition, PEFT kind and what else all of a section's runs agree in, and their seeds."""
    runs = section.runs
    said = zip(*(_told(run, _sizes(runs)) for run in runs), strict=True)
    told = ", ".join(texts[0] for texts in said if texts[0] and len(set(texts)) == 1)
    lengths = {run.outcome.get("rounds", 0) for run in runs}
    rounds = [f"{count} round{'s' if count != 1 else ''}" for count in lengths if len(lengths) == 1]
    seeds = sorted({run.config["seed"] for run in runs})
    named = f"seed{'s' if len(seeds) > 1 else ''} {', '.join(map(str, seeds))}"
    return "; ".join([*filter(None, [told]), *rounds, named])


def evaluations(run: Run) -> ReportTable:
    """Tabulate the rounds in which a run was evaluated."""
    name = run.score.name
    parts = [
        part for part in PARTS if any(entry.get(run.score.key(part)) is not None for entry in run.rounds)
    ]
    keys = list(map(run.score.key, parts))
    start = ["0", NONE, *(score_value(run.start.get(key), name) for key in keys)]
    rows = [start] if run.start else []
    rows += [
        [
            f"{entry['round'] + 1}" + (" (kept)" if entry["round"] + 1 == run.kept_after else ""),
            NONE if entry["loss"] is None else f"{entry['loss']:.4f}",
            *(score_value(entry.get(key), name) for key in keys),
        ]
        for entry in run.rounds
        if any(entry.get(key) is not None for key in keys)
    ]
    headings = ("round", "training loss", *(score_label(name, part) for part in parts))
    return text_table("evaluations", headings, rows)


def chosen(run: Run) -> list[str]:
    """Say which round was kept, and why a run ended early, where a run chose."""
    made = [
        f"Kept: the weights after round {run.kept_after} of {len(run.rounds)}, which have the best validation "
        f"{score_name(run.score.name)} of those that were evaluated; the scores are theirs."
    ]
    why = (run.summary or {}).get("stopped_early")
    return [*(made if run.kept_after is not None else []), *([f"Ended early: {why}."] if why else [])]


def head_start(run: Run) -> list[str]:
    """Say what a head in closed form took before round 1, which the costs of the whole run contain."""
    head = head_of(run.rounds)
    if not head:
        return []
    left_out = len(head["left_out"])
    return [
        f"Head: closed form from {head['examples']:,} examples of {head['clients']:,} clients before round 1; "
        f"{formats.format_bytes(head['bytes_up'])} up, {formats.format_bytes(head['bytes_down'])} down, "
        f"{formats.format_operations(head['operations'])}, {formats.duration(head['cpu_seconds'])} of processor time"
        + (f"; the sums of {left_out} clients did not count." if left_out else ".")
    ]


def privacy(run: Run) -> list[str]:
    """Say what was kept private, and what that cost, in a run that is finished."""
    told = (run.summary or {}).get("privacy")
    if not told:
        return []
    epsilon = "no bound on epsilon" if told["epsilon"] is None else f"epsilon {told['epsilon']:.3g}"
    return [
        f"Privacy: {told['mechanism']}, of a {told['unit']}: {epsilon} at delta {told['delta']:g}, noise multiplier "
        f"{told['noise']:.4g}."
    ]


def local_tuning(run: Run) -> list[str]:
    """Say what local tuning after the last round gave to all clients together."""
    told = (run.summary or {}).get("local_tuning")
    if not told:
        return []
    name = run.score.name
    before, after, own = (score_with_unit(told[stage], name) for stage in ("before", "after", "own"))
    routed = f", {own} with the method's own model" if told["own"] is not None else ""
    return [
        f"Local tuning: {told['steps']} steps of each of {told['clients']:,} clients after the last round, on what "
        f"they hold out ({told['held_out']:,} examples): {score_name(name)} {before} before, {after} after"
        f"{routed}; {told['better']:,} clients better, {told['worse']:,} worse"
        + (f"; training of {told['failed']:,} broke down." if told["failed"] else ".")
    ]


def failures(run: Run) -> ReportTable:
    """Tabulate the replies that were dropped."""
    rows = [
        [str(entry["round"] + 1), str(client["client"]), str(client["failed"])]
        for entry in run.rounds
        for client in entry["clients"]
        if client.get("failed")
    ]
    return text_table("dropped replies", ("round", "client", "reason"), rows)


def units(run: Run) -> ReportTable:
    """Tabulate how often each unit was trained, in the order in which units first appear."""
    trained: Counter[str] = Counter()
    untrained: Counter[str] = Counter()
    for entry in run.rounds:
        trained.update(
            unit for client in entry["clients"] if not client.get("failed") for unit in client["units"]
        )
        untrained.update(entry["untrained_units"])
    rows = [
        [unit, str(trained[unit]), str(untrained[unit])] for unit in dict.fromkeys([*trained, *untrained])
    ]
    return text_table("units", ("unit", "replies that trained it", "rounds without one"), rows)


def _versions(run: Run) -> str:
    versions = {"python": run.meta.get("python"), **run.meta.get("versions", {})}
    return ", ".join(f"{name} {version}" for name, version in versions.items() if version)


def _machine(run: Run) -> str:
    machine = run.meta.get("machine", {})
    units = {"cpus": " CPUs", "threads": " threads", "memory_gb": " GB", "gpu_memory_gb": " GB"}
    return ", ".join(f"{value}{units.get(name, '')}" for name, value in machine.items() if value is not None)


def _told(run: Run, sizes: str) -> list[str]:
    get = run.config.get
    asked = run.data.get("clients_per_round", get("schedule.clients_per_round"))
    return [
        _clients(run, sizes),
        f"{asked} a round" if asked else "",
        f"{PEFT_NAMES.get(str(get('peft.kind')), get('peft.kind'))} of rank {get('peft.rank')}"
        if get("peft.kind")
        else "",
        _tokens(run),
        f"{run.data['test_examples']:,} test examples" if run.data.get("test_examples") else "",
    ]


def _clients(run: Run, sizes: str) -> str:
    """How many clients there were and how data was dealt.

    Settings say it of runs of older versions; but not the number where a column of ids decided it.
    """
    get = run.config.get
    partition = str(get("data.partition", ""))
    dealt = {"dirichlet": f"Dirichlet {get('data.alpha')}", "column": f"by column {get('data.column')}"}
    number = run.data.get("clients", None if partition == "column" else get("data.clients"))
    counted = "clients" if number is None else f"{number} clients"
    return f"{counted}{sizes} ({dealt.get(partition, partition)})" if number or partition == "column" else ""


def _sizes(runs: Sequence[Run]) -> str:
    """The fewest and the most examples of a client, over all runs: each seed deals them anew."""
    known = [sizes for run in runs if (sizes := run.data.get("examples_per_client"))]
    if len(known) < len(runs):
        return ""
    ends = (min(sizes["least"] for sizes in known), max(sizes["most"] for sizes in known))
    return f" of {' to '.join(f'{end:,}' for end in dict.fromkeys(ends))} examples"


def _tokens(run: Run) -> str:
    """Where texts were cut, and how many were."""
    length, share = (run.data.get(name) for name in ("max_length", "share_cut"))
    if length is None or share is None:
        return ""
    return f"texts cut at {length:,} tokens ({share:.1%})" if share else "no text cut"


def _each(texts: Iterable[str]) -> list[str]:
    return [text for text in dict.fromkeys(texts) if text]
