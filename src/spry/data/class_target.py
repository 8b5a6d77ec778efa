"""One class an example, as text classification has it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from spry.core.errors import DataError, nearest
from spry.data.classes import number_labels
from spry.data.labels import clean
from spry.data.table import Columns, Table
from spry.data.target import Labels, Target, check_differ, column_of

if TYPE_CHECKING:
    from spry.data.dataset import Dataset


@dataclass(frozen=True)
class ClassTarget(Target):
    task: ClassVar[str] = "classification"

    def labels(self, table: Table, columns: Columns, names: tuple[str, ...] | None) -> Labels:
        return clean(table.column(columns.label), column_of(table, columns.label), names)

    def numbered(
        self,
        rows: Mapping[int, Any],
        names: tuple[str, ...] | None,
        *,
        table: Table,
        columns: Columns,
        left_out: str,
    ) -> tuple[list[int], tuple[str, ...]]:
        chosen = list(rows.values())
        if names is None:
            needs = "A classifier needs at least two classes."
            check_differ(chosen, needs, table=table, columns=columns, left_out=left_out)
        for row, label in rows.items():
            if names is not None and label not in names:
                raise DataError(
                    f"{table.source}: row {row + 1} has the label {label!r}, which the training part does not "
                    f"have. {nearest(label, names)}"
                )
        return number_labels(chosen, names)

    def relabelled(self, labels: Sequence[int], numbers: Sequence[int]) -> list[int]:
        return [numbers[label] for label in labels]

    def strata(self, labels: Sequence[int]) -> Sequence[int]:
        return labels

    def counts(self, dataset: Dataset) -> dict[str, int]:
        found = Counter(dataset.labels)
        return {name: found[number] for number, name in enumerate(dataset.label_names)}


CLASSES = ClassTarget()
