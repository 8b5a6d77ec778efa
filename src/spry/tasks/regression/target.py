"""Numbers as labels, such as the similarity of two sentences."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from spry.core.errors import DataError
from spry.data import cells
from spry.data.table import Columns, Table
from spry.data.target import MISSING, Labels, Target, check_differ, column_of

if TYPE_CHECKING:
    from spry.data.dataset import Dataset

TENTHS = 10
"""Parts of about as many examples each, from small to large numbers, by which examples are dealt and held out."""


@dataclass(frozen=True)
class NumberTarget(Target):
    task: ClassVar[str] = "regression"

    def labels(self, table: Table, columns: Columns, names: tuple[str, ...] | None) -> Labels:
        where = column_of(table, columns.label)
        return Labels(
            values=[
                _number(cell, where, row) for row, cell in enumerate(table.column(columns.label), start=1)
            ]
        )

    def numbered(
        self,
        rows: Mapping[int, Any],
        names: tuple[str, ...] | None,
        *,
        table: Table,
        columns: Columns,
        left_out: str,
    ) -> tuple[list[float], tuple[str, ...]]:
        values = list(rows.values())
        if names is None:
            needs = "A regression needs labels that differ."
            check_differ(values, needs, table=table, columns=columns, left_out=left_out)
        return values, ()

    def strata(self, labels: Sequence[float]) -> Sequence[int]:
        """Tenths of the numbers' range, each with about as many examples; equal numbers are together."""
        values = np.asarray(labels, dtype=np.float64)
        cuts = np.quantile(values, np.arange(1, TENTHS) / TENTHS) if len(values) else np.zeros(0)
        return np.searchsorted(np.unique(cuts), values, side="left").tolist()

    def describe(self, dataset: Dataset) -> str:
        values = np.asarray(dataset.labels, dtype=np.float64)
        return (
            f"numbers from {values.min():.4g} to {values.max():.4g}, mean {values.mean():.4g}, "
            f"standard deviation {values.std():.4g}"
        )


def _number(cell: Any, where: str, row: int) -> float | str:
    """Read one cell; ``MISSING`` if there is nothing in it."""
    if cells.is_missing(cell) or (
        isinstance(cell, str) and cell.strip().lower() in {"", *cells.MISSING_WORDS}
    ):
        return MISSING
    if cells.is_truth(cell):
        raise DataError(
            f"{where}: row {row} holds true or false, no number. Set task.name=classification, or name another column."
        )
    try:
        value = float(cell)
    except (TypeError, ValueError):
        comma = isinstance(cell, str) and cell.count(",") == 1 and "." not in cell
        hint = " Write decimals with a point." if comma else ""
        raise DataError(
            f"{where}: row {row} holds {str(cell)[:60]!r}, no number, which the task regression learns.{hint} Name the "
            "column of numbers, or set task.name=classification for classes."
        ) from None
    if not math.isfinite(value):
        raise DataError(f"{where}: row {row} holds {value}. Allowed: finite numbers; remove the row.")
    return value
