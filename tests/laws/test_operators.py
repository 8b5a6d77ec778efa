"""The law of each operator: what depends on a moved argument carries the right tangents, or is refused by name.

Never a wrong tangent, never a tangent lost in silence, never a raw crash: over all operators of PyTorch's own list,
with its own samples (0-dim, empty, broadcast, complex, not contiguous), as functions, methods, infixes and in place.
"""

from __future__ import annotations

import pytest
import torch

from tests.forward.reference import CHUNKS, use_chunks
from tests.laws.operators import operators, variants, verdict

REFUSED = {
    "_chunk_cat",
    "_native_batch_norm_legit",
    "_segment_reduce_lengths",
    "_segment_reduce_offsets",
    "addbmm",
    "as_strided",
    "as_strided_partial_views",
    "cdist",
    "cholesky",
    "floor_divide",
    "geqrf",
    "grid_sampler_2d",
    "grid_sampler_3d",
    "heaviside",
    "histogram",
    "histogramdd",
    "igamma",
    "igammac",
    "index_reduce_amax",
    "index_reduce_amin",
    "index_reduce_mean",
    "index_reduce_prod",
    "item",
    "linalg_ldl_factor",
    "linalg_ldl_factor_ex",
    "linalg_ldl_solve",
    "linspace_tensor_overload",
    "logcumsumexp",
    "logspace_tensor_overload",
    "native_batch_norm",
    "native_dropout_backward",
    "nn_functional_batch_norm",
    "nn_functional_binary_cross_entropy",
    "nn_functional_ctc_loss",
    "nn_functional_embedding",
    "nn_functional_embedding_bag",
    "nn_functional_grid_sample",
    "nn_functional_multi_margin_loss",
    "nn_functional_multilabel_margin_loss",
    "nn_functional_pdist",
    "nn_functional_soft_margin_loss",
    "normal",
    "ormqr",
    "resize_",
    "resize_as_",
    "scatter",
    "scatter_reduce_prod",
    "sparse_mm_reduce",
    "sparse_sampled_addmm",
    "special_zeta",
    "squeeze",
    "squeeze_multiple",
    "t",
    "to_sparse",
    "transpose",
    "unique",
    "unique_consecutive",
    "unsqueeze",
}
"""Operators that the engine refuses for some samples at least. The list may only shrink."""


def judged(dtype, few=None, alone=False):
    """The operators that are refused, and what is wrong with which others."""
    refused, wrong = set(), {}
    for op in operators():
        if dtype not in op.supported_dtypes("cpu"):
            continue
        torch.manual_seed(0)
        for number, sample in enumerate(op.sample_inputs("cpu", dtype)):
            if number == few:
                break
            for function in variants(op):
                for which in (None, 0, 1, 2) if alone else (None,):
                    found = verdict(op, function, sample, which, 1 + number % 2)
                    if found == "refused":
                        refused.add(op.formatted_name)
                    elif found not in {"equal", "no tangents"}:
                        wrong.setdefault(op.formatted_name, found)
    return refused, wrong


@pytest.fixture(autouse=True)
def _generator():
    with torch.random.fork_rng(devices=[]):
        yield


@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128])
@pytest.mark.filterwarnings("ignore")
def test_tangents_are_right_or_refused(dtype):
    refused, wrong = judged(dtype, few=3)
    assert not wrong
    assert refused <= REFUSED


@pytest.mark.slow
@pytest.mark.parametrize("size", CHUNKS)
@pytest.mark.filterwarnings("ignore")
def test_tangents_are_right_or_refused_for_all_samples(monkeypatch, size):
    use_chunks(monkeypatch, size)
    refused = set()
    for dtype in (torch.float64, torch.complex128):
        found, wrong = judged(dtype, alone=True)
        assert not wrong
        refused |= found
    assert refused == REFUSED
