"""When two figures are the same: a rule's answer may not hang on the last digits of a float.

An average over a window depends, in its last digits, on where the history that was read begins: a close of 2.77 can stand a hair above
or below the mean of twenty closes that is 2.77 exactly. Figures that agree to about eleven digits are one figure here, so that the
same bars give the same answer whoever computes it, live or over whole columns.
"""

from typing import Any

import numpy as np

TIE = 1e-11
"""Of the larger of two figures; what they differ by less is rounding."""


def above(a: Any, b: Any, scale: Any = 0.0) -> Any:
    """Whether one figure is above another; element by element for arrays, False beside NaN.

    Args:
        scale: What the figures were computed from, where they are small differences of large ones.
    """
    apart = np.subtract(a, b)
    found = apart > 0
    # Whole columns rarely hold a tie: what is hardly apart is looked for with one bound on all figures, and only that is measured.
    hardly = found & (apart <= TIE * max(_largest(a), _largest(b), _largest(scale)))
    if not hardly.any():
        return found
    return apart > TIE * np.maximum(np.maximum(np.abs(a), np.abs(b)), scale)


def _largest(figures: Any) -> float:
    """The largest magnitude, NaN left out."""
    return float(max(np.fmax.reduce(figures, axis=None), -np.fmin.reduce(figures, axis=None)))
