"""Turns what transformers and peft raise into one line: what was tried, what they said, what to do."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager

from spry.core.errors import ModelError, SpryError, first_line, is_out_of_memory


@contextmanager
def refused_as(tried: str, remedy: str) -> Generator[None]:
    """Raise a ``ModelError`` in place of whatever is raised inside; errors of Spry's own and lack of memory pass.

    It says what was ``tried``, naming the model, and the ``remedy``, in whole sentences.
    """
    try:
        yield
    except SpryError:
        raise
    except Exception as error:  # libraries assume much of a model, and raise errors of many unrelated types
        if is_out_of_memory(error):
            raise
        raise ModelError(f"{tried} ({type(error).__name__}: {first_line(error)}). {remedy}") from error
