"""The last finished round of a run: written when it is due, and when the run is cut short."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from spry.core.errors import DiskError
from spry.experiment.checkpoint import write_checkpoint
from spry.experiment.journal import Journal
from spry.experiment.kept import Kept
from spry.federated.algorithm import ServerState


@dataclass
class LastRound:
    """What the run goes on from.

    Args:
        written: Rounds that the folder's checkpoint has.
    """

    folder: Path
    journal: Journal
    state: ServerState
    kept: Kept | None
    written: int

    def take(self, state: ServerState, kept: Kept | None) -> None:
        """Replace it by a round that the log has already: a checkpoint must not be ahead of the log."""
        self.state, self.kept = state, kept

    def write(self) -> None:
        write_checkpoint(self.state, self.folder, self.kept)
        self.written = self.state.round
        self.journal.note("checkpoint", rounds=self.written)

    @contextmanager
    def kept_if_cut_short(self) -> Generator[None]:
        """Write what is finished if the body ends by an error, a signal, or a caller who asks for no more rounds."""
        try:
            yield
        except DiskError:
            raise
        except BaseException:
            if self.state.round > self.written:
                self.write()
            raise
