"""The targets of the comparison, and whether its runs meet them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from statistics import fmean

from benchmarks.comparison_cells import RIVAL, Cell, Place, crossing, gap, spent
from benchmarks.comparison_rows import ROWS
from benchmarks.convergence_data import SETS

Found = Mapping[Place, Mapping[str, Cell]]
CANDIDATES = ("full", "full_drawn", "identity", "identity_2", "mlp", "identity_server")
"""Rows that may become the recipe; each is held to its targets."""
BLOCK = "last_block"
FEW = ("spry_few", "fedmezo_few")
"""Spry and FedMeZO in few dimensions."""
NEAR = 0.97
"""The share of the rival's best accuracy that costs are counted to."""
DATA = {name: made.title for name, made in SETS.items()}


@dataclass(frozen=True, kw_only=True)
class Target:
    """What is asked of rows in some places.

    Args:
        asked: In words, with the limit.
        rows: Of whom.
        places: Where.
        measured: The number for a row in a place; None if it cannot be said.
        written: How that number is written.
        met: Whether it is good enough.
        rival: The row that it is held against.
    """

    asked: str
    rows: tuple[str, ...]
    places: tuple[Place, ...]
    measured: Callable[[Mapping[str, Cell], str], float | None]
    written: Callable[[float], str]
    met: Callable[[float], bool]
    rival: str = RIVAL


def apart(rival: str) -> Callable[[Mapping[str, Cell], str], float | None]:
    """Points of accuracy beyond another row, the mean over the seeds that both have."""

    def measured(own: Mapping[str, Cell], row: str) -> float | None:
        found = gap(own[row], own[rival]) if row in own and rival in own else None
        return None if found is None else 100 * fmean(found[1])

    return measured


def target_of(own: Mapping[str, Cell]) -> float | None:
    """The accuracy that costs are counted to; None without the rival."""
    return NEAR * own[RIVAL].best if RIVAL in own else None


def cost_beside(kind: str) -> Callable[[Mapping[str, Cell], str], float | None]:
    """What reaching the target takes a row, as a share of what it takes the rival; infinite if it does not get there.

    Nothing where the head alone is there already.
    """

    def measured(own: Mapping[str, Cell], row: str) -> float | None:
        target = target_of(own)
        if target is None or row not in own:
            return None
        ours, theirs = (crossing(own[name].curve, target) for name in (row, RIVAL))
        if not theirs:
            return None
        if ours is None:
            return float("inf")
        prices = [spent(own[name], rounds)[kind] for name, rounds in ((row, ours), (RIVAL, theirs))]
        return prices[0] / prices[1] if prices[0] is not None and prices[1] else None

    return measured


def _points(value: float) -> str:
    return f"{value:+.1f}"


def _times(value: float) -> str:
    return "never there" if value == float("inf") else f"{value:.2f} x"


def _everywhere(alpha: float) -> tuple[Place, ...]:
    return tuple((name, alpha) for name in SETS)


def _ahead(
    least: float, rival: str, places: tuple[Place, ...], asked: str, rows: tuple[str, ...] = CANDIDATES
) -> Target:
    """At least so many points of accuracy beyond another row."""
    return Target(
        asked=asked,
        rows=rows,
        places=places,
        measured=apart(rival),
        written=_points,
        met=lambda value: value >= least,
        rival=rival,
    )


def _cheaper(most: float, kind: str, said: str) -> Target:
    """At most such a share of the rival's cost on the way to the target."""
    return Target(
        asked=f"{said} to 97 % of FedAvg's best: at most {most:g} of FedAvg + checkpointing's",
        rows=CANDIDATES,
        places=_everywhere(1.0),
        measured=cost_beside(kind),
        written=_times,
        met=lambda value: value <= most,
    )


TARGETS = (
    _ahead(-0.6, RIVAL, _everywhere(1.0), "at most 0.6 points below FedAvg + checkpointing at equal rounds"),
    _ahead(-1.5, RIVAL, _everywhere(0.1), "at most 1.5 points below FedAvg + checkpointing at equal rounds"),
    _ahead(2.0, BLOCK, (("sst2", 1.0),), "at least 2 points above the last block alone"),
    _cheaper(0.67, "operations", "operations"),
    _cheaper(0.67, "cpu_seconds", "clients' processor seconds"),
    _ahead(
        5.0,
        FEW[1],
        _everywhere(1.0),
        "Spry in few dimensions at least 5 points above FedMeZO in few dimensions",
        FEW[:1],
    ),
)


def verdicts(found: Found) -> Iterator[list[str]]:
    """Write each target by place and row: asked, where, of whom, the seeds that its rival has, too, measured, met."""
    for target in TARGETS:
        for place in target.places:
            for row in target.rows:
                value = target.measured(found.get(place, {}), row)
                if value is not None:
                    met = "met" if target.met(value) else "**missed**"
                    title = ROWS[row].title if row in ROWS else row
                    shared = {*found[place][row].seeds} & {*found[place][target.rival].seeds}
                    yield [target.asked, where(place), title, str(len(shared)), target.written(value), met]


def undecided(found: Found) -> list[str]:
    """The targets that no row can be held to yet, in words, with where."""
    lines = []
    for target in TARGETS:
        places = [
            where(place)
            for place in target.places
            if all(target.measured(found.get(place, {}), row) is None for row in target.rows)
        ]
        if places:
            lines.append(f"{target.asked}: {'; '.join(places)}")
    return lines


def where(place: Place) -> str:
    """A place in words."""
    return f"{DATA.get(place[0], place[0])}, alpha {place[1]:g}"
