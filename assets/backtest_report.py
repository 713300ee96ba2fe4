"""The report on a backtest as Dagster shows it: the verdict as text, plots and tables as Markdown, the whole as one HTML file.

It stands on the last session of the range, with which the asset's page opens. What a session has besides is what the UI draws over
partitions: equity, return and drawdown so far.
"""

import base64
from collections.abc import Mapping
from datetime import date
from typing import Any

import dagster as dg

from resources.backtests import Ran
from trading_pipeline.adapters.backtest_html import page
from trading_pipeline.adapters.backtest_png import drawdown_png, equity_png, trades_png
from trading_pipeline.adapters.chart_png import thumbnail
from trading_pipeline.domain.backtests import BacktestResult
from trading_pipeline.domain.performance import underwater
from trading_pipeline.domain.performance.report import BacktestReport
from trading_pipeline.service.backtests.report_markdown import markdown_of
from trading_pipeline.service.desk import Desk

PICTURE_WIDTH, PICTURE_BYTES = 900, 50_000
MOST_CHARTS = 6
"""Symbols whose trades are drawn; the HTML file has all."""


def shown_report(desk: Desk, report: BacktestReport, ran: Ran) -> dict[str, Any]:
    """Metadata of the report: what one reads first comes first."""
    pictures = [equity_png(report.lines), drawdown_png(report.lines), *map(trades_png, report.charts[:MOST_CHARTS])]
    # The alternative text is ours: names come from files, and stand in the pictures themselves.
    sheet = "\n\n".join(f"![plot {number}]({_data_uri(content)})" for number, content in enumerate(pictures, 1))
    shown = {
        "headline": dg.MetadataValue.text(report.headline),
        "report": dg.MetadataValue.md(markdown_of(report, level=4)),
        "plots": dg.MetadataValue.md(sheet),
        "whole_report": dg.MetadataValue.path(desk.objects.locate(desk.objects.put(page(report).encode(), ".html"))),
    }
    if ran.stored:
        shown["opens_with"] = dg.MetadataValue.text(f"trading status --backtest {ran.backtest.plan.name}")
    return shown | {"validated": dg.MetadataValue.bool(report.passed)}


def figures_of(result: BacktestResult) -> Mapping[date, dict[str, float]]:
    """Of each session what had come of it by its close: USD, and fractions of the cash at the start and of the highest close."""
    below = underwater(result.equity, result.cash)
    return {
        day: {"equity_usd": float(equity), "return": round(float(equity) / result.cash - 1, 6), "drawdown": round(float(drawdown), 6)}
        for day, equity, drawdown in zip(result.sessions, result.equity, below, strict=True)
    }


def _data_uri(png: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(thumbnail(png, PICTURE_WIDTH, PICTURE_BYTES)).decode()
