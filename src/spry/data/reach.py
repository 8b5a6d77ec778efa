"""Whether the Hugging Face Hub answers, asked once: its libraries try again and again for a minute."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from spry.core.errors import first_line

PATIENCE = 10.0
"""Seconds until a Hub that does not answer is taken to be out of reach."""


def why_unreachable(ask: Callable[[Any], object], endpoint: str | None = None) -> str | None:
    """Ask the Hub, given as an ``HfApi``, a question.

    Returns:
        Why there is no answer; None if there is one, whatever it is.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    hub = HfApi(endpoint=endpoint)
    try:
        ask(hub)
    except (HfHubHTTPError, HFValidationError):  # what it says, the library will say
        return None
    except Exception as error:  # of the library for requests, or of the system
        return f"{hub.endpoint} cannot be reached ({first_line(error)})"
    return None
