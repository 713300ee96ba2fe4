"""After an emergency stop (E9): what was stopped, what became of the orders, what is held without protection, what to do next."""

from datetime import UTC, datetime
from typing import Any

from trading_pipeline.domain.events import instant_text
from trading_pipeline.domain.lineage import sentence
from trading_pipeline.errors import BrokerError, TradingError
from trading_pipeline.ports import Stop
from trading_pipeline.service.accounting import compare_with_broker
from trading_pipeline.service.actors import RECOVERY
from trading_pipeline.service.desk import Desk
from trading_pipeline.service.record.anchoring import restored
from trading_pipeline.service.stopping.emergency import held, last_report
from trading_pipeline.service.stopping.presses import is_cleared

LAST_FACTS = 20


def stops(desk: Desk) -> list[Stop]:
    """Every stop in force, by its file or by the ledger: each press of the account's, then those of strategies."""
    named = {stop.strategy: stop for stop in desk.latch.stops() if stop.strategy is not None}
    for row in desk.ledger.find("strategies", state="emergency_stopped"):
        named.setdefault(row["name"], Stop(row["name"], row["reason"], row["actor"], row["state_since"]))
    return [*held(desk, desk.ledger).stops, *(named[name] for name in sorted(named))]


def review(desk: Desk) -> dict[str, Any]:
    """Everything a person should look at before trading again; plain data."""
    in_force = stops(desk)
    accounts = [stop for stop in in_force if stop.strategy is None]
    reports = {stop.strategy or "account": last_report(desk, stop.strategy) for stop in in_force}
    try:
        differences, asked = compare_with_broker(desk), ""
    except (BrokerError, TradingError) as error:
        differences, asked = [], error.message
    head = desk.ledger.head()[0]
    facts = [
        {"seq": event.seq, "at": event.at.isoformat(), "type": event.type.value, "says": sentence(event), "actor": event.actor}
        for event in desk.ledger.events(after=max(0, head - LAST_FACTS))
    ]
    return {
        "account": desk.broker.account_id, "looked_at": instant_text(datetime.now(UTC)),
        "stops": [
            {"strategy": stop.strategy, "by": stop.actor, "reason": stop.reason, "at": instant_text(stop.at)} for stop in in_force
        ],
        "reports": {name: report for name, report in reports.items() if report is not None},
        "differences": differences, "broker": asked, "facts": facts,
        "next": _next_steps(desk, accounts, [report for report in reports.values() if report is not None], differences, asked),
    }


def _next_steps(desk: Desk, accounts: list[Stop], reports: list[dict[str, Any]], differences: list[str], asked: str) -> list[str]:
    steps = []
    undone = [stop for stop in accounts if stop.actor != RECOVERY and not is_cleared(desk, desk.ledger, stop)]
    if any(not report["clean"] for report in reports) or (not reports and undone):
        steps.append("Orders are not confirmed: run `trading stop` again, and cancel at the broker by hand what it lists")
    if asked:
        steps.append("The broker could not be asked: look at the account with the broker, then review again")
    if differences:
        steps.append("Book and broker differ: settle it with the broker; nothing is traded to repair it")
    if any(report["unprotected"] for report in reports):
        steps.append("Positions have no stop: close them or place stops with the broker; nothing here sells them by itself")
    if restored(desk):
        steps.append("The ledger was restored or rewritten: run `trading verify`; clearing the latch accepts it as it is")
    if accounts:
        steps.append("When all of this is settled: `trading stop clear`, at a terminal. It resumes nothing")
    steps.append("A stopped strategy stays stopped: create a new one under another name")
    return steps
