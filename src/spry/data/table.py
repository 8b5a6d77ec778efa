"""A table as a reader found it: columns of plain Python values, before anything is made of them."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from spry.core.errors import DataError, nearest


@dataclass(frozen=True, kw_only=True)
class Columns:
    """Which columns are meant.

    Args:
        text: One of texts, or two for pairs.
        label: That of labels; the empty name where a task needs none.
        group: That of natural client ids, if any.
        more: Further columns by what they are to the task.
    """

    text: tuple[str, ...] = ("text",)
    label: str = "label"
    group: str | None = None
    more: Mapping[str, str] = field(default_factory=dict)

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(filter(None, (*self.text, self.label, *self.more.values(), self.group)))


@dataclass(frozen=True, kw_only=True)
class Table:
    """Columns of equal length, and where they come from.

    Args:
        columns: The cells by column: texts, numbers, None, lists, dictionaries, bytes, dates, as written.
        repeated: Names that stand above more than one column.
        hint: A sentence for whoever names a column that is not there.
    """

    source: str
    columns: Mapping[str, Sequence[Any]]
    format: str = "table"
    size: int | None = None
    repeated: Collection[str] = ()
    hint: str = ""
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return max(map(len, self.columns.values()), default=0)

    def column(self, name: str) -> Sequence[Any]:
        """The cells of a column; an error names the nearest if there is none."""
        if name in self.repeated:
            raise DataError(
                f"{self.source}: {name!r} stands above more than one column. Give each a name of its own."
            )
        if name not in self.columns:
            advice = f"{nearest(name, self.columns)} {self.hint}".rstrip()
            raise DataError(f"{self.source}: there is no column {name!r}. {advice}")
        return self.columns[name]
