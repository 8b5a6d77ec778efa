"""Records the golden trajectories; run it only when a method is meant to change: python -m tests.laws.record_golden."""

from __future__ import annotations

import json

from tests.laws.test_methods import GOLDEN, VARIANTS, run

if __name__ == "__main__":
    GOLDEN.write_text(json.dumps({name: run(name, rounds=20)[2] for name in VARIANTS}, indent=1) + "\n")
