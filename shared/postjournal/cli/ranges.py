"""The type of options that are numbers."""

from __future__ import annotations

import math
from typing import Any

import click


class Range(click.FloatRange):
    """With `nan`, which is neither below nor above anything, outside."""

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """See `click.ParamType.convert`."""
        number = super().convert(value, param, ctx)
        if math.isnan(number):
            self.fail(f"{value} is no number.", param, ctx)
        return float(number)
