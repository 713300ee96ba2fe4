"""The strategies that the benches trade, on symbols of a synthetic market."""

import json
from collections.abc import Sequence

from trading_pipeline.adapters.strategy_files import parse_strategy
from trading_pipeline.domain.bars import Interval
from trading_pipeline.service import controls
from trading_pipeline.service.desk import Desk

STRATEGY = """
name = "{name}"
symbols = {symbols}
mode = "{mode}"
interval = "{interval}"
lifetime = "{lifetime}"
min_confidence = 0.6

[agent]
{agent}
"""
ANALYZER = 'form = "analyzer"'
EXPRESSION = 'form = "expression"\nenter_when = "rsi_14 < 40"\nexit_when = "rsi_14 > 55"\nmax_bars = 10'
CHART = '\n[chart]\nbars = 120\noverlays = ["sma_20", "sma_50"]\npanels = ["rsi_14", "macd"]\n'


def symbol_names(count: int) -> list[str]:
    """S000, S001, ..."""
    return [f"S{number:03d}" for number in range(count)]


def start_strategies(desk: Desk, symbols: int, strategies: Sequence[tuple[str, str]], interval: Interval = Interval.DAY1) -> None:
    """Create and start one for each mode and the TOML after its `[agent]`."""
    for number, (mode, agent) in enumerate(strategies):
        spec = parse_strategy(STRATEGY.format(
            name=f"strategy-{number}", symbols=json.dumps(symbol_names(symbols)), mode=mode, agent=agent, interval=interval.value,
            lifetime="open" if interval.daily else "session",
        ))
        controls.create(desk, spec, actor="demo:person")
        controls.start(desk, spec.name, actor="demo:person")
