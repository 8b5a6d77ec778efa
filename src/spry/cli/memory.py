"""``spry memory``."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from spry.cli import screen
from spry.cli.runs import JsonOption
from spry.core.errors import ConfigError, nearest

if TYPE_CHECKING:
    from spry.profile import Case, CaseResult, MeasuredMethod
    from spry.report.tables import ReportTable


def memory_command(
    model: Annotated[
        str,
        typer.Option(
            help="What --set model.name takes: minilm, a folder, package:NAME, a hub name; or shape:NAME, such as "
            "shape:llama2-7b. Its weights are random, its files of weights are not read."
        ),
    ] = "shape:bert-base",
    method: Annotated[str, typer.Option(metavar="A,B,C", help="Which methods to measure.")] = (
        "inference,spry,residual,residual-2-blocks,residual-full,backprop,backprop+checkpointing,mesp,fedmezo"
    ),
    batch: Annotated[int, typer.Option(min=1, help="Examples in a batch.")] = 8,
    length: Annotated[
        int | None,
        typer.Option(min=1, help="Tokens in an example. Default: 512, or the most that the model takes."),
    ] = None,
    micro_batch: Annotated[
        int | None, typer.Option(min=1, help="Examples in memory at once. Default: the batch.")
    ] = None,
    directions: Annotated[int, typer.Option(min=1, help="Directions in one pass.")] = 1,
    slice: Annotated[
        Literal["all", "last"], typer.Option(help="Which layers' LoRA weights are trained.")
    ] = "all",
    layers: Annotated[int | None, typer.Option(min=1, help="Depth. Default: the model's own.")] = None,
    targets: Annotated[
        str,
        typer.Option(
            help="Modules to adapt, by endings of their names, with commas. Default: query and value projections."
        ),
    ] = "",
    head: Annotated[
        Literal["classification", "causal-lm"], typer.Option(help="Whose loss the model computes itself.")
    ] = "classification",
    task: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="What it learns, as task.name has it, by the task's own loss in place of the model's; "
            "that of causal-lm makes the logits by tiles.",
        ),
    ] = None,
    dtype: Annotated[
        Literal["float32", "bfloat16", "float16", "float64"], typer.Option(help="Of weights and arithmetic.")
    ] = "float32",
    quantization: Annotated[
        Literal["nf4", "int8", "int4"] | None,
        typer.Option(help="How the frozen linear layers are packed. Default: not at all."),
    ] = None,
    device: Annotated[str, typer.Option(help="cpu, cuda or cuda:N.")] = "cpu",
    repeats: Annotated[
        int, typer.Option(min=0, help="Most timed steps of a method; with 0 no time is taken.")
    ] = 5,
    budget: Annotated[
        str | None, typer.Option(help="Say what fits into this much memory, such as 2GB, weights included.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Measure the peak memory and the time of a training step, each method in a fresh process.

    Memory is counted above the resident model. Models have random weights.
    """
    from spry.models.device import check_device
    from spry.models.quantized.kinds import find_packing
    from spry.profile import Case
    from spry.profile.case_task import model_class_of
    from spry.profile.measure import lay_out
    from spry.profile.random_model import usual_length
    from spry.profile.resolve import resolve_model

    check_device(device, "the device")
    methods = _methods(method)
    if note := resolve_model(model).note:
        screen.say(note)
    adapted = [name.strip() for name in targets.split(",") if name.strip()]
    case = Case(
        model=model, method=methods[0], batch=batch, length=length or 1, micro_batch=micro_batch,
        directions=directions, slice=slice, layers=layers, targets=adapted, head=head, task=task,
        dtype=dtype, quantization=quantization, device=device, repeats=repeats,
    )  # fmt: skip
    if length is None:
        case = replace(case, length=usual_length(model, model_class_of(case)))
    cases = [replace(case, method=name) for name in methods]
    if quantization is not None:
        find_packing(quantization, device)
    lay_out(cases[0])  # refused here is what would be refused in every measuring process
    if budget is not None:
        _fit(cases, budget, as_json=as_json)
        return
    rows = _measured(cases)
    if as_json:
        screen.document({"rows": [row.to_json() for row in rows]})
    else:
        screen.show(_table(rows))
    _complain(rows)


def _measured(cases: list[Case]) -> list[CaseResult]:
    from spry.profile import measure_all

    rows: list[CaseResult] = []
    with screen.err().status(f"measuring {cases[0].method} ...") as status:
        for row in measure_all(cases):
            rows.append(row)
            following = cases[len(rows) : len(rows) + 1]
            status.update(f"measuring {following[0].method} ..." if following else "")
    return rows


def _fit(cases: list[Case], budget: str, *, as_json: bool) -> None:
    from spry.profile.budget import parse_bytes, what_fits
    from spry.report import formats, tables

    size, found = parse_bytes(budget), []
    with screen.err().status("predicting ...") as status:
        for fit in what_fits(cases[0], size, [case.method for case in cases]):
            found.append(fit)
            status.update(f"looked at {fit.method}, layers: {fit.slice} ...")
    if as_json:
        screen.document({"budget_bytes": size, "fits": [fit.to_json() for fit in found]})
        return
    texts = [
        [
            fit.method,
            fit.slice,
            str(fit.micro_batch) if fit.fits else "does not fit",
            formats.format_bytes(fit.predicted_bytes),
            formats.format_bytes(fit.measured_bytes),
        ]
        for fit in found
    ]
    headings = ("method", "layers trained", "largest micro-batch", "predicted in all", "measured in all")
    title = f"{cases[0].model}, {cases[0].batch} × {cases[0].length} tokens, in {formats.format_bytes(size)}"
    screen.show(tables.text_table(title, headings, texts))
    if not any(fit.fits for fit in found):
        screen.say(f"Nothing fits. {_hint(cases[0], size)}")


def _hint(case: Case, size: int) -> str:
    """What would make room: fewer bytes a weight if the weights alone are too many, else shorter or fewer texts."""
    from spry.profile.budget import resident_bytes
    from spry.report.formats import format_bytes

    weights = resident_bytes(case)
    told = f"The weights alone take {format_bytes(weights)}"
    lighter = [] if case.dtype in {"bfloat16", "float16"} else [("--dtype bfloat16", {"dtype": "bfloat16"})]
    lighter += (
        [] if case.quantization else [("--quantization nf4", {"dtype": "bfloat16", "quantization": "nf4"})]
    )
    options = [f"{option} ({format_bytes(resident_bytes(replace(case, **to)))})" for option, to in lighter]
    shorter = f"fewer tokens than --length {case.length}" if case.length > 1 else ""
    rest = ["a smaller model", *([shorter] if shorter and weights < size else [])]
    return f"{told}. Try {', or '.join([*options, *rest])}."


def _complain(rows: list[CaseResult]) -> None:
    failed = [row for row in rows if row.error]
    for row in failed:
        screen.complain(f"{row.case.method}: {row.error}")
    if any("out of memory" in (row.error or "") for row in failed):
        screen.say("Lower --batch or --length, set --micro-batch 1 or --dtype bfloat16, or see --budget.")
    if len(failed) == len(rows):
        raise typer.Exit(1)


def _table(rows: list[CaseResult]) -> ReportTable:
    from spry.report import formats, tables

    case = rows[0].case
    stock = next((row for row in rows if row.case.method == "inference"), None)
    least = stock and stock.peak_bytes_above_model
    headings = (
        "method",
        "peak above the model",
        "predicted",
        "peak ratio",
        "operations ratio",
        "step",
        "step ratio",
        "slope error",
    )
    texts = [
        [
            row.case.method,
            formats.format_bytes(row.peak_bytes_above_model),
            formats.format_bytes(row.predicted_bytes),
            formats.ratio(row.peak_bytes_above_model, least),
            formats.ratio(row.operations, stock and stock.operations),
            formats.duration(row.step_seconds),
            formats.ratio(row.time_ratio, 1.0),
            formats.NONE if row.slope_relative_error is None else f"{row.slope_relative_error:.0e}",
        ]
        for row in rows
    ]
    resident = formats.format_bytes(max((sum(row.resident_bytes.values()) for row in rows), default=0))
    what = "" if case.task is None else f"{case.task}, "
    title = f"{case.model}, {what}{case.batch} × {case.length} tokens, {case.dtype}, model {resident}"
    title += "; ratios are to inference" if least is not None else ""
    return tables.text_table(title, headings, texts)


def _methods(given: str) -> list[MeasuredMethod]:
    from spry.profile import MEASURED_METHODS

    named = list(dict.fromkeys(name.strip() for name in given.split(",") if name.strip()))
    for name in named:
        if name not in MEASURED_METHODS:
            raise ConfigError(f"no method {name!r} can be measured. {nearest(name, MEASURED_METHODS)}")
    if not named:
        raise ConfigError(f"--method names no method. Known: {', '.join(MEASURED_METHODS)}.")
    return [known for name in named for known in MEASURED_METHODS if known == name]
