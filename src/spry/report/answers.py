"""What a run's model answered: by class or in free texts, what it takes for what, and how each client fares."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spry.report.read import Run
from spry.report.tables import Cell, ReportTable, text_table
from spry.tasks.class_scores import ClassScore, class_scores, most_confused
from spry.tasks.score_text import NONE, score_label, score_value

MATRIX = 12
"""Up to so many classes the whole matrix is shown, above it what is most often confused."""
MOST_PAIRS = 10


def answers(run: Run) -> list[ReportTable]:
    """Tabulate the answers on the test part, else on the validation part, as far as a run has kept them."""
    part = next((part for part in ("test", "validation") if run.details(part)), None)
    if part is None:
        return []
    kept = run.details(part)
    tables = [sample_table(kept["samples"], f"free answers, {part} part")] if "samples" in kept else []
    if "confusion" in kept:
        confusion = np.array(kept["confusion"], dtype=np.int64)
        tables += answer_tables(_labels(run, len(confusion)), confusion, f"by class, {part} part")
    return tables


def sample_table(samples: Iterable[Mapping[str, str]], title: str) -> ReportTable:
    """Set what a language model answered beside what was expected."""
    rows = [[sample[key] or NONE for key in ("prompt", "expected", "answer")] for sample in samples]
    return text_table(title, ("prompt", "expected", "the model's answer"), rows, prose=True)


def answer_tables(labels: Sequence[str], confusion: NDArray[np.int64], title: str) -> list[ReportTable]:
    """Tabulate answers by class, under a title, and by what is taken for what; true classes are the matrix's rows."""
    taken = (_matrix if len(labels) <= MATRIX else _pairs)(labels, confusion)
    by_class = class_table(class_scores(labels, confusion), "class", title)
    return [by_class, *([taken] if taken.rows else [])]


def clients(run: Run) -> ReportTable:
    """Tabulate the last scores of each client that was evaluated, on what it holds out."""
    keys = [run.score.key(part) for part in ("generalized", "personalized")]
    last: dict[int, list[str]] = {}
    for entry in run.rounds:
        for client in entry["clients"]:
            values = [client.get(key) for key in keys]
            if any(value is not None for value in values):
                told = [score_value(value, run.score.name) for value in values]
                last[client["client"]] = [str(client["examples"]), str(entry["round"] + 1), *told]
    titles = (score_label(run.score.name, part) for part in ("generalized", "personalized"))
    headings = ("client", "training examples", "last evaluated in round", *titles)
    return text_table(
        "clients, when last evaluated", headings, [[str(client), *last[client]] for client in sorted(last)]
    )


def tuned_clients(run: Run) -> ReportTable:
    """Tabulate each client's score before and after local tuning, on what it holds out."""
    rows = run.local_tuning.get("clients", [])
    stages = [
        (stage, title)
        for stage, title in (("before", "before"), ("after", "after"), ("own", "the method's own model"))
        if any(row.get(stage) is not None for row in rows)
    ]
    routed = any("local_share" in row.get("own_details", {}) for row in rows)
    headings = (
        "client",
        "training examples",
        "held out",
        *(score_label(run.score.name, title) for _, title in stages),
        *(["answered locally (%)", "one of both right (%)"] if routed else []),
    )
    return text_table("local tuning", headings, [_tuned(row, run, stages, routed=routed) for row in rows])


def _tuned(row: Mapping[str, Any], run: Run, stages: Sequence[tuple[str, str]], *, routed: bool) -> list[str]:
    shares = [row.get("own_details", {}).get(key) for key in ("local_share", "either_right")]
    return [
        *(str(row[key]) for key in ("client", "examples", "held_out")),
        *(score_value(row.get(stage), run.score.name) for stage, _ in stages),
        *([NONE if share is None else f"{100 * share:.0f}" for share in shares] if routed else []),
    ]


def _labels(run: Run, count: int) -> Sequence[str]:
    known = (run.summary or {}).get("labels") or list(run.meta.get("data", {}).get("train", {}))
    return known if len(known) == count else [str(number) for number in range(count)]


def class_table(scores: Iterable[ClassScore], what: str, title: str = "") -> ReportTable:
    """Tabulate how each class, or label, fares; that is the title if there is no other."""
    rows = [
        [
            score.label,
            *(f"{100 * share:.1f}" for share in (score.precision, score.recall, score.f1)),
            f"{score.support:,}",
        ]
        for score in scores
    ]
    return text_table(
        title or f"by {what}", (what, "precision (%)", "recall (%)", "F1 (%)", "examples"), rows
    )


def _matrix(labels: Sequence[str], confusion: NDArray[np.int64]) -> ReportTable:
    """One row a true class; bars are shares of the row."""
    rows = []
    for label, counts in zip(labels, confusion.tolist(), strict=True):
        total = max(sum(counts), 1)
        rows.append((Cell(text=label), *(Cell(text=f"{n:,}", share=n / total) for n in counts)))
    headings = ("class", *(f"taken for {label}" for label in labels))
    return ReportTable(title="confusion matrix", columns=headings, rows=tuple(rows))


def _pairs(labels: Sequence[str], confusion: NDArray[np.int64]) -> ReportTable:
    rows = [[true, said, f"{count:,}"] for true, said, count in most_confused(labels, confusion, MOST_PAIRS)]
    return text_table("most often confused", ("class", "taken for", "examples"), rows)
