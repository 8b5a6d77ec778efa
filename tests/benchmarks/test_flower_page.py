"""The page of a federation over Flower is what its results say; its weights are those of one process."""

from __future__ import annotations

import json
import os
import subprocess
import sys

from benchmarks.flower import IN_ONE, OVER_FLOWER, RIVAL_ROW, WARM
from benchmarks.flower_page import PAGE, RESULTS, page
from benchmarks.processor_meter import ProcessorMeter

RECORDED = json.loads(RESULTS.read_text(encoding="utf-8"))
BUSY = "import time\nwhile time.process_time() < 0.6: pass\ntime.sleep(3)"


def test_the_committed_page_is_written_from_the_results():
    assert PAGE.read_text(encoding="utf-8") == page(RECORDED), "run python -m benchmarks.flower_page"


def test_every_deployment_ended_well_with_the_weights_of_one_process():
    rows = RECORDED["rows"]
    assert set(rows) == {IN_ONE, OVER_FLOWER, WARM, RIVAL_ROW}
    assert all(rows[name]["status"] == "finished:completed" for name in rows if name != IN_ONE)
    assert rows[OVER_FLOWER]["furthest_weight"] == rows[WARM]["furthest_weight"] == 0


def test_the_meter_counts_processes_with_the_mark_alone():
    with ProcessorMeter("SPRY_METER_TEST", "own") as meter:
        started = [
            subprocess.Popen([sys.executable, "-c", BUSY], env={**os.environ, "SPRY_METER_TEST": value})
            for value in ("own", "other")
        ]
        for process in started:
            process.wait()
    assert 0.5 < meter.seconds() < 1.1
