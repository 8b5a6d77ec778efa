"""``spry evaluate``."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from spry.cli import screen
from spry.cli.runs import JsonOption
from spry.cli.trained import (
    BaseOption,
    BatchOption,
    DeviceOption,
    EncodingOption,
    FolderArgument,
    OffloadOption,
    SeparatorOption,
    TextOption,
    load,
    progress,
)
from spry.core.errors import DataError

if TYPE_CHECKING:
    from spry.data.dataset import Dataset
    from spry.inference.evaluation import LabelledScores
    from spry.tasks.adapter_info import AdapterInfo

_LONGEST = 30
"""Characters of a class's name that are shown."""


def evaluate_command(
    folder: FolderArgument,
    data: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Texts with what is right: labels, numbers or answers. Default: the test part of the run in DIR.",
        ),
    ] = None,
    out: Annotated[Path | None, typer.Option(metavar="FILE", help="A JSON file for the result.")] = None,
    text_column: TextOption = None,
    label_column: Annotated[
        str | None, typer.Option(metavar="NAME", help="The column of what is right. Default: as in training.")
    ] = None,
    encoding: EncodingOption = None,
    separator: SeparatorOption = None,
    batch_size: BatchOption = 64,
    device: DeviceOption = "cpu",
    base: BaseOption = None,
    offload: OffloadOption = None,
    as_json: JsonOption = False,
) -> None:
    """Compare what an adapter says with what is right: the task's scores, and how each class or label fares."""
    from spry.experiment.adapter import find_adapter_folder
    from spry.experiment.atomic import write_json
    from spry.inference.evaluation import evaluate
    from spry.inference.inputs import columns_for, read_labelled
    from spry.tasks.adapter_info import read_info
    from spry.tasks.kinds import make_task

    if out is not None and not out.parent.is_dir():
        raise DataError(f"{out}: there is no folder {out.parent}. Make it, or choose another file.")
    adapter = find_adapter_folder(folder)
    info = read_info(adapter)
    baseline = None
    if data is None:
        dataset, baseline = _test_part(folder, info)
    else:
        target = make_task(info.task_name, info.task_options).target
        columns = target.columns(columns_for(info, text_column or (), label_column))
        dataset = read_labelled(data, columns, info.labels, target, encoding=encoding, separator=separator)
    predictor = load(adapter, device, base, offload)
    with progress(len(dataset)) as advance:
        found = evaluate(predictor, dataset, baseline=baseline, batch_size=batch_size, progress=advance)
    document = {"folder": str(folder), "data": dataset.name, **found.to_json()}
    if out is not None:
        write_json(out, document)
    if as_json:
        screen.document(document)
        return
    _show(dataset, found)


def _test_part(folder: Path, info: AdapterInfo) -> tuple[Dataset, float | None]:
    """The test part of a run as the run had it, and what an answer without a model scores there."""
    from spry.experiment.build import baseline, read_splits, task_kind
    from spry.experiment.config import read_record
    from spry.experiment.folder import CONFIG, read_meta

    config = folder / CONFIG
    if not config.is_file() or {"data", "test"} & {*read_meta(folder).get("given", ())}:
        what = "no run folder" if not config.is_file() else "a run whose data was given in Python"
        raise DataError(
            f"{folder} is {what}, so it has no test part to read again. Give a file with --data FILE."
        )
    read = read_record(config)
    splits = read_splits(read)
    if splits.test is None:
        raise DataError(f"{folder}: its data has no test part. Give a file with --data FILE.")
    known = read_meta(folder).get("fingerprints", {}).get("data", {}).get(read.data.name)
    if known not in {None, splits.fingerprint}:
        screen.say(
            f"{read.data.name} is not the data that the run began with; its score may differ from the run's."
        )
    test = replace(splits.test, name=f"{Path(read.data.name).name}, test part")
    known_names = set(test.label_names) <= set(info.labels)
    return test.relabelled(info.labels) if known_names else test, baseline(task_kind(read, splits), splits)


def _show(dataset: Dataset, found: LabelledScores) -> None:
    from spry.data.reading import quantity
    from spry.report.answers import answer_tables, class_table, sample_table
    from spry.tasks.class_scores import ClassScore

    if dataset.reading is not None:
        for rows in dataset.reading.left_out:
            screen.say(f"left out: {rows}")
        for note in dataset.reading.notes:
            screen.say(f"note: {note}")
    told, labels = found.metrics, [_short(label) for label in found.labels]
    what = f"{dataset.name}: {quantity(told.examples, 'example')}. {found.kind.title(found.labels)}"
    screen.out().print(f"{what}\n{_scores(found)}\n", soft_wrap=True)
    document = found.to_json()
    if "confusion" in document:
        screen.show(*answer_tables(labels, told.confusion, "by class"))
    elif "classes" in document:
        screen.show(class_table((ClassScore(**one) for one in document["classes"]), "label"))
    elif "samples" in document:
        screen.show(sample_table(document["samples"], "free answers"))


def _scores(found: LabelledScores) -> str:
    """All that was measured, and the baseline of the score, in a line."""
    from spry.tasks.score import Score
    from spry.tasks.score_text import baseline_label, score_name, score_with_unit

    name = found.kind.score
    told = {score_name(one): score_with_unit(value, one) for one, value in found.metrics.values().items()}
    if found.baseline is not None:
        told[baseline_label(Score(name=name))] = score_with_unit(found.baseline, name)
    return "   ".join(f"{what} {value}" for what, value in told.items())


def _short(label: str) -> str:
    return label if len(label) <= _LONGEST else label[: _LONGEST - 1] + "…"
