"""``spry check``."""

from __future__ import annotations

from itertools import takewhile
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from spry.cli import screen
from spry.cli.runs import JsonOption

if TYPE_CHECKING:
    from spry.profile.check import ModelCheck
    from spry.report.tables import ReportTable


def check_command(
    model: Annotated[
        str,
        typer.Argument(
            metavar="MODEL",
            help="What --set model.name takes: minilm, a folder, package:NAME, a hub name; or shape:NAME with random "
            "weights, such as shape:bert-base.",
        ),
    ],
    layers: Annotated[int | None, typer.Option(min=1, help="Depth of a shape. Default: its own.")] = None,
    dtype: Annotated[
        Literal["float32", "bfloat16", "float16", "float64"], typer.Option(help="Of the weights.")
    ] = "float32",
    quantization: Annotated[
        Literal["nf4", "int8", "int4"] | None,
        typer.Option(help="How the frozen linear layers are packed. Default: not at all."),
    ] = None,
    device: Annotated[str, typer.Option(help="cpu, cuda or cuda:N.")] = "cpu",
    differences: Annotated[
        bool, typer.Option(help="Compare with finite differences in float64 too; takes a copy of the model.")
    ] = True,
    targets: Annotated[
        str,
        typer.Option(
            help="Modules to adapt, by endings of their names, with commas. Default: query and value projections."
        ),
    ] = "",
    task: Annotated[
        str, typer.Option(metavar="NAME", help="What it is to learn, as task.name has it; not for shapes.")
    ] = "classification",
    as_json: JsonOption = False,
) -> None:
    """Check that the forward engine runs a model and differentiates it correctly, one unit at a time.

    Ends with status 1 if a unit's slope is wrong, most slopes are zero, or a module cannot be run.
    """
    from spry.profile.check import check_model
    from spry.profile.resolve import resolve_model

    if note := resolve_model(model).note:
        screen.say(note)
    with screen.err().status(f"checking {model} ..."):
        found = check_model(
            model,
            dtype=dtype,
            device=device,
            quantization=quantization,
            layers=layers,
            differences=differences,
            task=task,
            targets=[name.strip() for name in targets.split(",") if name.strip()],
        )
    if as_json:
        screen.document(found.to_json())
    else:
        screen.show(_table(found))
        _explain(found)
    if not found.passed:
        raise typer.Exit(1)


def _table(found: ModelCheck) -> ReportTable:
    from spry.report import formats, tables

    headings = ("unit", "slope", "error against backprop", "error against differences", "passed")
    place = _place([unit.unit for unit in found.checked.units])
    texts = [
        [
            unit.unit.removeprefix(place),
            f"{unit.slope:+.2e}",
            f"{unit.gradient_error:.0e}",
            formats.NONE if unit.difference_error is None else f"{unit.difference_error:.0e}",
            "yes" if unit.passed else "zero" if unit.is_still else "NO",
        ]
        for unit in found.checked.units
    ]
    title = f"{found.model}, {found.dtype}, attention {found.attention}"
    return tables.text_table(
        title + (f"; units in {place.removesuffix('.')}" if place else ""), headings, texts
    )


def _place(units: list[str]) -> str:
    """Where a model's units lie, as the beginning of the names of all that begin as the first does."""
    parts = [unit.split(".") for unit in units]
    alike = [names for names in parts if names[0] == parts[0][0]] if parts else []
    levels = takewhile(lambda level: len(set(level)) == 1, zip(*alike, strict=False))
    shared = [level[0] for level in levels]
    return "".join(f"{name}." for name in shared[:-1]) if len(alike) > 1 else ""


def _explain(found: ModelCheck) -> None:
    checked = found.checked
    if found.advice:
        screen.say(f"Attention is {found.attention}: {found.advice}.")
    for name, count in checked.fallbacks.items():
        screen.say(
            f"{name} has no forward rule ({count} calls): torch.func.jvp is used, "
            "which is correct but needs more memory."
        )
    for name, count in checked.dropped.items():
        screen.say(f"{name} stops the derivative ({count} calls), as it does for autograd.")
    for module in checked.unsupported:
        screen.complain(f"{module.module} ({module.kind}): {module.reason}. {module.remedy}.")
    if checked.no_differences:
        screen.say(f"No finite differences of this model: {checked.no_differences}.")
    if still := sum(unit.is_still for unit in checked.units):
        screen.complain(
            f"Nothing can be told of {still} units: their gradient is zero on this batch. "
            "They are not used, or the model's weights make it so."
        )
    passed = sum(unit.passed for unit in checked.units)
    screen.say(
        f"{passed} of {len(checked.units)} units passed, {len(checked.unsupported)} unsupported modules."
    )
