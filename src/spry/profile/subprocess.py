"""Measures each case in a fresh process, so that no case sees what another left in memory."""

from __future__ import annotations

import json
import logging
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterable, Iterator
from dataclasses import asdict

from spry.core.errors import is_out_of_memory
from spry.profile.case import Case, CaseResult

OUT_OF_MEMORY = "out of memory"
_log = logging.getLogger(__name__)


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
    _log.debug("%s", done.stderr)
    return CaseResult(case=case, error=exit_reason(done.returncode, done.stderr))


def exit_reason(status: int, trace: str) -> str:
    """Say in a line why a measuring process gave no row, by its exit status and the trace that it wrote."""
    if status == -signal.SIGKILL:
        return f"ended by signal {-status}, as the system ends what is {OUT_OF_MEMORY}"
    if status < 0:
        return f"ended by signal {-status}"
    last = (trace.strip().splitlines() or [f"ended with status {status}"])[-1]
    last = re.sub(r"^spry\.core\.errors\.\w+: ", "", last)  # these speak for themselves
    return OUT_OF_MEMORY if is_out_of_memory(RuntimeError(trace)) else last


def measure_all(cases: Iterable[Case], timeout: float | None = None) -> Iterator[CaseResult]:
    for case in cases:
        yield measure_in_subprocess(case, timeout)
