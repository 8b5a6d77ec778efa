"""Measures each case in a fresh process, so that no case sees what another left in memory."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterable, Iterator
from dataclasses import asdict

from spry.profile.case import Case, CaseResult


def measure_in_subprocess(case: Case, timeout: float | None = None) -> CaseResult:
    """Measure one case in a fresh Python process, ended after ``timeout`` seconds; a failure becomes ``error``."""
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    environment.setdefault("PYTHONWARNINGS", "ignore")
    command = [sys.executable, "-m", "spry.profile"]
    try:
        done = subprocess.run(
            command,
            input=json.dumps(asdict(case)),
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
            env=environment,
        )
    except subprocess.TimeoutExpired:
        return CaseResult(case=case, error=f"took longer than {timeout:g} s")
    if done.returncode == 0:
        return CaseResult.from_json(json.loads(done.stdout.splitlines()[-1]))
    if done.returncode < 0:
        return CaseResult(
            case=case, error=f"ended by signal {-done.returncode}; 9 means out of memory as a rule"
        )
    return CaseResult(case=case, error="\n".join(done.stderr.strip().splitlines()[-8:]))


def measure_all(cases: Iterable[Case], timeout: float | None = None) -> Iterator[CaseResult]:
    for case in cases:
        yield measure_in_subprocess(case, timeout)
