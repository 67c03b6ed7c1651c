"""What every section of the configuration is made of."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationInfo

from seaway.errors import SeawayError

_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


def duration(text: str) -> timedelta:
    """``"90s"``, ``"15m"``, ``"6h"`` or ``"7d"`` as a timedelta; ValueError for anything else."""
    match = re.fullmatch(r"(\d+)([smhd])", text)
    if not match:
        raise ValueError(f"{text!r} is not a duration; write a number and s, m, h or d, such as 7d")
    return timedelta(**{_UNITS[match[2]]: int(match[1])})


def _checked(text: str) -> str:
    duration(text)
    return text


Duration = Annotated[str, AfterValidator(_checked)]


class Section(BaseModel):
    """A frozen part of the configuration; an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class StepResources(Section):
    cpu: str = Field(default="1", pattern=r"^(\d+(\.\d+)?|\d+m)$")  # cores, or thousandths of one
    memory: str = "2Gi"
    gpu: int = 0


def no_login(address: str | None, info: ValidationInfo) -> str | None:
    """Addresses stand in compiled pipelines, manifests and messages."""
    if address and "@" in urlsplit(address).netloc:
        # no ValueError: that one is told with the value
        raise SeawayError(
            f"key {info.field_name!r} holds a login, which manifests and messages would show: take it out; logins come "
            "by the environment, such as MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD"
        )
    return address
