"""Figures of round trips. Only those that have closed count, open ones are told apart; a trade wins with more than 0 USD after costs."""

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import date

from trading_pipeline.domain.backtests import ExitReason, Trade


@dataclass(frozen=True, slots=True)
class TradeFigures:
    """Of some trades; USD, fractions of what was invested where said, None where there is no trade of the kind."""

    closed: int
    open: int
    wins: int
    losses: int
    """Below 0 USD: a trade that made exactly nothing is neither."""
    win_rate: float | None
    """Wins / closed trades."""
    gross_profit: float
    """Sum of the wins."""
    gross_loss: float
    """Sum of the losses, as a positive amount."""
    profit_factor: float | None
    """Gross profit / gross loss; None without a loss."""
    expectancy: float | None
    """Mean result of a closed trade."""
    average_gain: float | None
    """Mean result of a closed trade as a fraction of what it invested."""
    average_win: float | None
    average_loss: float | None
    """Mean of the losses, negative."""
    payoff: float | None
    """Average win / average loss, positive."""
    best: float | None
    worst: float | None
    result: float
    """Sum of the closed trades."""
    unrealised: float
    """Sum of the open ones."""
    commissions: float
    """Of all of them."""
    sessions_held: float | None
    """Mean of the closed ones, the first and the last counted."""


def trade_figures(trades: Iterable[Trade]) -> TradeFigures:
    """The figures of these trades.

    Source: win rate, payoff, expectancy as in Tharp, Trade Your Way to Financial Freedom (1998); profit factor as in Pardo, The Evaluation
    and Optimization of Trading Strategies (2008).
    """
    everything = list(trades)
    closed = [trade for trade in everything if trade.exit_reason is not ExitReason.OPEN]
    results = [trade.result for trade in closed]
    won, lost = [each for each in results if each > 0], [each for each in results if each < 0]
    profit, loss = float(sum(won)), -float(sum(lost))
    average_win, average_loss = _mean(profit, len(won)), _mean(-loss, len(lost))
    return TradeFigures(
        closed=len(closed), open=len(everything) - len(closed), wins=len(won), losses=len(lost), win_rate=_mean(len(won), len(closed)),
        gross_profit=profit, gross_loss=loss, profit_factor=profit / loss if loss else None,
        expectancy=_mean(float(sum(results)), len(closed)), average_gain=_mean(sum(trade.gain for trade in closed), len(closed)),
        average_win=average_win, average_loss=average_loss,
        payoff=None if average_win is None or average_loss is None else average_win / -average_loss,
        best=float(max(results)) if results else None, worst=float(min(results)) if results else None, result=float(sum(results)),
        unrealised=float(sum(trade.result for trade in everything if trade.exit_reason is ExitReason.OPEN)),
        commissions=float(sum(trade.commissions for trade in everything)),
        sessions_held=_mean(sum(trade.sessions for trade in closed), len(closed)),
    )


def trades_by(trades: Iterable[Trade], key: Callable[[Trade], str]) -> dict[str, TradeFigures]:
    """The figures of each group, in the order of their names."""
    groups: dict[str, list[Trade]] = {}
    for trade in trades:
        groups.setdefault(key(trade), []).append(trade)
    return {name: trade_figures(group) for name, group in sorted(groups.items())}


def month_of(trade: Trade) -> str:
    """`2024-08`, of its exit."""
    return f"{trade.exit_at:%Y-%m}"


def sessions_held_in(trades: Iterable[Trade], sessions: Sequence[date]) -> int:
    """In how many of the sessions, in order, anything was held at any time."""
    held = [False] * len(sessions)
    for trade in trades:
        # The trading hours of one session lie within one UTC day.
        first, last = bisect_left(sessions, trade.entry_at.date()), bisect_right(sessions, trade.exit_at.date())
        held[first:last] = [True] * max(0, last - first)
    return sum(held)


def _mean(total: float, count: int) -> float | None:
    return total / count if count else None
