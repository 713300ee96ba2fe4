"""What became of what was proposed, and whether those who propose are any good. Nothing that trades reads it."""

from datetime import date
from typing import Any

import dagster as dg

from assets.by_session import by_session
from assets.trading import portfolio_snapshots
from resources.run_process import mark
from trading_pipeline.domain.events import Event, EventType
from trading_pipeline.faces.evidence import data_uri, page, pictures
from trading_pipeline.service.desk import Desk
from trading_pipeline.service.reports.model_report import model_report as report_of
from trading_pipeline.service.reports.outcomes import measure
from trading_pipeline.service.reports.report_tables import ReportTable, approvals_sentence, report_tables

MOST_ROWS = 200
MOST_PICTURES = 8
CHECK = "outcomes_are_there"


@dg.asset(
    deps=[portfolio_snapshots], group_name="evidence", kinds={"postgres"}, **by_session("outcomes"),
    check_specs=[dg.AssetCheckSpec(CHECK, asset="outcomes", description="Every horizon that has ended has the bars to be measured by.")],
)
def outcomes(context: dg.AssetExecutionContext, desk: dg.ResourceParam[Desk]) -> dg.MaterializeResult:  # type: ignore[type-arg]
    """What happened 1, 5 and 20 bars and one session after each signal, and what proposals never sent would have made.

    Measured after each session's close; until the first close there is nothing to measure, and no materialization.
    """
    mark(context)
    found = measure(desk, date.fromisoformat(list(context.partition_keys)[-1]))
    for note in found.notes[:10]:
        context.log.info(note)
    events = [event for seq in found.seqs[-MOST_ROWS:] if (event := desk.ledger.event(seq)) is not None]
    metadata: dict[str, Any] = {
        "outcomes": found.outcomes, "trades_never_made": found.shadows, "still_to_come": found.waiting, "without_bars": found.without_bars,
        "unmeasurable": found.unmeasurable, "market": dg.MetadataValue.text(desk.world.value.upper()),
    }
    for name, rows in (("newest_outcomes", _outcomes(events)), ("newest_trades_never_made", _shadows(events))):
        if rows:
            metadata[name] = _table(rows)
    check = dg.AssetCheckResult(
        check_name=CHECK, passed=not found.without_bars, severity=dg.AssetCheckSeverity.WARN,
        metadata={"without_bars": found.without_bars},
    )
    return dg.MaterializeResult(metadata=metadata, check_results=[check])


@dg.asset(deps=[outcomes], group_name="evidence", kinds={"statistics"}, **by_session("model_report"))
def model_report(context: dg.AssetExecutionContext, desk: dg.ResourceParam[Desk]) -> dg.MaterializeResult[Any]:
    """Whether each version of a decision maker is any good: verdict, hit rate, confidence, result, cost, and what it is compared with.

    Written after each session's close, for the first time after the first one; at any time by `trading report model`.
    """
    mark(context)
    report = report_of(desk)
    metadata: dict[str, Any] = {
        "headline": dg.MetadataValue.text(report.headline), "approvals": dg.MetadataValue.text(approvals_sentence(report)),
        "market": dg.MetadataValue.text(desk.world.value.upper()),
    }
    shown = list(pictures(report).items())[:MOST_PICTURES]
    if shown:
        # The alternative text is ours: names of versions come from outside and stand in the picture itself.
        sheet = "\n\n".join(f"![plot {number}]({data_uri(content)})" for number, (_, content) in enumerate(shown, 1))
        metadata["pictures"] = dg.MetadataValue.md(sheet)
        metadata["whole_report"] = dg.MetadataValue.path(desk.objects.locate(desk.objects.put(page(report).encode(), ".html")))
    for each in report_tables(report):
        metadata[each.name] = _table(_records(each))
    return dg.MaterializeResult(metadata=metadata)


def _records(table: ReportTable) -> list[dict[str, str]]:
    return [dict(zip((column.lower() for column in table.columns), row, strict=True)) for row in table.rows]


def _table(rows: list[dict[str, str]]) -> dg.TableMetadataValue:
    columns = [dg.TableColumn(name, "string") for name in rows[0]]
    return dg.MetadataValue.table([dg.TableRecord(row) for row in rows[:MOST_ROWS]], dg.TableSchema(columns))


def _outcomes(events: list[Event]) -> list[dict[str, str]]:
    words = {True: "right", False: "wrong", None: ""}
    return [
        {
            "symbol": data["symbol"], "action": data["action"].upper(), "later": data["horizon"].replace("_", " "),
            "moved": f"{float(data['moved']):+.2%}", "was": words[data["right"]], "entry": data["entry"], "exit": data["exit"],
            "worst": _fraction(data["adverse"]), "best": _fraction(data["favourable"]), "strategy": data["strategy"],
        }
        for data in (event.payload for event in reversed(events) if event.type is EventType.SIGNAL_OUTCOME)
    ]


def _shadows(events: list[Event]) -> list[dict[str, str]]:
    return [
        {
            "symbol": data["symbol"], "side": data["side"].upper(), "quantity": str(data["quantity"]), "ended": data["state"],
            "would have made (USD)": data["result"], "by": ", ".join(fill["leg"] for fill in data["fills"]) or "no fill",
            "strategy": data["strategy"], "reason": data["reason"][:200],
        }
        for data in (event.payload for event in reversed(events) if event.type is EventType.SHADOW_CLOSED)
    ]


def _fraction(text: str | None) -> str:
    return "" if text is None else f"{float(text):+.2%}"
