"""Hooks of modules that are taken off again; a single one is a context by itself."""

from __future__ import annotations

from collections.abc import Generator, Iterable
from contextlib import ExitStack, contextmanager

from torch.utils.hooks import RemovableHandle


@contextmanager
def hooked(hooks: Iterable[RemovableHandle]) -> Generator[None]:
    """Register hooks, one after the other as they are made, and take all off when the context ends."""
    with ExitStack() as on:
        for hook in hooks:
            on.enter_context(hook)
        yield
