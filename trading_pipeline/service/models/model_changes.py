"""What changed under a strategy that asks a model, and whether it may go on (invariant 64, T8).

Other words under the same version of a prompt, or another version of the model, pause it. It goes on when exactly this pair has passed the
golden set, when a person takes it upon themselves unchecked, or when what changed is as it was. The fact of its going on names the pair, so
that the next change is one again. Another prompt or model that a person revises the strategy to is their choice, and no change.
"""

from typing import Any

from trading_pipeline.domain.events import Event, EventType
from trading_pipeline.domain.projections import Row
from trading_pipeline.domain.projections.models import CALLS
from trading_pipeline.domain.strategies import ModelAgent, StrategyState
from trading_pipeline.errors import SettingsError, StrategyError
from trading_pipeline.ports import Reader
from trading_pipeline.service.desk import Desk
from trading_pipeline.service.models.inquiries import answered_last
from trading_pipeline.service.steps import spec_of


def asked_before(reader: Reader, strategy: str, prompt: str, digest: str) -> str | None:
    """The digest that a strategy's prompt had when it asked last; None where it is the same, or a person let these very words go on."""
    rows = reader.find(CALLS, strategy=strategy, prompt=prompt, order_by="requested_seq", descending=True, limit=1)
    request = reader.event(rows[0]["requested_seq"]) if rows else None
    if request is None or request.payload["prompt_digest"] == digest:
        return None
    resumed = reader.events(after=request.seq, types=(EventType.STRATEGY_RESUMED,), stream=request.stream)
    return None if any(event.payload.get("prompt_digest") == digest for event in resumed) else str(request.payload["prompt_digest"])


def going_on(desk: Desk, row: Row, *, unchecked: bool) -> dict[str, Any]:
    """What the fact of a strategy's going on says about a prompt or model that changed; empty where neither did.

    Args:
        row: Of the strategy, as it is paused.
        unchecked: The person takes it upon themselves that it did not pass.

    Raises:
        StrategyError: It has not passed, and nobody took it upon themselves.
        UnknownName, PromptError: Its prompt is gone, or its file is wrong.
        InputError: The golden set cannot be read.
    """
    agent, name = spec_of(row).agent, row["name"]
    if not isinstance(agent, ModelAgent):
        return {}
    if desk.models is None or desk.models.golden is None:
        raise SettingsError(
            f"Nobody can tell here whether {name} may go on: this desk asks no models.", value=name,
            rule="what changed about a model is looked at first (invariant 64)", remedy="open the desk with models",
        )
    digest = desk.models.prompts.get(agent.prompt).digest
    last = answered_last(desk.ledger, name, agent.provider, agent.model)
    words = asked_before(desk.ledger, name, agent.prompt, digest) is not None
    if not words and not _another_version(desk.ledger, row, last):
        return {}
    pair = {"prompt_digest": digest, "answered_by": last}
    if unchecked:
        return pair | {"checked": None, "unchecked": True}
    check = newest_check(desk.ledger, name, agent, digest, desk.models.golden.read().digest)
    if check is not None and check.payload["passed"] and last in (None, check.payload["answered_by"]):
        return pair | {"checked": check.seq}
    changed = f"the words of {agent.prompt} have changed" if words else f"{agent.model} is {last} now"
    raise StrategyError(
        f"{name} cannot resume: {changed}, and {_missing(check, last)}.", value=digest[:12] if words else last,
        rule="a changed prompt or model passes the golden set first (invariant 64)",
        remedy=f"run `trading prompt check {agent.prompt} --strategy {name}`, or take it upon yourself with --unchecked",
    )


def newest_check(reader: Reader, strategy: str, agent: ModelAgent, digest: str, golden: str) -> Event | None:
    """The newest outcome of the golden set as it stands for a strategy's prompt and model; what it was asked before says nothing."""
    wanted = {"prompt_digest": digest, "provider": agent.provider.value, "model": agent.model, "golden": golden}
    checks = reader.events(types=(EventType.PROMPT_CHECKED,), stream=f"strategy:{strategy}")
    return next((each for each in reversed(checks) if all(each.payload[key] == value for key, value in wanted.items())), None)


def _another_version(reader: Reader, row: Row, last: str | None) -> bool:
    """Whether it waits because of the version that would answer it again."""
    if row["state"] != StrategyState.PAUSED_RISK.value or last is None:
        return False
    paused = reader.events(types=(EventType.STRATEGY_PAUSED,), stream=f"strategy:{row['name']}")
    return bool(paused) and paused[-1].payload.get("measured") == last


def _missing(check: Event | None, last: str | None) -> str:
    if check is None:
        return "the golden set as it stands was not put to it"
    if not check.payload["passed"]:
        failed = [case["case"] for case in check.payload["cases"] if not case["passed"]]
        return f"did not pass the golden set on {check.at:%Y-%m-%d} ({', '.join(failed[:3]) or 'nobody answered'})"
    return f"passed with {check.payload['answered_by']}, while {last} answered last"
