"""Indicator settings and their columns, computed straight from TA-Lib or pandas-ta-classic.

Placeholder docstring; the module's owner writes it.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, order=True)
class IndicatorSpec:
    """One indicator with its parameters, e.g. `IndicatorSpec("sma", (("length", 20),))`."""

    name: str
    parameters: tuple[tuple[str, float], ...] = ()
