"""Any number of labels a text, in a list or between separators."""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from spry.core.errors import DataError, nearest
from spry.data import cells
from spry.data.classes import in_order
from spry.data.labels import spells_list
from spry.data.table import Columns, Table
from spry.data.target import MISSING, Labels, Target, check_differ, column_of

if TYPE_CHECKING:
    from spry.data.dataset import Dataset

LABEL_SEPARATORS = "|;,"
"""What may stand between labels where nothing is said: the first of these that occurs."""


@dataclass(frozen=True)
class LabelSetTarget(Target):
    """Sets of labels.

    Args:
        separator: What stands between labels that are written as text; None finds it.
    """

    task: ClassVar[str] = "multi-label"

    separator: str | None = None

    def claims(self, table: Table, columns: Columns) -> bool:
        """Whether a cell is a list, or the text of one, which no single class is."""
        if columns.label not in table.columns:
            return False
        return any(_is_list(cell) for cell in table.columns[columns.label])

    def labels(self, table: Table, columns: Columns, names: tuple[str, ...] | None) -> Labels:
        where, column = column_of(table, columns.label), table.column(columns.label)
        mark = self.separator or next(
            (m for m in LABEL_SEPARATORS if any(m in str(cell) for cell in column)), None
        )
        values = [_labels_of(cell, mark, where, row) for row, cell in enumerate(column, start=1)]
        listed = any(map(_is_list, column))
        told = None if self.separator or listed or mark is None else f"labels are taken apart at {mark!r}"
        if names is None:
            _refuse_vectors(values, where)
        notes = () if told is None else (f"{where}: {told} (task.separator).",)
        return Labels(values=values, nothing="[]", notes=notes)

    def numbered(
        self,
        rows: Mapping[int, Any],
        names: tuple[str, ...] | None,
        *,
        table: Table,
        columns: Columns,
        left_out: str,
    ) -> tuple[list[tuple[int, ...]], tuple[str, ...]]:
        found = {label for labels in rows.values() for label in labels}
        if names is None:
            needs = "The task multi-label needs at least two labels."
            check_differ(found, needs, table=table, columns=columns, left_out=left_out)
        known = in_order(found) if names is None else names
        numbers = {name: number for number, name in enumerate(known)}
        for row, labels in rows.items():
            for label in labels:
                if label not in numbers:
                    raise DataError(
                        f"{table.source}: row {row + 1} has the label {label!r}, which the training part does not "
                        f"have. {nearest(label, known)}"
                    )
        return [tuple(sorted({numbers[label] for label in labels})) for labels in rows.values()], known

    def relabelled(self, labels: Sequence[tuple[int, ...]], numbers: Sequence[int]) -> list[Any]:
        return [tuple(sorted(numbers[label] for label in some)) for some in labels]

    def strata(self, labels: Sequence[tuple[int, ...]]) -> Sequence[int]:
        """The rarest label of each example, and a class of its own for those without any."""
        counts = Counter(label for some in labels for label in some)
        return [min(some, key=lambda label: (counts[label], label), default=-1) + 1 for some in labels]

    def counts(self, dataset: Dataset) -> dict[str, int]:
        found = Counter(label for some in dataset.labels for label in some)
        return {name: found[number] for number, name in enumerate(dataset.label_names)}

    def describe(self, dataset: Dataset) -> str:
        sizes = [len(some) for some in dataset.labels]
        mean, without = sum(sizes) / len(sizes), sizes.count(0)
        return f"multi-label, {mean:.2f} a text, at most {max(sizes)}; {without:,} texts without any"


def _is_list(cell: Any) -> bool:
    return cells.is_list(cell) or (isinstance(cell, str) and spells_list(cell.strip()))


def _labels_of(cell: Any, mark: str | None, where: str, row: int) -> tuple[str, ...] | str:
    """The labels of one cell; ``MISSING`` if there is no cell, and no label if its list is empty."""
    if cells.is_list(cell):
        return _plain(cell, where, row)
    text = cells.text(cell, where, row).strip()
    if not text or text.lower() in cells.MISSING_WORDS:
        return MISSING
    if spells_list(text):
        return _plain(_parsed(text), where, row)
    if text.startswith("[") or text.endswith("]"):
        raise DataError(
            f"{where}: row {row} holds a list that cannot be read ({text[:60]}). Write labels in quotes, as in "
            '["a", "b"], or without brackets, as in a|b.'
        )
    return tuple(piece.strip() for piece in (text.split(mark) if mark else [text]) if piece.strip())


def _parsed(text: str) -> Iterable[Any]:
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return re.findall(r"-?[\d.]+", text)  # NumPy's spelling has no commas


def _refuse_vectors(values: Sequence[tuple[str, ...] | str], where: str) -> None:
    """Refuse rows of zeros and ones, a place for each label: the labels that they mean would be called 0 and 1."""
    sets = [value for value in values if isinstance(value, tuple)]
    width = len(sets[0]) if sets else 0
    if width > 1 and all(len(value) == width and {*value} <= {"0", "1"} for value in sets):
        raise DataError(
            f"{where}: every row holds {width} zeros and ones ({','.join(sets[0])[:60]}), which say for each label "
            "whether it is there. Write the names of those that are, as in a|b, and [] for none."
        )


def _plain(labels: Iterable[Any], where: str, row: int) -> tuple[str, ...]:
    return tuple(label for label in (cells.text(one, where, row).strip() for one in labels) if label)
