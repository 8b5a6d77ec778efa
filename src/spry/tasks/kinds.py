"""All tasks that come with Spry: importing this fills the table. A new task is a line here."""

from __future__ import annotations

from spry.data.class_target import CLASSES
from spry.data.table import Columns, Table
from spry.data.target import Target
from spry.tasks.causal_lm.kind import CausalLM
from spry.tasks.classification import Classification
from spry.tasks.multi_label.kind import MultiLabel
from spry.tasks.multiple_choice.one import MultipleChoice
from spry.tasks.multiple_choice.several import MultiAnswer
from spry.tasks.question_answering.kind import QuestionAnswering
from spry.tasks.registry import TASKS, find_task, make_task, register_task
from spry.tasks.regression.kind import Regression

__all__ = ["MEMBERS", "TASKS", "choose_target", "find_task", "make_task"]

MEMBERS = (Classification, Regression, MultiLabel, MultipleChoice, MultiAnswer, QuestionAnswering, CausalLM)
for _kind in MEMBERS:
    register_task(_kind)


def choose_target(table: Table, columns: Columns) -> Target:
    """Say what the labels of a table are, where no task is named: classes, unless another task claims them."""
    targets = [kind().target for kind in TASKS.values()]
    return next((target for target in targets if target.claims(table, columns)), CLASSES)
