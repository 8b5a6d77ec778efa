"""Whether a run fits into the memory that is free, by prediction, before data or weights are read."""

from __future__ import annotations

import psutil
import torch

from spry.core.errors import ModelError, SpryError
from spry.experiment.config import Config
from spry.models.device import check_device
from spry.planning import case_of
from spry.profile.budget import what_fits
from spry.profile.case import Case
from spry.profile.measure import lay_out
from spry.profile.predict import has_formula, predict_peak
from spry.profile.weight_bytes import weight_bytes
from spry.report.formats import format_bytes


def free_bytes(device: str) -> int:
    """How much memory a run may take on a device."""
    if torch.device(device).type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    return psutil.virtual_memory().available


def check_room(config: Config) -> str | None:
    """Predict whether a model and a client's step on it fit.

    Returns:
        A sentence on what would, if they do not; None if they do, if weights stay on the disk, or if there is no
        formula.

    Raises:
        ModelError: If the weights alone do not fit.
    """
    if config.model.offload is not None:
        return None
    try:
        check_device(config.model.device, "model.device")
        case = case_of(config)
        layout = lay_out(case)
    except SpryError:
        return None  # what is wrong with the settings or the model, the run tells that reads it
    free = free_bytes(case.device)
    weights = sum(weight_bytes(layout, quantization=case.quantization).values())
    if weights > free:
        raise ModelError(
            f"{case.model}: its weights take {format_bytes(weights)} in {case.quantization or case.dtype}, and "
            f"{format_bytes(free)} are free. Set model.dtype = 'bfloat16', model.quantization = 'nf4' or model.offload "
            "= 'disk', or choose a smaller model."
        )
    if not has_formula(layout) or weights + predict_peak(case, layout) <= free:
        return None
    return _advice(case, free, weights + predict_peak(case, layout))


def _advice(case: Case, free: int, needed: int) -> str:
    whole = next(fit for fit in what_fits(case, free, [case.method], measured=False) if fit.slice == "all")
    smaller = (
        f"client.micro_batch_size={whole.micro_batch} would fit"
        if whole.fits
        else "not one example would fit"
    )
    return (
        f"A client's step is predicted to take {format_bytes(needed)}, the model included, and {format_bytes(free)} "
        f"are free: {smaller}. spry memory --budget tells what other methods need."
    )
