"""Hand-made results of the comparison."""

from __future__ import annotations

MADE = {
    "date": "2026-01-02T03:04:05+00:00",
    "versions": {"spry-fl": "0.3.0", "torch": "2.13.0", "bitsandbytes": None},
    "machine": {"cpu": "Some CPU", "cpus": 2, "threads": 1, "gpu": None},
    "commit": "abc1234",
}


def run(row, curve, seed=0, *, name="sst2", alpha=1.0, **given):
    """One entry: 1 GFLOP, 100 bytes up and 300 down a client and round, 10 s a run, 1 MiB, unless it says otherwise."""
    costs = {
        "operations_per_client_round": 1e9,
        "bytes_up_per_client_round": 100.0,
        "bytes_down_per_client_round": 300.0,
        "client_cpu_seconds": 10.0,
        "peak_bytes_above_model": 1 << 20,
        "trainable_weights": 7,
        "rounds": curve[-1][0],
    }
    place = {"set": name, "alpha": alpha, "seed": seed, "row": row}
    chosen = {"client.lr": 0.003, "server.lr": 1.0, "step_factors.head": 0.0}
    return {**place, "curve": curve, "test_loss": 0.5, **costs, "chosen": chosen, "provenance": MADE, **given}


def trial(row, lr, loss, accuracy=0.8):
    settings = {"client.lr": lr, "step_factors.head": 0.0}
    return {
        **run(row, [[0, 0.7], [16, accuracy]]),
        "settings": settings,
        "validation_loss": loss,
    }
