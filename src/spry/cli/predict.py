"""``spry predict``."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from spry.cli import screen
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
from spry.core.errors import ConfigError, DataError

if TYPE_CHECKING:
    from spry.inference.inputs import Texts
    from spry.tasks.adapter_info import AdapterInfo


def predict_command(
    folder: FolderArgument,
    data: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The texts: CSV, TSV, JSON or Parquet.")
    ] = None,
    text: Annotated[
        list[str] | None, typer.Option(help="A single text in place of a file; twice for a pair.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Where to write, as its ending says. Default: CSV, printed."),
    ] = None,
    text_column: TextOption = None,
    probabilities: Annotated[
        bool,
        typer.Option(
            "--probabilities",
            help="Add what the task has besides: probabilities of all classes, labels or options, other spans.",
        ),
    ] = False,
    encoding: EncodingOption = None,
    separator: SeparatorOption = None,
    batch_size: BatchOption = 64,
    device: DeviceOption = "cpu",
    base: BaseOption = None,
    offload: OffloadOption = None,
) -> None:
    """Answer texts: the columns of the file, and beside them what the model says, such as a class or a number."""
    from spry.data.reading import quantity
    from spry.experiment.adapter import find_adapter_folder
    from spry.inference import outputs
    from spry.tasks.adapter_info import read_info

    if (data is None) == (not text):
        raise ConfigError("give either a file with --data FILE, or a text with --text TEXT.")
    if out is not None:
        outputs.check_target(out, data)
    adapter = find_adapter_folder(folder)
    read = _read(
        read_info(adapter), data, text or (), text_column or (), encoding=encoding, separator=separator
    )
    predictor = load(adapter, device, base, offload)
    with progress(len(read.texts)) as advance:
        said = predictor.predict(read.texts, every=probabilities, batch_size=batch_size, progress=advance)
    found = outputs.with_predictions(read, said)
    _tell(read)
    if out is None:
        typer.echo(outputs.to_csv(found), nl=False)
        return
    outputs.write_table(found, out)
    screen.say(f"{quantity(len(read.texts), 'text')} answered; written to {shlex.quote(str(out))}")


def _read(
    info: AdapterInfo,
    data: Path | None,
    text: list[str] | tuple[()],
    columns: list[str] | tuple[()],
    **form: str | None,
) -> Texts:
    from spry.data.table import Table
    from spry.inference.inputs import columns_for, read_texts, texts_of
    from spry.tasks.kinds import make_task

    target = make_task(info.task_name, info.task_options).target.unanswered()
    wanted = target.columns(columns_for(info, columns))
    if data is not None:
        return read_texts(data, wanted, target, **form)
    if len(text) != len(wanted.text):
        takes = "pairs: give --text twice" if len(wanted.text) == 2 else "single texts: give --text once"
        raise DataError(f"the adapter reads {takes}.")
    return texts_of(
        Table(source="--text", columns={n: [t] for n, t in zip(wanted.text, text, strict=True)}),
        wanted,
        target,
    )


def _tell(read: Texts) -> None:
    from spry.data.cells import rows
    from spry.data.reading import quantity

    for note in read.notes:
        screen.say(note)
    if read.without:
        screen.say(
            f"{quantity(len(read.without), 'row')} without a text got no prediction ({rows(read.without)})."
        )
