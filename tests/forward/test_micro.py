"""Micro-batches: the same slopes as the whole batch."""

from __future__ import annotations

import pytest
import torch
from tests.forward.reference import drawn

from spry.forward import jvp, micro_jvp


class Squares:
    """The mean of squares of ``X w``, in parts of given sizes."""

    def __init__(self, rows, sizes=()):
        self.rows, self.sizes = rows, sizes

    def __call__(self, params, *, checkpoint=False):
        return (self.rows @ params["w"]).square().mean()

    def parts(self):
        if not self.sizes:
            return [(1.0, self)]
        return [(len(rows) / len(self.rows), Squares(rows)) for rows in self.rows.split(self.sizes)]


@pytest.mark.parametrize("sizes", [(), [7], [1, 6], [2, 2, 3], [1] * 7])
def test_parts_add_up(sizes):
    params, directions = {"w": drawn(4)}, [{"w": drawn(4, seed=i)} for i in range(3)]
    whole = jvp(Squares(drawn(7, 4)), params, directions)
    parts = micro_jvp(Squares(drawn(7, 4), sizes), params, directions)
    torch.testing.assert_close(parts, whole, rtol=1e-12, atol=0)
