"""What differs from one plain order to the next, fact by fact: the blanks of the forms that `copyist` fills in.

Names are those of `figures`. Whatever is not listed is the same in all of them, as it was when the form was learnt.
"""

from collections.abc import Mapping, Sequence
from typing import Final

from trading_pipeline.domain.events import Event, EventType
from trading_pipeline.domain.risk import Outcome
from trading_pipeline.service.backtests.columnar.writing.forms import Blanks, Path

E = EventType
_VERDICTS: Final[Mapping[str, Mapping[str, str]]] = {
    "hard_order_value": {"measured": "<<largest>>"},
    "penny_stock": {"measured": "<<lowest>>"},
    "trading_hours": {"measured": "<<local>> New York", "limit": "09:30-<<closes>>"},
    "cooldown": {"measured": "<<since_trade>>"},
    "duplicate_action": {"measured": "<<since_action>>"},
    "oversell": {"measured": "<<shares>> shares", "limit": "<<shares>> shares", "detail": "<<shares>> held, 0 in open exits"},
    "volatility": {"measured": "<<volatility_told>>", "detail": "<<volatility_detail>>", "outcome": "<<volatility_outcome>>"},
    "whole_shares": {"measured": "<<shares>> shares"},
    "fresh_bar": {"measured": "bar to <<minute>>", "limit": "<<minute_before>> or newer"},
    "spread": {"measured": "<<width>>"},
    "price_collar": {"measured": "<<beyond>>", "detail": "limit <<limit_usd>>, last <<price_usd>>"},
    "volume_share": {"measured": "<<shares_told>> shares", "limit": "<<most_shares>> shares", "detail": "<<volume_detail>>"},
    "order_value": {"measured": "<<value>>", "detail": "<<order_value_note>>"},
    "account_position": {"measured": "<<position>>", "detail": "<<account_position_note>>"},
    "strategy_position": {"measured": "<<position>>", "detail": "<<strategy_position_note>>"},
    "equity": {"measured": "<<equity>>"},
    "concentration": {"measured": "<<share>>", "detail": "<<concentration_detail>>"},
    "buying_power": {"measured": "<<value>>", "limit": "<<cash>>", "detail": "<<buying_power_note>>"},
    "day_notional": {"measured": "<<notional>>", "detail": "<<day_notional_note>>"},
    "account_day_loss": {"measured": "<<account_loss>>", "detail": "<<account_day_loss_note>>"},
    "strategy_day_loss": {"measured": "<<strategy_loss>>", "detail": "<<strategy_day_loss_note>>"},
    "orders_per_hour": {"measured": "<<orders>>", "detail": "<<orders_per_hour_note>>"},
    "min_confidence": {"measured": "<<sure>>"},
    "order_gap": {"measured": "<<since_order>>"},
}
_DISCIPLINE: Final = ("cool_off", "recovery_size", "revenge_entry")
"""Rules whose every word is told."""
_COVERED: Final = {"measured": "<<covered>> shares covered", "limit": "<<shares>> shares, stops below and targets above <<lowest>>"}
"""Of `brackets`, where there are any."""
_ORDER: Final[Mapping[Path, str]] = {
    ("action_id",): "<<action>>", ("client_id",): "<<order>>", ("cycle",): "<<cycle>>", ("limit_price",): "<<limit>>",
    ("quantity",): "<<#shares>>", ("reference",): "<<price>>", ("session",): "<<session>>",
}


def blanks_of(facts: Sequence[Event], legs: Mapping[str, str]) -> list[Blanks]:
    """The blanks of each fact of an order.

    Args:
        legs: By client id, the name of each stop and target among the values, such as `stop_1`.
    """
    gates = [number for number, fact in enumerate(facts) if fact.type is E.RISK_EVALUATED]
    return [_of(fact, legs, f"seq_{gates[-1]}" if gates else "") for fact in facts]


def _of(fact: Event, legs: Mapping[str, str], gate: str) -> Blanks:
    leg = legs.get(fact.payload.get("client_id", ""), "")
    name = f"<<{leg}>>" if leg else "<<order>>"
    match fact.type:
        case E.LLM_ACTION_GENERATED:
            return _generated(fact)
        case E.RISK_EVALUATED:
            return _evaluated(fact)
        case E.ACTION_READY:
            paths: dict[Path, str] = {
                ("action_id",): "<<action>>", ("cycle",): "<<cycle>>", ("expires_at",): "<<expires>>", ("not_before",): "<<instant>>",
            }
            return Blanks("action.ready:<<action>>", paths)
        case E.ORDER_INTENT:
            return Blanks(f"order.intent:{name}", _leg(leg, fact) if leg else _ORDER)
        case E.ORDER_SUBMITTED:
            return Blanks(f"order.submitted:{name}", _submitted(fact, name, legs, gate))
        case E.ORDER_ACCEPTED:
            paths = {("action_id",): "<<action>>", ("client_id",): name}
            if "broker_order_id" in fact.payload:
                paths["broker_order_id",] = "P-BACKTEST-<<number>>"
            return Blanks(f"order.accepted:{name}", paths)
        case E.ORDER_FILLED:
            return _filled(name, leg)
        case E.ORDER_CANCEL_REQUESTED:
            paths = {("action_id",): "<<bought_by>>", ("client_id",): name, ("reason",): "the position is closed by action <<action>>"}
            return Blanks(f"order.cancel_requested:{name}:<<{leg}_seq>>", paths, cause=f"{leg}_seq")
        case E.ORDER_CANCELED:
            cause = "" if fact.payload["reason"] == "canceled on request" else f"{leg}_seq"
            return Blanks(f"order.canceled:{name}", {("action_id",): "<<bought_by>>", ("client_id",): name}, cause=cause)
        case _:
            return Blanks(fact.key, {})


def _generated(fact: Event) -> Blanks:
    paths: dict[Path, str] = {
        ("action_id",): "<<action>>", ("bar_end",): "<<instant>>", ("close",): "<<close>>", ("cycle",): "<<cycle>>",
        ("confidence",): "<<confidence>>", ("label",): "<<label>>", ("rationale",): "<<rationale>>", ("score",): "<<#score>>",
        ("session",): "<<session>>",
    }
    return Blanks(f"llm.action_generated:<<cycle>>:{fact.payload['strategy']}:{fact.payload['symbol']}", paths)


def _evaluated(fact: Event) -> Blanks:
    data, symbol = fact.payload, fact.payload["symbol"]
    paths: dict[Path, str] = {("action_id",): "<<action>>"}
    quote: Path = ("outside", "quotes", symbol)
    paths |= {
        ("outside", "bar_ends", symbol): "<<instant>>", ("outside", "now"): "<<instant>>", ("outside", "marks"): "<<#marks>>",
        (*quote, "ask"): "<<ask>>", (*quote, "at"): "<<instant>>", (*quote, "bid"): "<<bid>>", (*quote, "last"): "<<price>>",
        ("outside", "volumes", symbol, 0): "<<volume>>", ("outside", "volumes", symbol, 1): "<<#short_history>>",
        ("outside", "volatility"): "<<#volatility>>",
    }
    if data["stage"] == "gate":
        paths["client_id",] = "<<order>>"
    else:
        paths |= {("cycle",): "<<cycle>>", ("measured", "close"): "<<close_price>>"}
        paths |= {("measured", name): f"<<{name}>>" for name in ("atr", "sma20", "support")}
        paths |= {
            ("intent", "action_id"): "<<action>>", ("intent", "limit_price"): "<<limit>>", ("intent", "quantity"): "<<#shares>>",
            ("intent", "reference"): "<<price>>",
        }
        for number, bracket in enumerate(data["intent"]["brackets"]):
            place: Path = ("intent", "brackets", number)
            paths |= {(*place, "quantity"): f"<<#shares_{number + 1}>>", (*place, "stop"): f"<<stop_{number + 1}_price>>"}
            if bracket["target"] is not None:
                paths[(*place, "target")] = f"<<target_{number + 1}_price>>"
    for number, verdict in enumerate(data["verdicts"]):
        for field, text in _judged(verdict).items():
            paths["verdicts", number, field] = text
    return Blanks("risk.evaluated:gate:<<order>>" if data["stage"] == "gate" else "risk.evaluated:<<action>>", paths)


def _judged(verdict: Mapping[str, str]) -> Mapping[str, str]:
    rule, outcome = verdict["rule"], verdict["outcome"]
    if outcome == Outcome.NOT_APPLICABLE.value and rule != "volatility":
        return {}
    if rule == "brackets" and verdict["measured"] != "none":
        return _COVERED
    if rule in _DISCIPLINE:
        return {field: f"<<{rule}_{field}>>" for field in ("measured", "limit", "detail")}
    return _VERDICTS.get(rule, {})


def _leg(leg: str, fact: Event) -> dict[Path, str]:
    """Of an `order.intent` of a stop or target."""
    kind, number = leg.split("_")
    paths = {path: text for path, text in _ORDER.items() if path != ("limit_price",)}
    price: Path = ("stop_price",) if kind == "stop" else ("limit_price",)
    if fact.payload["oco"] is not None:
        paths["oco",] = f"<<order>>-{number}"
    paths |= {("client_id",): f"<<{leg}>>", ("parent",): "<<order>>", ("quantity",): f"<<#shares_{number}>>"}
    return paths | {price: f"<<{leg}_price>>"}


def ticket_blanks(ticket: Mapping[str, object], legs: Mapping[str, str], at: Path = ()) -> dict[Path, str]:
    """What differs in a ticket."""
    paths: dict[Path, str] = {(*at, "client_id"): "<<order>>", (*at, "limit_price"): "<<limit>>", (*at, "quantity"): "<<#shares>>"}
    children = ticket["children"]
    assert isinstance(children, list)
    for place, child in enumerate(children):
        leg = legs[child["client_id"]]
        price = "stop_price" if leg.startswith("stop") else "limit_price"
        paths |= {
            (*at, "children", place, "client_id"): f"<<{leg}>>", (*at, "children", place, price): f"<<{leg}_price>>",
            (*at, "children", place, "quantity"): f"<<#shares_{leg.split('_')[1]}>>",
        }
        if child["oco"] is not None:
            paths[(*at, "children", place, "oco")] = f"<<order>>-{leg.split('_')[1]}"
    return paths


def _submitted(fact: Event, name: str, legs: Mapping[str, str], gate: str) -> dict[Path, str]:
    paths: dict[Path, str] = {
        ("action_id",): "<<action>>", ("client_id",): name, ("digest",): "<<digest>>", ("verdict_seq",): f"<<#{gate}>>",
    }
    return paths | ticket_blanks(fact.payload["ticket"], legs, ("ticket",))


def _filled(name: str, leg: str) -> Blanks:
    paths: dict[Path, str] = {
        ("action_id",): "<<bought_by>>" if leg else "<<action>>", ("client_id",): name, ("commission",): "<<commission>>",
        ("execution_id",): "BACKTEST-<<execution>>", ("filled_at",): "<<filled_at>>", ("price",): "<<filled_price>>",
        ("quantity",): "<<#filled_shares>>", ("session",): "<<filled_session>>",
    }
    return Blanks("fill:BACKTEST-<<execution>>", paths, cause=f"{leg}_seq" if leg else "")


def session_blanks(facts: Sequence[Event], names: Sequence[str]) -> list[Blanks]:
    """The blanks of the facts that open or close a session.

    Args:
        names: The strategies, whose figures are numbered in that order.
    """
    found = []
    for fact in facts:
        numbers = {name: number for number, name in enumerate(names)}
        match fact.type:
            case E.SESSION_OPENED:
                paths: dict[Path, str] = {("session",): "<<session>>", ("baseline_equity",): "<<baseline>>"}
                paths |= {("strategy_pnl", name): f"<<total_{number}>>" for name, number in numbers.items()}
                found.append(Blanks("session.opened:<<session>>", paths))
            case E.STRATEGY_REPORTED:
                number = numbers[fact.payload["strategy"]]
                paths = {("session",): "<<session>>"} | _figures((), number)
                found.append(Blanks(f"strategy.reported:{fact.payload['strategy']}:<<session>>", paths))
            case _:
                paths = {("session",): "<<session>>", ("closing_equity",): "<<closing>>"}
                paths |= {
                    ("report", "session"): "<<session>>", ("report", "early_close"): "<<#early>>", ("report", "equity"): "<<closing>>",
                    ("report", "cash"): "<<cash>>", ("report", "day_pnl"): "<<day>>", ("report", "fills"): "<<#fills>>",
                }
                for name, number in numbers.items():
                    paths |= _figures(("report", "strategies", name), number)
                found.append(Blanks("session.closed:<<session>>", paths))
    return found


def _figures(place: Path, number: int) -> dict[Path, str]:
    paths: dict[Path, str] = {(*place, name): f"<<{name}_{number}>>" for name in ("bought", "sold")}
    return paths | {
        (*place, "fills"): f"<<#fills_{number}>>", (*place, "day_pnl"): f"<<day_{number}>>", (*place, "total_pnl"): f"<<total_{number}>>",
    }
