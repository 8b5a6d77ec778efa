"""A merged language model as a gguf file, written by llama.cpp's own converter, which no package carries."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from spry.core.errors import ModelError
from spry.inference.merge import merge_adapter
from spry.tasks.adapter_info import read_info
from spry.tasks.causal_lm.kind import CausalLM

GGUF_FILE = "model.gguf"
_TYPES: Mapping[str, str] = {"float16": "f16", "bfloat16": "bf16"}
"""What the converter calls a type of weights; it has nothing wider than f32."""


def export_gguf(folder: Path, out: Path, converter: Path, *, base: Path | None = None) -> tuple[str, ...]:
    """Merge an adapter into its base as ``merge_adapter`` does, and write the model as ``out/model.gguf``, too.

    Args:
        folder: The adapter of a language model.
        converter: llama.cpp's ``convert_hf_to_gguf.py``.

    Returns:
        Notes for the user.

    Raises:
        ModelError: If the model is of another task, there is no converter, or it cannot write the model.
    """
    info = read_info(folder)
    if info.task_name != CausalLM.name:
        raise ModelError(
            f"{folder}: a gguf file holds language models, and this adapter is of the task {info.task_name}. Write a "
            "plain model: spry export DIR OUT --merge."
        )
    if not converter.is_file():
        raise ModelError(
            f"{converter}: there is no such file. Give convert_hf_to_gguf.py of a copy of llama.cpp, which no package "
            "carries, with what its requirements.txt names installed; or only merge: spry export DIR OUT --merge."
        )
    notes = merge_adapter(folder, out, base=base)
    kind = _TYPES.get(info.dtype, "f32")
    done = subprocess.run(
        [sys.executable, str(converter), str(out), "--outfile", str(out / GGUF_FILE), "--outtype", kind],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        last = (done.stderr.strip().splitlines() or [f"it ended with status {done.returncode}"])[-1]
        raise ModelError(
            f"{converter} cannot write {out / GGUF_FILE} ({last}). The merged model is in {out} all the same."
        )
    return notes
