"""Backtests side by side: their figures, and of each two the difference of what they made, with an interval and a sentence.

Strategies, prompts and models are compared alike: each is one result. Differences are over the sessions that both have, session by
session; whatever moved both is in both. With several pairs, one interval in twenty excludes 0 by luck, and the report says how many
there are.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from itertools import combinations

import numpy as np

from trading_pipeline.domain.backtests import BacktestResult
from trading_pipeline.domain.bars import Floats
from trading_pipeline.domain.judgement import FEWEST, Estimate
from trading_pipeline.domain.performance import DEFINITIONS, Performance, performance_of, returns_of
from trading_pipeline.domain.performance.report import DASH, Cell, Line, ReportTable, written
from trading_pipeline.domain.validation import Difference, paired
from trading_pipeline.errors import InputError


@dataclass(frozen=True, slots=True)
class Pair:
    """Two of them: the first less the second."""

    first: str
    second: str
    sessions: int
    difference: Difference

    @property
    def sentence(self) -> str:
        """Whether they can be told apart, in words."""
        mean, sharpe = self.difference.mean_return, self.difference.sharpe
        names, n = f"{self.first} and {self.second}", self.sessions
        if mean.low is None or mean.high is None:
            return f"{names} have {n} sessions in common; at least {FEWEST} are needed to tell them apart."
        reach = f"{_signed(mean.value)} a session (95 %: {_signed(mean.low)} to {_signed(mean.high)}, {n:,} sessions)"
        if not self.difference.told_apart:
            told = f"{names} cannot be told apart: the difference of {reach} includes 0."
        else:
            better, worse = (self.first, self.second) if mean.value > 0 else (self.second, self.first)
            told = f"{better} made more than {worse}: the difference of {reach} excludes 0."
        if sharpe is None or sharpe.low is None or sharpe.high is None:
            return told
        inside = "includes" if sharpe.low <= 0 <= sharpe.high else "excludes"
        return f"{told} Of the Sharpe ratios: {sharpe.value:+.2f} (95 %: {sharpe.low:+.2f} to {sharpe.high:+.2f}), which {inside} 0."


@dataclass(frozen=True, slots=True)
class Comparison:
    """All of them."""

    results: Mapping[str, BacktestResult]
    figures: Mapping[str, Performance]
    pairs: tuple[Pair, ...]

    @property
    def note(self) -> str:
        """What to mind when there are many."""
        many = len(self.pairs)
        return f"{many} pairs are compared: one interval in twenty excludes 0 by luck alone." if many > 1 else ""


def compare(results: Mapping[str, BacktestResult]) -> Comparison:
    """Compare two or more results by name.

    Raises:
        InputError: Fewer than two, or two of them have no session in common.
    """
    if len(results) < 2:
        raise InputError(
            f"{len(results)} cannot be compared.", value=", ".join(results), rule="a comparison has two backtests or more",
            remedy="name another",
        )
    pairs = tuple(_pair(first, second, results[first], results[second]) for first, second in combinations(results, 2))
    return Comparison(dict(results), {name: performance_of(result) for name, result in results.items()}, pairs)


def _pair(first: str, second: str, one: BacktestResult, two: BacktestResult) -> Pair:
    common = sorted(set(one.sessions) & set(two.sessions))
    if not common:
        raise InputError(
            f"{first} and {second} have no session in common.", value=f"{first}, {second}",
            rule="what is compared was traded at the same time",
            remedy=f"run both over the same sessions: {first} has {_span(one.sessions)}, {second} {_span(two.sessions)}",
        )
    return Pair(first, second, len(common), paired(_on(one, common), _on(two, common)))


def _on(result: BacktestResult, days: Sequence[date]) -> Floats:
    """The returns of these sessions."""
    places = {day: place for place, day in enumerate(result.sessions)}
    return np.asarray(returns_of(result.equity, result.cash)[[places[day] for day in days]], np.float64)


def _span(sessions: Sequence[date]) -> str:
    return f"{sessions[0]} to {sessions[-1]}"


# In words


def comparison_tables(comparison: Comparison) -> list[ReportTable]:
    """Figures with a column each, then the pairs."""
    names = tuple(comparison.results)
    sessions = [(Cell("Sessions"), *(Cell(f"{len(result.sessions):,}", _span(result.sessions)) for result in comparison.results.values()))]
    rows = [(Cell(each.title), *(written(each, each.of(comparison.figures[name])) for name in names)) for each in DEFINITIONS]
    pairs = [
        (
            Cell(each.first), Cell(each.second), Cell(f"{each.sessions:,}"), Cell(_reach(each.difference.mean_return, _signed)),
            Cell(DASH if each.difference.sharpe is None else _reach(each.difference.sharpe, lambda value: f"{value:+.2f}")),
            Cell("yes" if each.difference.told_apart else "no"),
        )
        for each in comparison.pairs
    ]
    columns = ("FIRST", "SECOND", "SESSIONS", "RETURN A SESSION", "SHARPE RATIO", "TOLD APART")
    note = "The first less the second, over common sessions; 95 % intervals by a paired stationary bootstrap."
    return [
        ReportTable("figures", "Figures", ("FIGURE", *names), (*sessions, *rows)),
        ReportTable("pairs", "Differences", columns, tuple(pairs), " ".join(filter(None, (note, comparison.note)))),
    ]


def comparison_assumptions(comparison: Comparison) -> tuple[str, ...]:
    """What they rest on: sentences that all make as they are, others with whose they are."""
    said = {name: dict.fromkeys(result.assumptions) for name, result in comparison.results.items()}
    common = [each for each in next(iter(said.values())) if all(each in own for own in said.values())]
    return (*common, *(f"{name}: {each}" for name, own in said.items() for each in own if each not in common))


def comparison_lines(comparison: Comparison) -> tuple[Line, ...]:
    """What each was worth over the sessions that all have; none where there are fewer than two."""
    results = comparison.results
    common = sorted(set.intersection(*(set(result.sessions) for result in results.values())))
    if len(common) < 2:
        return ()
    return tuple(_line(name, result, common) for name, result in results.items())


def _line(name: str, result: BacktestResult, common: Sequence[date]) -> Line:
    places = [result.sessions.index(day) for day in common]
    begun = places[0] == 0
    return Line(name, tuple(common), result.equity[places], result.cash if begun else float(result.equity[places[0] - 1]))


def _signed(value: float) -> str:
    """A return of one session: two digits more than one of a year."""
    return f"{100 * value:+.4f} %"


def _reach(found: Estimate, tell: Callable[[float], str]) -> str:
    if found.low is None or found.high is None:
        return tell(found.value)
    return f"{tell(found.value)} ({tell(found.low)} to {tell(found.high)})"
