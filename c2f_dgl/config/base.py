"""What every group of options has in common: unknown keys are refused, values never change."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Options(BaseModel):
    """A group of options."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
