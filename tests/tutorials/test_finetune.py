"""The notebook runs from its first cell to its last."""

from __future__ import annotations

import json
from pathlib import Path

NOTEBOOK = Path(__file__).parents[2] / "tutorials" / "finetune.ipynb"


def test_its_cells_run_one_after_the_other(tmp_path, monkeypatch):
    cells = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
    code = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    assert "ROUNDS = 8" in code[0] and "6000" in code[1]
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    for cell in code:
        shorter = cell.replace("ROUNDS = 8", "ROUNDS = 1").replace("6000", "600")
        exec(compile(shorter, NOTEBOOK.name, "exec"), names)
    assert len(names["history"]) == 1
    labels = {answer["label"] for answer in names["classify"](["what a lovely day", "how sad"])}
    assert labels <= {"negative", "neutral", "positive"}


def test_it_is_stored_without_outputs():
    cells = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
    assert not any(cell.get("outputs") or cell.get("execution_count") for cell in cells)
