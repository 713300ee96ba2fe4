"""`trading strategy ...`: what a person does to strategies. The rules stand in `service.controls`."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from trading_pipeline.faces.cli.invocation import Invocation, command
from trading_pipeline.faces.cli.output import Column, counted, gain, money, new_york, price, word

if TYPE_CHECKING:
    from datetime import timedelta

    from trading_pipeline.domain.limits import StrategyLimits
    from trading_pipeline.domain.projections import Row
    from trading_pipeline.domain.strategies import StrategySpec
    from trading_pipeline.service.desk import Desk

app = typer.Typer(help="Create strategies, start, pause, revise and finish them.", no_args_is_help=True)

FileArgument = Annotated[Path, typer.Argument(help="A strategy as TOML.", metavar="FILE")]
NameArgument = Annotated[str, typer.Argument(help="The strategy's name.", metavar="NAME")]
ReasonOption = Annotated[str, typer.Option("--reason", help="Why, for the record.")]
YesOption = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]


@command(app, "create")
def create(call: Invocation, file: FileArgument) -> None:
    """Write a strategy down as a draft."""
    from trading_pipeline.adapters.strategy_files import read_strategy
    from trading_pipeline.service import controls
    from trading_pipeline.service.desk import user_actor

    spec = read_strategy(file)
    with call.desk(create=True) as desk:
        controls.create(desk, spec, actor=user_actor())
        data = _as_json(controls.require(desk.ledger, spec.name))
    symbols = counted(len(spec.symbols), "symbol")
    call.output.answer(data, lambda: call.output.line(f"{spec.name} is a draft: {symbols}, {spec.interval} bars, {spec.mode} mode."))
    call.output.note(f"Start it with: trading strategy start {spec.name}")


@command(app, "list", reads=True)
def list_(call: Invocation) -> None:
    """All strategies and their states."""
    with call.desk() as desk:
        rows = desk.ledger.find("strategies", order_by="name")
    columns = [
        Column("STRATEGY"), Column("STATE"), Column("MODE", spare=1), Column("BARS"), Column("SINCE (NEW YORK)", spare=2),
        Column("SYMBOLS", wrap=True),
        Column("REASON", wrap=True),
    ]

    def cells(row: "Row") -> list[object]:
        spec = json.loads(row["spec"])
        symbols = ", ".join(spec["symbols"][:8]) + (f" and {len(spec['symbols']) - 8} more" if len(spec["symbols"]) > 8 else "")
        return [row["name"], word(row["state"]), spec["mode"], spec["interval"], new_york(row["state_since"]), symbols, row["reason"]]

    empty = "No strategy yet. Create one with: trading strategy create FILE"
    call.output.answer([_as_json(row) for row in rows], lambda: call.output.table(columns, [cells(row) for row in rows], empty=empty))


@command(app, "show", reads=True)
def show(call: Invocation, name: NameArgument) -> None:
    """One strategy: what it is, where it stands, what it holds."""
    from trading_pipeline.service import controls
    from trading_pipeline.service.accounting import marks
    from trading_pipeline.service.steps import spec_of

    with call.desk() as desk:
        row = controls.require(desk.ledger, name)
        held = [position for position in desk.ledger.find("positions", strategy=name) if position["quantity"]]
        prices = marks(desk, sorted({position["symbol"] for position in held}))
        waiting = desk.ledger.find("actions", strategy=name, state=("pending", "approved", "ready"))
        data = _as_json(row) | {
            "positions": [
                {"symbol": p["symbol"], "quantity": p["quantity"], "cost": str(p["cost"]), "mark": str(prices[p["symbol"]])} for p in held
            ],
            "open_actions": [{"action_id": a["action_id"], "symbol": a["symbol"], "side": a["side"], "state": a["state"]} for a in waiting],
        }
    spec = spec_of(row)

    def text() -> None:
        out = call.output
        out.line(row["name"], "  ", word(row["state"]), f"  since {new_york(row['state_since'])} New York, by {row['actor']}")
        if row["reason"]:
            out.line(f"  {row['reason']}")
        if spec.description:
            out.line(f"  {spec.description}")
        out.heading("Definition")
        out.pairs(_definition(spec, row["limits_version"]))
        out.heading("Limits")
        out.pairs({
            "order": money(spec.limits.max_order_value), "position": money(spec.limits.max_position_value),
            "day's loss": money(spec.limits.max_day_loss),
            "day's risk": "off" if spec.limits.max_day_risk is None else f"{money(spec.limits.max_day_risk)}, stops included",
            "model's cost": "off" if spec.limits.max_day_model_cost is None else f"{money(spec.limits.max_day_model_cost)} a day",
            "orders an hour": spec.limits.max_orders_per_hour,
            "price collar": f"{_share(spec.limits.price_collar)} of the price", **_discipline(spec.limits),
        })
        out.heading("Positions")
        out.table(
            [
                Column("SYMBOL"), Column("SHARES", right=True), Column("COST", right=True), Column("PRICE", right=True),
                Column("OPEN P&L", right=True),
            ],
            [
                [p["symbol"], f"{p['quantity']:,}", money(p["cost"]), price(mark), gain(p["quantity"] * mark - p["cost"])]
                for p in held
                for mark in (prices[p["symbol"]],)
            ],
        )
        if waiting:
            out.heading("Waiting")
            out.table(
                [Column("ACTION"), Column("SIDE"), Column("SYMBOL"), Column("STATE")],
                [[a["action_id"], word(a["side"]), a["symbol"], word(a["state"])] for a in waiting],
            )

    call.output.answer(data, text)


@command(app, "start")
def start(call: Invocation, name: NameArgument) -> None:
    """Let a draft trade, if book and broker agree."""
    from trading_pipeline.domain.strategies import StrategyState
    from trading_pipeline.service import controls
    from trading_pipeline.service.desk import user_actor

    with call.desk() as desk:
        state = controls.start(desk, name, actor=user_actor())
        row = controls.require(desk.ledger, name)
    _say(call, row)
    if state is not StrategyState.RUNNING:
        raise typer.Exit(1)


@command(app, "pause")
def pause(call: Invocation, name: NameArgument, reason: ReasonOption = "") -> None:
    """Stop deciding: entries are cancelled, proposals voided, protective orders stay."""
    from trading_pipeline.service import controls
    from trading_pipeline.service.desk import user_actor

    with call.desk() as desk:
        controls.pause(desk, name, actor=user_actor(), reason=reason)
        row = controls.require(desk.ledger, name)
    _say(call, row)


@command(app, "resume")
def resume(
    call: Invocation, name: NameArgument,
    unchecked: Annotated[
        bool, typer.Option("--unchecked", help="With a changed prompt or model that did not pass the golden set; recorded as your word."),
    ] = False,
) -> None:
    """Let a paused strategy decide again."""
    from trading_pipeline.service import controls
    from trading_pipeline.service.desk import user_actor

    with call.desk() as desk:
        controls.resume(desk, name, actor=user_actor(), unchecked=unchecked)
        row = controls.require(desk.ledger, name)
    _say(call, row)


@command(app, "finish")
def finish(call: Invocation, name: NameArgument, reason: ReasonOption = "", yes: YesOption = False) -> None:
    """End a strategy for good; its positions are kept."""
    from trading_pipeline.service import controls
    from trading_pipeline.service.desk import user_actor

    with call.desk() as desk:
        controls.require(desk.ledger, name)
        if not call.confirm(f"End {name} for good? Its name is used up and its positions are kept.", yes=yes):
            call.output.note("Nothing was changed.")
            raise typer.Exit(1)
        controls.finish(desk, name, actor=user_actor(), reason=reason)
        row = controls.require(desk.ledger, name)
    _say(call, row)


@command(app, "revise")
def revise(call: Invocation, file: FileArgument) -> None:
    """Replace a strategy's definition; a loosened limit is typed again at a terminal."""
    from trading_pipeline.adapters.strategy_files import read_strategy
    from trading_pipeline.service import controls
    from trading_pipeline.service.desk import user_actor

    spec = read_strategy(file)
    with call.desk() as desk:
        controls.revise(desk, spec, actor=user_actor(), confirmed=_confirm_loosening(call, desk, spec))
        row = controls.require(desk.ledger, spec.name)
    call.output.answer(
        _as_json(row), lambda: call.output.line(f"{spec.name} is revised, version {row['limits_version']}; its pending proposals are void.")
    )


def _confirm_loosening(call: Invocation, desk: "Desk", spec: "StrategySpec") -> list[str]:
    """What it loosens that the person has typed again (D17); without a terminal nothing, and the service refuses."""
    from trading_pipeline.service import controls
    from trading_pipeline.service.steps import spec_of

    loosened = controls.loosened_limits(spec_of(controls.require(desk.ledger, spec.name)), spec)
    if not loosened or not call.output.interactive:
        return []
    call.retype(f"{spec.name} would allow more than before:", loosened)
    return loosened


def _say(call: Invocation, row: "Row") -> None:
    """The state a strategy is in now."""
    reason = f": {row['reason']}" if row["reason"] else ""
    call.output.answer(_as_json(row), lambda: call.output.line(f"{row['name']} is ", word(row["state"]), f"{reason}."))


def _as_json(row: "Row") -> dict[str, Any]:
    return {
        "name": row["name"], "state": row["state"], "reason": row["reason"], "limits_version": row["limits_version"],
        "created_at": row["created_at"].isoformat(), "state_since": row["state_since"].isoformat(), "actor": row["actor"],
        "spec": json.loads(row["spec"]),
    }


def _definition(spec: "StrategySpec", version: int) -> dict[str, object]:
    from trading_pipeline.domain.indicators import text_of
    from trading_pipeline.domain.strategies import AnalyzerAgent, ExpressionAgent, FractionSizing, Mode, ModelAgent, RiskSizing

    lines: dict[str, object] = {
        "version": version, "symbols": ", ".join(spec.symbols), "bars": spec.interval.value,
        "mode": f"approval, a proposal waits {spec.approval_timeout.seconds} s" if spec.mode is Mode.APPROVAL else "autonomous",
        "lifetime": "ends with the session" if spec.lifetime.value == "session" else "goes on after the session",
        "confidence": f"at least {spec.min_confidence}" if spec.mode is Mode.AUTONOMOUS else None,
    }
    match spec.agent:
        case AnalyzerAgent():
            lines["agent"] = "analyzer score"
        case ExpressionAgent(enter_when, exit_when, max_bars):
            lines["enters when"] = enter_when
            lines["exits when"] = exit_when or None
            lines["exits after"] = f"{max_bars} bars" if max_bars else None
        case ModelAgent() as agent:
            lines["agent"] = f"{agent.model} of {agent.provider}"
            lines["prompt"] = agent.prompt
            lines["sight"] = agent.sight.value
            lines["hidden"] = ", ".join(sorted(agent.masks)) or None
            lines["asked when"] = agent.trigger or None
            lines["held: when"] = agent.trigger_held or None
            lines["tokens"] = f"at most {agent.max_tokens:,} a reply"
            lines["temperature"] = None if agent.temperature is None else str(agent.temperature)
            lines["misquotes"] = None if agent.citation_abstain is None else f"further off than {_share(agent.citation_abstain)}: no signal"
    match spec.sizing:
        case RiskSizing() as sizing:
            lines["size"] = f"risks {_share(sizing.risk_per_trade)} of equity a trade"
            lines["stop"] = f"support, {sizing.atr_multiple} x ATR, at most {_share(sizing.max_stop)} below the price"
            lines["targets"] = ", ".join(f"{target} x risk" for target in sizing.targets)
        case FractionSizing() as sizing:
            lines["size"] = f"{_share(sizing.fraction)} of equity"
            lines["stop"] = None if sizing.stop is None else f"{_share(sizing.stop)} below the price"
            if sizing.atr_stop is not None:
                lines["stop"] = f"{sizing.atr_stop} x ATR below the close decided at"
            lines["targets"] = None if sizing.target is None else f"{_share(sizing.target)} above the price"
    lines["entry"] = spec.sizing.entry.value
    lines["indicators"] = ", ".join(text_of(each) for each in spec.indicators) or None
    lines["chart"] = None if spec.chart is None else f"{spec.chart.bars} bars, {spec.chart.width} x {spec.chart.height}"
    return lines


def _discipline(limits: "StrategyLimits") -> dict[str, str]:
    """What losses call for (F5)."""
    streak = f"after {limits.losing_streak} losing round trips in a row"
    return {
        "cool-off": "off" if limits.cool_off is None else f"no entry for {_minutes(limits.cool_off)} {streak}",
        "recovery": "off" if limits.recovery_size is None else f"{_share(limits.recovery_size)} of the size {streak}, until one wins",
        "revenge": "off" if limits.revenge_wait is None else f"no entry for {_minutes(limits.revenge_wait)} after a sale at a loss",
    }


def _minutes(span: "timedelta") -> str:
    return f"{span.total_seconds() / 60:.4g} min"


def _share(fraction: Any) -> str:
    return f"{float(fraction) * 100:.4g} %"
