"""The law of each operator: what depends on a moved argument carries the right tangents, or is refused by name.

Never a wrong tangent, never a tangent lost in silence, never a raw crash: over all operators of PyTorch's own list,
with its own samples (0-dim, empty, broadcast, complex, not contiguous), as functions, methods, infixes and in place.
"""

from __future__ import annotations

import pytest
import torch
from tests.laws.operators import operators, variants, verdict

REFUSED = set(
    """
    _chunk_cat _native_batch_norm_legit _segment_reduce_lengths _segment_reduce_offsets add addbmm addcdiv addcmul
    addmm addmm_decomposed addmv addr as_strided as_strided_partial_views as_strided_scatter atan2 baddbmm cdist
    cholesky clamp clamp_max clamp_min copysign div_floor_rounding div_no_rounding_mode div_trunc_rounding eq
    float_power floor_divide fmod ge geqrf grid_sampler_2d grid_sampler_3d gt heaviside histogram histogramdd
    hypot igamma igammac index_add index_copy index_fill index_put index_reduce_amax index_reduce_amin
    index_reduce_mean index_reduce_prod item ldexp le lerp linalg_ldl_factor linalg_ldl_factor_ex linalg_ldl_solve
    linspace_tensor_overload logcumsumexp logical_and logical_or logical_xor logspace_tensor_overload lt
    masked_fill masked_scatter mul native_batch_norm native_dropout_backward ne nextafter nn_functional_batch_norm
    nn_functional_binary_cross_entropy nn_functional_ctc_loss nn_functional_embedding nn_functional_embedding_bag
    nn_functional_grid_sample nn_functional_linear_cross_entropy nn_functional_linear_cross_entropy_chunked
    nn_functional_linear_cross_entropy_chunked_none nn_functional_max_unpool1d nn_functional_max_unpool1d_grad
    nn_functional_max_unpool2d nn_functional_max_unpool2d_grad nn_functional_max_unpool3d
    nn_functional_max_unpool3d_grad nn_functional_multi_margin_loss nn_functional_multilabel_margin_loss
    nn_functional_pdist nn_functional_soft_margin_loss normal normal_in_place ormqr pow put remainder resize_
    resize_as_ scatter scatter_add scatter_reduce_amax scatter_reduce_amin scatter_reduce_mean scatter_reduce_prod
    scatter_reduce_sum sparse_mm_reduce sparse_sampled_addmm special_zeta squeeze squeeze_multiple sub t to_sparse
    transpose true_divide unique unique_consecutive unsqueeze xlogy
    """.split()
)
"""Operators that the engine refuses, for some samples at least. The list may only shrink."""

DISPUTED = {
    "cholesky_inverse": "PyTorch's two modes differ by 5e-5 on its ill-conditioned sample",
    "nn_functional_embedding": "scale_grad_by_freq rescales the gradient by design, so that it is no gradient",
}
"""Operators of which PyTorch's gradient is not the product that the law demands, and why."""


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
                    elif found not in {"equal", "no tangents"} and op.formatted_name not in DISPUTED:
                        wrong.setdefault(op.formatted_name, found)
    return refused, wrong


@pytest.fixture(autouse=True)
def _generator():
    with torch.random.fork_rng(devices=[]):
        yield


@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128])
@pytest.mark.filterwarnings("ignore")
def test_tangents_are_right_or_refused(dtype):
    refused, wrong = judged(dtype, few=2)
    assert not wrong
    assert refused <= REFUSED


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_tangents_are_right_or_refused_for_all_samples():
    refused = set()
    for dtype in (torch.float64, torch.complex128):
        found, wrong = judged(dtype, alone=True)
        assert not wrong
        refused |= found
    assert refused == REFUSED
