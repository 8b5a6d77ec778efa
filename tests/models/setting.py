"""A tiny task away from its start, where LoRA's B is zero and half of all slopes vanish."""

from __future__ import annotations

import torch

from spry.core.keys import Key
from spry.tasks.classification import ClassificationTask


def setting(folder, reviews, adapter, micro=None, **task):
    task = ClassificationTask(
        str(folder),
        labels=3,
        key=Key(3),
        adapter=adapter,
        dtype=torch.float64,
        micro_batch_size=micro,
        **task,
    )
    weights = {n: w + 0.3 * Key(5).normal(n, tuple(w.shape), like=w) for n, w in task.init().items()}
    loss = task.loss(task.encode(reviews, max_length=16).batch(range(5)), Key(0))
    return task, loss, weights
