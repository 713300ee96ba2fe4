"""People: they decide on proposals, late, twice or on another page; they pause, revise, tighten, grant, stop and clear."""

from dataclasses import replace
from decimal import Decimal

from tests.desks import PERSON
from tests.evidence.daysim.stage import Stage
from trading_pipeline.service import account_limits, approvals, controls, grants
from trading_pipeline.service.steps import spec_of
from trading_pipeline.service.stopping import emergency

D = Decimal


def decide(stage: Stage) -> None:
    """Whoever looks at the proposals: most decide, some late, twice, on another page or without being a person."""
    for row in stage.ledger.find("approvals"):
        name, roll = row["action_id"], stage.dice.random()
        if row["state"] != "pending":
            if roll < 0.05:
                stage.person("late approval", lambda name=name: approvals.approve(stage.desk, name, actor=PERSON))
            continue
        shown = row["hash"]
        if roll < 0.5:
            for what in ("approval", "repeated approval")[: 2 if roll < 0.1 else 1]:
                stage.person(what, lambda name=name, shown=shown: approvals.approve(stage.desk, name, actor=PERSON, shown_hash=shown))
        elif roll < 0.6:
            stage.person("rejection", lambda name=name: approvals.reject(stage.desk, name, actor=PERSON, reason="no"))
        elif roll < 0.65 and stage.person(
            "approval of another page", lambda name=name: approvals.approve(stage.desk, name, actor=PERSON, shown_hash="0" * 64)
        ):
            stage.watch.say(f"{name} was approved by a hash that was not shown", "an approval")
        elif roll < 0.7 and stage.person("model's approval", lambda name=name: approvals.approve(stage.desk, name, actor="model:x")):
            stage.watch.say(f"{name} was approved by a model", "an approval")


def control(stage: Stage) -> None:
    """Pauses, revisions, limits, grants and stops."""
    name, roll = stage.dice.choice(stage.plan.specs).name, stage.dice.random()
    if roll < 0.03:
        stage.person("pause", lambda: controls.pause(stage.desk, name, actor=PERSON, reason="lunch"))
    elif roll < 0.23:
        for row in stage.ledger.find("strategies", state=("paused_user", "paused_risk", "not_ready")):
            stage.person("resume", lambda row=row: controls.resume(stage.desk, row["name"], actor=PERSON))
    elif roll < 0.26:
        stage.person("revision", lambda: _revise(stage, name))
    elif roll < 0.29:
        tighter = replace(stage.limits, max_order_value=D(stage.dice.randrange(2_000, 9_000)))
        stage.limits = tighter if stage.dice.random() < 0.6 else stage.plan.limits
        stage.desk = stage.boot()
        stage.person("confirmation of limits", lambda: _confirm(stage))
    elif roll < 0.32:
        amount, scope = D(stage.dice.choice((100, 500))), stage.dice.choice((None, name))
        stage.person("grant", lambda: grants.grant_loss(stage.desk, amount, strategy=scope, actor=PERSON, confirmed=amount))
    elif roll < 0.328:
        stage.struck["stop: strategy"] += 1
        stage.person("stop", lambda: emergency.stop(stage.desk, strategy=name, reason="enough", actor=PERSON))
    elif roll < 0.333:
        stage.struck["stop: account"] += 1
        stage.person("stop", lambda: emergency.stop(stage.desk, reason="enough", actor=PERSON))
    elif roll < 0.34:
        stage.person("finish", lambda: controls.finish(stage.desk, name, actor=PERSON, reason="done"))
    elif roll < 0.42 and stage.desk.latch.stops():
        _clear(stage, name)


def _revise(stage: Stage, name: str) -> None:
    spec = spec_of(controls.require(stage.desk.ledger, name))
    controls.revise(stage.desk, replace(spec, limits=replace(spec.limits, max_position_value=D(9_000))), actor=PERSON)


def _confirm(stage: Stage) -> None:
    account_limits.confirm(stage.desk, actor=PERSON, confirmed=account_limits.standing(stage.desk, stage.desk.ledger).unconfirmed)


def _clear(stage: Stage, name: str) -> None:
    """The account's latch is cleared, which nobody may do past a press that they have not seen, and a new strategy takes over."""
    account, shown = stage.desk.broker.account_id, emergency.held(stage.desk, stage.desk.ledger)
    again = stage.dice.random() < 0.3
    if again:
        stage.struck["stop: while being cleared"] += 1
        stage.person("stop", lambda: emergency.stop(stage.desk, reason="still too much", actor="human:other"))
    if stage.person("clearing", lambda: emergency.clear(stage.desk, actor=PERSON, typed=account, reason="looked", shown=shown)):
        if again:
            stage.watch.say("the account was cleared past a stop that came meanwhile", "a clearing")
        stage.successors += 1
        spec = replace(next(each for each in stage.plan.specs if each.name == name), name=f"{name}-{stage.successors}")
        stage.person("new start", lambda: stage.start(spec))
