"""What the commands that use a trained adapter have in common."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from spry.cli import screen
from spry.core.errors import ConfigError

if TYPE_CHECKING:
    from spry.inference.predictor import Predictor

FolderArgument = Annotated[Path, typer.Argument(metavar="DIR", help="A run folder, or an adapter folder.")]
TextOption = Annotated[
    list[str] | None,
    typer.Option(
        "--text-column", metavar="NAME", help="The column of texts; twice for pairs. Default: as in training."
    ),
]
EncodingOption = Annotated[
    str | None,
    typer.Option(
        metavar="NAME", help="Of a text file, such as cp1252. Default: UTF-8, or UTF-16 with its mark."
    ),
]
SeparatorOption = Annotated[
    str | None,
    typer.Option(metavar="CHARACTER", help="Between cells of a text file, or tab. Default: found."),
]
BatchOption = Annotated[int, typer.Option(min=1, help="Texts in a batch.")]
DeviceOption = Annotated[str, typer.Option(help="cpu, cuda or cuda:N.")]
BaseOption = Annotated[
    Path | None,
    typer.Option(metavar="FOLDER", help="Where the base model lies. Default: where the adapter says."),
]
OffloadOption = Annotated[
    str | None,
    typer.Option(
        metavar="disk", help="Leave the base's weights on the disk, block by block. Default: in memory."
    ),
]


def load(folder: Path, device: str, base: Path | None, offload: str | None) -> Predictor:
    """Load what a folder holds, and print its notes."""
    from spry.inference.loading import load_predictor
    from spry.models.device import check_device

    check_device(device, "--device")
    if offload not in {None, "disk"}:
        raise ConfigError(
            f"--offload is {offload!r}. Allowed: disk. Leave it out to keep the weights in memory."
        )
    with screen.err().status(f"loading {folder} ..."):
        predictor = load_predictor(folder, device=device, base=base, offload="disk" if offload else None)
    for note in predictor.notes:
        screen.say(note)
    return predictor


@contextmanager
def progress(texts: int) -> Generator[Callable[[int], None]]:
    """Show how many texts are done, if someone looks on."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = screen.err()
    columns = (TextColumn("texts"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("", total=texts)
        yield lambda count: bar.advance(task, count)
