"""The classes of a trained head: a checkpoint numbers them in its config, and data must be numbered alike."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

_SHOWN = 10


def checkpoint_labels(config: Any) -> tuple[str, ...] | None:
    """Read the names of the classes that a checkpoint was trained on, in the order of their numbers.

    None if its configuration says none (``LABEL_0``, ``LABEL_1``, ... is what transformers fills in), or one twice.
    """
    named = getattr(config, "id2label", None) or {}
    names = tuple(str(named[number]) for number in sorted(named))
    generic = all(name == f"LABEL_{number}" for number, name in enumerate(names))
    return None if generic or len({_plain(name) for name in names}) < len(names) else names


def order_labels(labels: int | Sequence[str], trained: Sequence[str] | None) -> tuple[str, ...]:
    """Name the classes of a task in the order of their numbers, which is the checkpoint's if it has the same classes.

    Names that differ in case or white space only are the same class: a head trained on ``POSITIVE`` and ``NEGATIVE``
    fits data that says ``positive`` and ``negative``. The data's names are returned.
    """
    if isinstance(labels, int):
        return tuple(trained) if trained and len(trained) == labels else tuple(map(str, range(labels)))
    plain = {_plain(name): name for name in labels}
    if trained is None or len(plain) < len(labels) or not _same(labels, trained):
        return tuple(labels)
    return tuple(plain[_plain(name)] for name in trained)


def label_notes(
    model: str, names: Sequence[str], trained: Sequence[str] | None, *, kept: bool, replaced: bool
) -> list[str]:
    """Say what became of a trained head whose classes may not be the data's.

    It is ``kept`` if the checkpoint's head is the task's, and ``replaced`` if the checkpoint has a head of another
    size.
    """
    if replaced:
        has = f"classes of another number ({_listed(trained)})" if trained else "another number of classes"
        return [f"{model}: its head has {has}; the head for {len(names)} classes starts anew."]
    unnamed = trained is None and tuple(names) == order_labels(len(names), None)
    if not kept or unnamed or (trained is not None and _same(names, trained)):
        return []
    has = f"classes of other names ({_listed(trained)})" if trained else "classes that it does not name"
    return [f"{model}: its head has {has}; yours are numbered in the order {_listed(names)}."]


def _same(names: Sequence[str], trained: Sequence[str]) -> bool:
    return sorted(map(_plain, names)) == sorted(map(_plain, trained))


def _plain(name: str) -> str:
    return " ".join(name.split()).casefold()


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:_SHOWN]) + (", ..." if len(names) > _SHOWN else "")
