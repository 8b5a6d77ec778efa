"""``spry plan``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import TYPE_CHECKING

from spry.cli import screen
from spry.cli.runs import ConfigArgument, JsonOption, SettingsOption

if TYPE_CHECKING:
    from spry.experiment.config import Config
    from spry.federated.privacy.accounting import Spending
    from spry.planning import Plan


def plan_command(
    source: ConfigArgument = None, settings: SettingsOption = None, as_json: JsonOption = False
) -> None:
    """Say what a run would be: its units, who trains them, and its memory by prediction.

    Nothing is read but the model's configuration.
    """
    from spry.experiment.config import load_config
    from spry.experiment.recipe import DEFAULT_BASE
    from spry.planning import plan_run
    from spry.profile.resolve import resolve_model

    config = load_config(source or DEFAULT_BASE, settings or ())
    if note := resolve_model(config.model.name).note:
        screen.say(note)
    plan = plan_run(config)
    if as_json:
        screen.document(plan.to_json())
        return
    for line in _lines(config, plan):
        screen.say(line)
    _show_memory(config, plan)


def _lines(config: Config, plan: Plan) -> list[str]:
    run = f"{config.method.name}: {config.model.name} on {config.data.name}"
    body = [unit for unit in plan.units if not unit.head]
    sizes = Counter(unit.size for unit in body)
    units = ", ".join(f"{number} of {size:,} weights" for size, number in sizes.items())
    head = sum(unit.size for unit in plan.units if unit.head)
    owners = _range(plan.owners[unit.name] for unit in body)
    return [
        f"{run}, {config.schedule.rounds} rounds of {plan.asked} of {plan.clients} clients",
        f"units: {units or 'none'}; the head has {head:,} weights, which all clients train",
        f"round 1: {_range(plan.held)} units a client, {owners} clients a unit",
        *([] if plan.privacy is None else [_privacy(config, plan.privacy)]),
    ]


def _privacy(config: Config, spending: Spending) -> str:
    """What the planned rounds cost of privacy."""
    epsilon, rounds = spending.epsilon(config.schedule.rounds), config.schedule.rounds
    return (
        f"privacy: {config.privacy.mechanism}, of a {config.privacy.unit}; epsilon {epsilon:.3g} at delta "
        f"{spending.delta:g} after {rounds} rounds, noise multiplier {spending.noise:.4g}"
    )


def _range(numbers: Iterable[int]) -> str:
    found = sorted({*numbers}) or [0]
    return str(found[0]) if found[0] == found[-1] else f"{found[0]} to {found[-1]}"


def _show_memory(config: Config, plan: Plan) -> None:
    from spry.report.formats import format_bytes
    from spry.report.tables import text_table

    if not plan.peaks:
        screen.say(
            f"There is no formula for the memory of {config.model.name}. Measure it: spry memory --model "
            f"{config.model.name}"
        )
        return
    rows = [
        [name, format_bytes(peak), format_bytes(plan.weight_bytes + peak)]
        for name, peak in plan.peaks.items()
    ]
    packed = config.model.quantization or config.model.dtype
    title = (
        f"{config.client.micro_batch_size or config.client.batch_size} × {plan.length} tokens, {packed}, model "
        f"{format_bytes(plan.weight_bytes)}; predicted"
    )
    screen.show(text_table(title, ("step", "peak above the model", "in all"), rows))
