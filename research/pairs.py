"""What guesses of the gradient lack on pairs of texts: their cosines with the exact one, with more of attention kept.

    python -m research.pairs FOLDER [--out FILE]

FOLDER has ``snli_dev.tsv.gz``, ``mnli_dev_matched.tsv.gz`` and ``snli_test.tsv.gz``. MiniLM, LoRA of rank 16, a head in
closed form; four batches of 32 pairs of at most 40 tokens, against the exact gradient of the same pairs and that of 256
others. ``values`` carries the guess through the values of attention as well, with its weights taken for constants.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
import torch.nn.functional as F
from benchmarks.convergence_data import SETS, files
from research.residual_cosines import GUESSES, before_and_after
from research.residual_setting import Setting
from torch import Tensor, nn

from spry.core.params import Params
from spry.data.datasets import Splits, load_splits
from spry.estimators import carry, residual
from spry.experiment.atomic import write_json
from spry.experiment.provenance import provenance
from spry.forward.recall import Recall

STEPS, AWAY = 96, 4096


class _CutAtScores(carry._CutAtAttention):
    """Cuts autograd's graph at queries and keys alone."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is not F.scaled_dot_product_attention:
            return func(*args, **(kwargs or {}))
        self.called = True
        query, key, *rest = args
        return func(self._cut(query), self._cut(key), *rest, **(kwargs or {}))


def values(
    recall: Recall, maps: Sequence[nn.Module], leaves: Params, d: Tensor, on: bool
) -> tuple[Params, Tensor]:
    """Carry the guess as ``mlp`` does, and through the values of attention."""
    cut, carry._CutAtAttention = carry._CutAtAttention, _CutAtScores
    try:
        return carry.mlp(recall, maps, leaves, d, on)
    finally:
        carry._CutAtAttention = cut


def pairs(folder: Path) -> Splits:
    """Read the pairs of the comparison."""
    with TemporaryDirectory() as out:
        found = files("nli", folder, Path(out))
        text = tuple(SETS["nli"].settings["data.text"])
        return load_splits(found["data.name"], text=text, label="label", test=found["data.test"])


def main() -> None:
    """Measure before training and after some exact steps."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--out", type=Path, default=Path("research/results/pairs.json"))
    asked = parser.parse_args()
    torch.set_num_threads(1)
    residual.CARRIES = {**carry.CARRIES, "values": values}  # pyright: ignore[reportAttributeAccessIssue]
    guesses = {**GUESSES, "values": residual.residual("values")}  # pyright: ignore[reportArgumentType]
    setting = Setting(asked.folder, 0, splits=pairs(asked.folder), length=40)
    found = dict(before_and_after(setting, guesses, STEPS, away=AWAY))
    write_json(asked.out, {"models": found, "steps": STEPS, "provenance": provenance()})


if __name__ == "__main__":
    main()
