"""Options that several commands share, and their types."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import click


class Range(click.FloatRange):
    """A range of numbers that excludes `nan`, which compares as neither below nor above a bound."""

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        number = super().convert(value, param, ctx)
        if math.isnan(number):
            self.fail(f"{value} is not a valid number.", param, ctx)
        return float(number)


json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON on stdout.")

bootstrap_option = click.option(
    "--bootstrap", metavar="HOST:PORT", help="Kafka to read; default: the running system's."
)
namespace_option = click.option("--namespace", help="Prefix of the topics' names.")
app_option = click.option("--app", help="The application, as package.module:Class.")
data_option = click.option(
    "--data",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Directory of a stopped local system: start its Kafka, read it, and stop it again.",
)
