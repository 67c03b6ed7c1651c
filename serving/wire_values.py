"""Values of a data set's row as a JSON request carries them."""

from __future__ import annotations

import math
from typing import Any


def wire(value: Any) -> Any:
    """Times as ISO 8601 text, a missing or NaN number as null, anything else as it is."""
    if hasattr(value, "isoformat"):
        return value.isoformat()
    return None if isinstance(value, float) and not math.isfinite(value) else value
