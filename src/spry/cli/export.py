"""``spry export``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from spry.cli import screen
from spry.cli.trained import BaseOption, FolderArgument


def export_command(
    folder: FolderArgument,
    out: Annotated[Path, typer.Argument(metavar="OUT", help="A new folder.")],
    merge: Annotated[
        bool, typer.Option("--merge", help="Merge the adapter into its base: a plain model for transformers.")
    ] = False,
    gguf: Annotated[
        Path | None,
        typer.Option(
            metavar="CONVERTER",
            help="Merge a language model, and write it as model.gguf, too, by llama.cpp's convert_hf_to_gguf.py, "
            "which lies here.",
        ),
    ] = None,
    base: BaseOption = None,
) -> None:
    """Write an adapter, or with --merge a whole model, into a folder that can be sent and published."""
    from spry.experiment.adapter import find_adapter_folder
    from spry.inference.gguf import GGUF_FILE, export_gguf
    from spry.inference.merge import copy_adapter, merge_adapter
    from spry.tasks.adapter_info import read_info

    adapter = find_adapter_folder(folder)
    if not merge and gguf is None:
        copy_adapter(adapter, out)
        screen.say(f"Adapter: {out}. How it is loaded: {out / 'README.md'}")
        return
    with screen.err().status(f"merging {adapter} ..."):
        whole = {"base": base}
        notes = (
            merge_adapter(adapter, out, **whole) if gguf is None else export_gguf(adapter, out, gguf, **whole)
        )
    for note in notes:
        screen.say(note)
    screen.say(f'Model: {out}. In Python: transformers.pipeline("{read_info(adapter).task}", "{out}")')
    if gguf is not None:
        screen.say(f"For llama.cpp: {out / GGUF_FILE}")
