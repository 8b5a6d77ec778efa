"""The README's table of bytes follows from the benchmark's rows."""

from __future__ import annotations

from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def readme(monkeypatch):
    monkeypatch.syspath_prepend(FOLDER)
    import readme

    return readme


def test_bytes_are_written_as_people_read_them(readme):
    row = {"mode": "slopes", "bytes_up_per_client_round": 97.4, "bytes_down_per_client_round": 2048.0}
    row |= {"bytes_up_per_client_run": 999.0, "bytes_down_per_client_run": 1e6}
    setting = {
        "peft.rank": 1,
        "data.clients": 100,
        "schedule.clients_per_round": 10,
        "rounds": 100,
        "client.steps": 13,
    }
    made = {"machine": {"cpus": 2, "gpu": None}, "versions": {"torch": "2"}, "date": "2026-01-02T03:04"}
    rows = [{**row, "upload_besides_exact_head": count} for count in (97.8, None, 48.2)]
    server = {"replay": [{"ratio": 0.002}, {"ratio": 0.0088}], "absorb": [{"ratio": 1.0}]}
    text = readme.wire({"traffic": rows, "setting": setting, "provenance": made, **server})
    assert "| slopes | 97 B | 2.0 KiB | 999 B | 976.6 KiB |" in text
    assert "13 slopes takes 98 bytes and one of a single slope 48. Replaying an epoch costs" in text
    assert "at most 0.9 % of the time" in text
    assert "10 of them a round, 100 rounds, 13 local steps" in text
