"""Writes the table of `docs/howto/recipes.md`: what each recipe would take, by prediction.

    python docs/recipes.py

Nothing is downloaded; the models `minilm` and `smollm2` have to be installed.
"""

from __future__ import annotations

import re
from pathlib import Path

from spry.experiment.config import load_config
from spry.experiment.cookbook import recipes
from spry.planning import plan_run, task_of
from spry.report.formats import format_bytes

PAGE = Path(__file__).parent / "howto" / "recipes.md"
HEADINGS = ("recipe", "task", "model", "clients", "rounds", "weights", "step", "peak", "checkpointing")


def row(name: str) -> str:
    """The line of one recipe: clients a round and in all; bytes of the model, and of a step above it."""
    config = load_config(name)
    plan = plan_run(config)
    packed = f", {config.model.quantization}" if config.model.quantization else ""
    cells = [
        f"`{name}`",
        task_of(config).name,
        config.model.name + packed,
        f"{plan.asked} of {plan.clients:,}",
        f"{config.schedule.rounds:,}",
        format_bytes(plan.weight_bytes),
        plan.method,
        format_bytes(plan.peaks.get(plan.method)),
        format_bytes(plan.peaks.get("backprop+checkpointing")),
    ]
    return f"| {' | '.join(cells)} |"


def table() -> str:
    """The whole table."""
    rule = "|".join("---" for _ in HEADINGS)
    return "\n".join([f"| {' | '.join(HEADINGS)} |", f"|{rule}|", *map(row, recipes())])


def main() -> None:
    """Write the table into its page."""
    text = PAGE.read_text(encoding="utf-8")
    made = re.sub(r"^\| recipe .*?(?=\n\n)", lambda _: table(), text, flags=re.DOTALL | re.MULTILINE)
    PAGE.write_text(made, encoding="utf-8")


if __name__ == "__main__":
    main()
