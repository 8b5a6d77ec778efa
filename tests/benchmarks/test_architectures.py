"""The page of architectures is what its results say, nothing in it is wrong, and every row can be measured again."""

from __future__ import annotations

import pytest
from benchmarks.architecture_sizes import SIZES
from benchmarks.architectures import ADAPTERS, TASKS_TRIED, cases, measure
from benchmarks.architectures_page import PAGE, page, read

from spry.models.adapters import ADAPTERS as TABLE


def test_the_committed_page_is_written_from_the_results():
    assert PAGE.read_text(encoding="utf-8") == page(read()), "run python -m benchmarks.architectures_page"


def test_no_slope_is_wrong_and_nothing_crashes():
    rows = read()["rows"]
    assert {(row["family"], row["task"]) for row in rows} == {
        (family, task) for family in SIZES for task in TASKS_TRIED
    }
    assert {row["verdict"] for row in rows} <= {"pass", "refused", "absent", "not finite", "rounding"}


def test_every_kind_of_the_library_has_its_row():
    own = {name for name, kind in TABLE.items() if kind.__module__.startswith("spry.models")}
    assert own == set(ADAPTERS)


@pytest.mark.parametrize("family", ["bert", "falcon", "xlnet", "phimoe"])
@pytest.mark.parametrize("task", TASKS_TRIED)
def test_a_type_is_measured_as_the_results_have_it(family, task):
    def told(rows):
        return [(row.get("peft"), row.get("precision"), row["verdict"]) for row in rows]

    committed = [row for row in read()["rows"] if (row["family"], row["task"]) == (family, task)]
    found = list(measure(family, task))
    assert told(found) == told(committed)
    assert len(found) in {1, len(cases(task))}
