"""Shows runs while they go: a line an evaluation, on a terminal under them a bar and the last numbers."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from types import TracebackType

from rich.console import Group
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.text import Text

from spry.cli import screen
from spry.cli.evaluation_line import WIDTH, clock, evaluation_line, head_line, start_line
from spry.cli.heartbeat import Heartbeat
from spry.experiment.departures import recipe_lines
from spry.experiment.run import Started
from spry.report import formats
from spry.runtime.records import Round
from spry.tasks.score_text import score_with_unit


class Watch:
    """A context in which events of runs are shown on standard error.

    Args:
        several: Whether lines say which run they are of.
        recipe: What to say of the recipe before the first run; None says it of each run.
    """

    def __init__(self, *, several: bool = False, recipe: Sequence[str] | None = None) -> None:
        self._recipe = recipe
        self.console = screen.err()
        self._several = several
        self._bars = Progress(
            TextColumn("[bold]{task.description}"),
            BarColumn(bar_width=28),
            MofNCompleteColumn(),
            TextColumn("rounds, time left"),
            TimeRemainingColumn(compact=True),
            console=self.console,
        )
        self._numbers = Numbers()
        self._live = Live(console=self.console, refresh_per_second=4, transient=True)
        self._heart = Heartbeat(self._beat)
        self._doing, self._begun, self._rounds = "loading model and data", time.monotonic(), 0
        self._dropped = 0
        self._told: set[str] = set()

    def __enter__(self) -> Watch:
        if self.console.is_terminal:
            self._live.update(Text("loading model and data ...", "dim"))
            self._live.start()
        else:
            self._heart.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop showing, and say how many replies were dropped."""
        self._live.stop()
        if not self.console.is_terminal:
            self._heart.__exit__()
        if self._dropped:
            told = "1 reply was" if self._dropped == 1 else f"{self._dropped} replies were"
            self._print(f"{told} dropped; the report and rounds.jsonl say which and why.", "yellow")

    def show(self, name: str, event: Started | Round) -> None:
        if isinstance(event, Started):
            self._print(opening(name, event))
            recipe = recipe_lines(event.config) if self._recipe is None else self._recipe
            for line, look in [
                *((line, "") for line in recipe),
                *((line, "dim") for line in event.data),
                *((f"note: {note}", "yellow") for note in event.notes),
            ]:
                if line not in self._told:  # the runs of a comparison read the same data
                    self._told.add(line)
                    self._print(line, look)
            for task in self._bars.task_ids:
                self._bars.remove_task(task)
            self._bars.add_task(name, total=event.config.schedule.rounds, completed=event.resumed_at)
            self._numbers = Numbers()
            self._begun, self._rounds = time.monotonic(), event.config.schedule.rounds
        else:
            if event.head:
                self._print(self._line(head_line, name, event))
            if event.start:
                self._print(self._line(start_line, name, event))
            if event.scores:
                self._print(self._line(evaluation_line, name, event))
            self._numbers.take(event)
            self._dropped += len(event.clients) - len(event.survivors)
            self._bars.update(self._bars.task_ids[-1], completed=event.number + 1)
        self._doing = self._next(name, event.resumed_at if isinstance(event, Started) else event.number + 1)
        if self.console.is_terminal:
            self._live.update(Group(self._bars, self._numbers.text()))

    def _line(self, write: Callable[..., str], name: str, round: Round) -> str:
        seconds, width = time.monotonic() - self._begun, min(WIDTH, self.console.width)
        return write(name if self._several else "", round, self._rounds, seconds, width)

    def _next(self, name: str, done: int) -> str:
        if done < self._rounds:
            return f"{name}: round {done + 1}/{self._rounds}"
        return "loading model and data" if self._several else f"{name}: saving"

    def _beat(self) -> None:
        self._print(f"{self._doing} ...  {clock(time.monotonic() - self._begun)}", "dim")

    def _print(self, line: str, look: str = "") -> None:
        self.console.print(Text(line, look), soft_wrap=True)
        self._heart.touch()


class Numbers:
    """The last known numbers of a run; scores are kept between evaluations."""

    def __init__(self) -> None:
        self.loss: float | None = None
        self.peak: int | None = None
        self.score = ""
        self.scores: dict[str, float] = {}

    def take(self, round: Round) -> None:
        self.loss, self.peak = round.loss, round.peak_bytes
        self.score = round.score_name
        self.scores |= round.scores

    def text(self) -> Text:
        """Loss, scores and peak memory in a line, as far as they are known."""
        told = [] if self.loss is None else [f"loss {self.loss:.3f}"]
        told += [f"{part} {score_with_unit(value, self.score)}" for part, value in self.scores.items()]
        told += [] if self.peak is None else [f"peak {formats.format_bytes(self.peak)}"]
        return Text("   ".join(told), "dim")


def opening(name: str, started: Started) -> str:
    config = started.config
    line = (
        f"{name}: {config.model.name} on {config.data.name}, {started.clients} clients, "
        f"{started.clients_per_round} a round, {_rounds(config.schedule.rounds)}, "
        f"{formats.format_count(started.trainable_weights)} weights in {started.units} units and the head; "
        f"folder {started.folder}"
    )
    return line + (f" (going on after round {started.resumed_at})" if started.resumed_at else "")


def _rounds(count: int) -> str:
    return "1 round" if count == 1 else f"{count} rounds"
