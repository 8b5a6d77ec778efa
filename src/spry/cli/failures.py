"""What failures mean for the user: a line with what failed and what to do, and the trace of what nobody foresaw.

Most errors are put into words where they arise, by the code that knows what was tried. This is the last net.
"""

from __future__ import annotations

import errno
import re
import tempfile
import traceback
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from spry.core.errors import first_line, is_out_of_memory

MEMORY = (
    "lower client.micro_batch_size or model.max_length, set model.dtype=bfloat16, or choose a smaller model; "
    "spry memory tells what a method takes"
)
DEVICE = "set model.device to one that this machine has, such as cpu"
TORCH_REMEDIES = (
    (r"not compiled with|not linked with support|no NVIDIA driver|invalid device|no CUDA GPUs", DEVICE),
    (r"CUDA error|cuDNN|CUBLAS|NCCL|MPS backend", f"resume the run; should that fail, too, {DEVICE}"),
)
"""What torch says (a pattern), and what to do about it."""
FILES = "look whether the file is whole, and download or write it anew"
NETWORK = "give a folder or file on this machine, or try again with a network"
PACKAGE_REMEDIES = {
    "safetensors": FILES,
    "safetensors_rust": FILES,
    "pyarrow": FILES,
    "huggingface_hub": NETWORK,
    "datasets": NETWORK,
    "requests": NETWORK,
    "httpx": NETWORK,
    "urllib3": NETWORK,
}
"""Packages whose own errors are about what they were given, and what to do about them."""
FILE_REMEDIES = {
    errno.ENOSPC: "Make room, then try again",
    errno.EDQUOT: "Make room, then try again",
    errno.EACCES: "Choose another place, or change who may read and write there",
    errno.EPERM: "Choose another place, or change who may read and write there",
    errno.EROFS: "Choose a place that can be written",
    errno.EEXIST: "A file is in the way: remove it, or choose another name",
    errno.ENOTDIR: "A file is where a folder should be: remove it, or choose another name",
    errno.EISDIR: "Give a file, or choose another name",
    errno.ENAMETOOLONG: "Choose a shorter name",
    errno.EMFILE: "Allow more open files, as `ulimit -n 4096` does",
}
PARSER_WORDS = (
    (r"^No such option:? '?(-[\w-]+)'?", r"there is no option \1"),
    (r"^No such", "there is no"),
    (r"^Got unexpected extra argument(?:\(s\))? \((.*)\)$", r"\1 is one argument too many"),
    (r"(Did you mean [^?]*\?)\s+\1", r"\1"),
    (r"is not a valid integer range$", "is no whole number"),
    (r"is not a valid float range$", "is no number"),
)
"""What the parser of the command line says, in each of its versions, and how it reads among Spry's own messages."""
MODEL_CODE = ("transformers", "peft", "tokenizers")
"""Packages that run the model: what they raise is about the model far more often than about Spry."""
ENGINE = ("spry.forward.", "torch")
"""What stands between a model's code and the place of an error within an operation of it."""


def misused(error: Exception) -> str | None:
    """Put what the parser of the command line refuses into a line; empty where it printed help; else None."""
    format_message = getattr(error, "format_message", None)
    if format_message is None:  # the parser's errors have no public name
        return None
    if type(error).__name__ == "NoArgsIsHelpError":
        return ""
    context: Any = getattr(error, "ctx", None)
    told = format_message().rstrip(".")
    for theirs, ours in PARSER_WORDS:
        told = re.sub(theirs, ours, told)
    commands = getattr(context and context.command, "commands", {})
    known = f". Known: {', '.join(commands)}" if commands and "Did you mean" not in told else ""
    told = f"{told}{known}".rstrip("?.") + ("?" if told.endswith("?") else ".")
    return f"{told} See {context.command_path} --help" if context else told


def explain(error: Exception) -> str | None:
    """Put a known failure into a line.

    Returns:
        What failed and what to do; None if the failure is not known, so that its trace is worth reading.
    """
    if is_out_of_memory(error):
        return f"out of memory{_asked(str(error))}: {MEMORY}."
    package = type(error).__module__.partition(".")[0]
    if package in PACKAGE_REMEDIES:
        return f"{package}: {first_line(error)}: {PACKAGE_REMEDIES[package]}."
    if isinstance(error, (RuntimeError, AssertionError)):
        for pattern, remedy in TORCH_REMEDIES:
            if re.search(pattern, str(error), re.IGNORECASE):
                return f"{first_line(error)}: {remedy}."
    if isinstance(error, OSError) and error.errno is not None:
        where = f"{error.filename}: " if error.filename else ""
        remedy = FILE_REMEDIES.get(error.errno)
        return f"{where}{error.strerror}." + (f" {remedy}." if remedy else "")
    return None


def report(error: Exception) -> str:
    """Put a failure that nobody foresaw into a line, and write its trace to a file that the line names."""
    trace = "".join(traceback.format_exception(error))
    with tempfile.NamedTemporaryFile(
        "w", prefix="spry-trace-", suffix=".txt", delete=False, encoding="utf-8", errors="replace"
    ) as file:
        file.write(trace)
    modules = list(_modules(error))
    told = f"{type(error).__name__}: {first_line(error)}{_place(error)}"
    package = _model_code(modules)
    if package:
        return (
            f"the model's code in {package} failed with {told}. See whether `spry check MODEL` passes, or choose "
            f"another model; the whole trace is in {file.name}."
        )
    return f"{told}. This is a defect of Spry, not of what you gave. Please report it with the trace in {file.name}."


def _asked(text: str) -> str:
    """How much could not be had, as far as it is said."""
    found = re.search(r"tried to allocate ([\d.]+) ?(bytes|[KMGT]iB)", text, re.IGNORECASE)
    if not found:
        return ""
    amount, unit = float(found[1]), found[2]
    if unit == "bytes":
        amount, unit = amount / 2**20, "MiB"
    return f" ({amount:,.0f} {unit} more were asked for)"


def _place(error: Exception) -> str:
    last = traceback.extract_tb(error.__traceback__, limit=-1)
    return "".join(f" ({Path(frame.filename).name}, line {frame.lineno}, in {frame.name})" for frame in last)


def _modules(error: Exception) -> Iterator[str]:
    """The modules that the error came through, the outermost first."""
    for frame, _ in traceback.walk_tb(error.__traceback__):
        yield str(frame.f_globals.get("__name__", ""))


def _model_code(modules: Sequence[str]) -> str | None:
    """The package of the model's code, if that is what failed: with only torch and the engine below it."""
    for module in reversed(modules):
        package = module.partition(".")[0]
        if package in MODEL_CODE:
            return package
        if not module.startswith(ENGINE):
            return None
    return None
