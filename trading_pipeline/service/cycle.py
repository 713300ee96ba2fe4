"""The one path from a bar to a portfolio snapshot. The assets call the same steps, one each, in this order."""

from types import MappingProxyType

from trading_pipeline.domain.cycles import Cycle
from trading_pipeline.service.accounting import snapshot_portfolio
from trading_pipeline.service.deliberation import form_signals
from trading_pipeline.service.desk import Desk
from trading_pipeline.service.execution import collect_fills, place_orders
from trading_pipeline.service.market import compute_indicators, receive_bars, render_charts
from trading_pipeline.service.steps import Step, StepResult
from trading_pipeline.service.trading import judge_actions

STEPS = MappingProxyType[str, Step](
    {
        "bars": receive_bars,
        "indicators": compute_indicators,
        "charts": render_charts,
        "signals": form_signals,
        "verdicts": judge_actions,
        "orders": place_orders,
        "fills": collect_fills,
        "portfolio_snapshots": snapshot_portfolio,
    }
)
FOLLOW_UP_STEPS = ("orders", "fills", "portfolio_snapshots")


def run_cycle(desk: Desk, cycle: Cycle) -> list[StepResult]:
    """Run every step of a cycle; a step that was done before returns its earlier result."""
    return [step(desk, cycle) for step in STEPS.values()]


def run_follow_up(desk: Desk, cycle: Cycle) -> list[StepResult]:
    """Run orders, fills and snapshots for exactly the actions that the cycle names."""
    return [STEPS[name](desk, cycle) for name in FOLLOW_UP_STEPS]
