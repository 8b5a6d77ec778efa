"""The page of faults is what its results say, and these meet what was promised."""

from __future__ import annotations

from benchmarks.cuts import CUTS, NODE
from benchmarks.faults_page import NAMES, PAGE, PICTURE, page, read
from benchmarks.faulty import FAULTS
from benchmarks.kills import PLACES


def test_the_committed_page_is_written_from_the_results():
    found = {name: read(name) for name in NAMES}
    assert PAGE.read_text(encoding="utf-8") == page(found), "run python -m benchmarks.faults_page"
    assert PICTURE.is_file()


def test_a_thousand_rounds_with_faults_leave_nothing_behind():
    found = read("soak")
    held = found["held"][len(found["held"]) // 10 :]
    assert found["rounds"] == 1000 and found["told"].keys() == {"none", *FAULTS}
    for what in ("file_handles", "threads", "children"):
        assert len({one[what] for one in held}) == 1
    sizes = [one["resident_bytes"] for one in held]
    assert max(sizes) < 1.01 * min(sizes)


def test_a_run_killed_in_any_phase_ends_as_one_that_was_not():
    found = read("kills")["differences"]
    assert list(found) == list(PLACES)
    assert not any(found.values())


def test_a_run_goes_on_without_a_node_that_is_cut_off_and_takes_it_back():
    found = read("cuts")
    assert list(found["cuts"]) == list(CUTS)
    for name, one in found["cuts"].items():
        settings = {**found["settings"], **one["settings"]}
        without = [entry for entry in one["rounds"] if entry["failed"]]
        assert one["status"] == "finished:completed" and one["same_weights"]
        assert len(one["rounds"]) == settings["schedule.rounds"]
        assert without and all(list(entry["failed"]) == [str(NODE)] for entry in without)
        assert all(entry["seconds"] < (settings["runtime.deadline"] or 60) + 2 for entry in without)
        assert bool(one["rounds"][-1]["failed"]) == (CUTS[name].back is None)
