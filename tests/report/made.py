"""Run folders as ``spry run`` would leave them, made from a few numbers."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import tomli_w

PARTS = ("test", "validation", "generalized", "personalized")
OPTIONS: dict[str, dict[str, Any]] = {
    "fedavg": {"checkpoint": True}, "fedsgd": {"checkpoint": True}, "head_only": {"clients_step": True},
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class MadeClient:
    client: int
    units: list[str]
    examples: int = 20
    steps: int = 4
    loss: float = 1.0
    bytes_up: int = 4000
    bytes_down: int = 40000
    seconds: float = 0.05
    cpu_seconds: float = 0.04
    operations: int | None = 2_000_000_000
    slowed: bool = False
    peak_bytes_above_model: int = 1 << 20
    failed: str | None = None
    generalized: float | None = None
    personalized: float | None = None


@dataclass(frozen=True, kw_only=True)
class MadeRound:
    round: int
    loss: float
    test: float | None = None
    test_loss: float | None = None
    validation: float | None = None
    validation_loss: float | None = None
    generalized: float | None = None
    personalized: float | None = None
    seconds: float = 0.5
    client_seconds: float = 0.48
    client_cpu_seconds: float | None = 0.4
    operations: int | None = 20_000_000_000
    peak_bytes_above_model: int = 30 << 20
    bytes_up: int = 40000
    bytes_down: int = 400000
    failed_replies: int = 0
    untrained_units: list[str] = field(default_factory=list)
    clients: list[MadeClient] = field(default_factory=list)

    def to_json(self, score: str) -> dict[str, Any]:
        named = _named(asdict(self), score)
        return {**named, "clients": [_named(client, score) for client in named["clients"]]}


def _named(values: dict[str, Any], score: str) -> dict[str, Any]:
    return {f"{key}_{score}" if key in PARTS else key: value for key, value in values.items()}


@dataclass(frozen=True, kw_only=True)
class MadeRun:
    """A run whose score goes from 0.4 to ``reaches``; one without ``operations`` is as older versions wrote it."""

    method: str = "spry"
    seed: int = 0
    rounds: int = 20
    reaches: float = 0.65
    peak: int = 30 << 20
    seconds: float = 0.5
    up: int = 4000
    operations: int | None = 2_000_000_000
    every: int = 5
    tested: bool = True
    validated: bool = False
    kept_after: int | None = None
    start: float | None = None
    stopped_early: str | None = None
    finished: bool = True
    failing: bool = False
    settings: dict[str, dict[str, Any]] = field(default_factory=dict)
    dataset: str = "tweets"
    score: str = "accuracy"
    higher_is_better: bool = True
    baseline: float | None = 0.424

    def write(self, folder: Path) -> Path:
        """Write the run folder."""
        folder.mkdir(parents=True)
        (folder / "config.toml").write_text(tomli_w.dumps(self._config()))
        (folder / "meta.json").write_text(json.dumps(META))
        entries = [self._round(number).to_json(self.score) for number in range(self.rounds)]
        if self.start is not None:
            entries[0]["start"] = {f"test_{self.score}": self.start}
        lines = map(json.dumps, entries)
        (folder / "rounds.jsonl").write_text("".join(line + "\n" for line in lines))
        if self.finished:
            (folder / "summary.json").write_text(json.dumps(self._summary()))
        return folder

    def _config(self) -> dict[str, Any]:
        tree: dict[str, Any] = {
            "seed": self.seed,
            "model": {"name": "minilm", "max_length": 64},
            "peft": {"kind": "lora", "rank": 1, "targets": []},
            "data": {"name": self.dataset, "partition": "dirichlet", "alpha": 1.0, "clients": 100},
            "method": {"name": self.method, **OPTIONS.get(self.method, {"num_directions": 1})},
            "schedule": {"rounds": 20, "clients_per_round": 10},
            "methods": {"spry": {"client": {"lr": 0.01}}},
        }
        tree["schedule"] |= {"keep": "best"} if self.kept_after else {}
        for section, values in self.settings.items():
            tree.setdefault(section, {}).update(values)
        return tree

    def _value(self, number: int) -> float:
        wobble = 0.01 * math.sin(3.1 * self.seed + number)
        return 0.4 + (self.reaches - 0.4) * (1 - math.exp(-4 * (number + 1) / 20)) + wobble

    def _round(self, number: int) -> MadeRound:
        seen = (number + 1) % self.every == 0
        right = self._value(number)
        failed = "loss is nan" if self.failing and number == 2 else None
        clients = [
            MadeClient(client=number % 90 + k, units=[f"layer.{k % 3}.query"], bytes_up=self.up,
                       operations=self.operations,
                       loss=math.nan if failed and k == 0 else 1.0, failed=failed if k == 0 else None)
            for k in range(10)
        ]  # fmt: skip
        return MadeRound(
            round=number,
            loss=1.6 - right + 0.05 * math.cos(2.3 * number + self.seed),
            test=right if seen and self.tested else None,
            test_loss=1.5 - right if seen and self.tested else None,
            validation=right - 0.02 if seen and self.validated else None,
            validation_loss=1.52 - right if seen and self.validated else None,
            generalized=right - 0.01 if seen else None,
            personalized=right + 0.04 if seen else None,
            seconds=self.seconds,
            client_seconds=0.97 * self.seconds,
            client_cpu_seconds=None if self.operations is None else 0.8 * self.seconds,
            operations=None if self.operations is None else 10 * self.operations,
            peak_bytes_above_model=self.peak,
            bytes_up=10 * self.up,
            failed_replies=int(failed is not None),
            untrained_units=["layer.3.query"] if failed else [],
            clients=clients,
        )

    def _summary(self) -> dict[str, Any]:
        last = self._round(self.rounds // self.every * self.every - 1)
        return {
            "schema": 2,
            "method": self.method,
            "model": "minilm",
            "dataset": self.dataset,
            "seed": self.seed,
            "rounds": self.rounds,
            "kept_after_rounds": self.kept_after or self.rounds,
            "stopped_early": self.stopped_early,
            **{f"{part}_{self.score}": getattr(last, part) for part in PARTS},
            "score": {
                "name": self.score,
                "higher_is_better": self.higher_is_better,
                "baseline": self.baseline,
            },
            "peak_bytes_above_model": self.peak,
            "seconds_per_round": self.seconds,
            "client_seconds_per_round": 0.97 * self.seconds,
            "operations_per_client_round": self.operations,
            "bytes_up_per_client_round": self.up,
            "bytes_down_per_client_round": 40000,
            "failed_replies": int(self.failing),
            "trainable_weights": 10371,
        }


META = {
    "date": "2025-11-21T10:00:00+00:00",
    "python": "3.11.9",
    "versions": {
        "spry-fl": "0.1.0",
        "torch": "2.13.0",
        "transformers": "5.23.0",
        "peft": "0.21.2",
        "numpy": "2.3.4",
    },
    "machine": {"platform": "Linux-6.1-x86_64", "cpus": 2, "threads": 1, "gpu": None},
    "command": ["spry", "compare", "quickstart", "--methods", "head_only,spry,fedavg"],
}


def comparison(folder: Path, seeds: int = 1) -> Path:
    """Write a comparison folder with the methods of the demo."""
    for seed in range(seeds):
        for run in (
            MadeRun(method="head_only", seed=seed, reaches=0.58, peak=20 << 20, seconds=0.3, up=4600),
            MadeRun(
                method="spry", seed=seed, reaches=0.65, peak=31 << 20, seconds=0.5, up=8200, failing=True
            ),
            MadeRun(method="fedavg", seed=seed, reaches=0.66, peak=96 << 20, seconds=0.9, up=41000),
        ):
            run.write(folder / f"{run.method}-s{seed}")
    rows = [{"method": method} for method in ("head_only", "spry", "fedavg")]
    (folder / "comparison.json").write_text(json.dumps({"rows": rows}))
    return folder
