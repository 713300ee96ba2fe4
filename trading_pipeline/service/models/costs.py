"""What models cost: today against the budgets, and the last days by strategy, provider, model or prompt.

Read from the tables that the purse reserves by, so that what is shown is what is held to. Amounts are exact, as text. What a trigger
saved is an estimate unless the facts say what the question would have cost: so many questions at the average of those that were paid for.
"""

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from datetime import timedelta
from decimal import Decimal
from typing import Any, Final

from trading_pipeline.domain.models import CostsBy, ModelBudget
from trading_pipeline.domain.money import ZERO
from trading_pipeline.domain.projections import Row
from trading_pipeline.domain.projections.models import CALLS, SPEND, CallState
from trading_pipeline.service.desk import Desk
from trading_pipeline.service.models.purse import Purse

_EXACT: Final = Decimal("0.000001")


@dataclass(slots=True)
class _Sum:
    """What one group amounts to."""

    spent: Decimal = ZERO
    reserved: Decimal = ZERO
    questions: int = 0
    calls: int = 0
    failed: int = 0
    lost: int = 0
    discarded: int = 0
    replayed: int = 0
    tokens_in: int = 0
    tokens_out: int = 0
    skipped: dict[str, int] = field(default_factory=dict)
    saved: Decimal = ZERO

    def take(self, row: Row) -> None:
        """Add a row of `model_spend`."""
        self.spent += row["spent"]
        self.reserved += row["reserved"]
        self.questions += row["asked"]
        for name in ("calls", "failed", "lost", "discarded", "replayed", "tokens_in", "tokens_out"):
            setattr(self, name, getattr(self, name) + row[name])
        for reason, count in json.loads(row["skipped"]).items():
            self.skipped[reason] = self.skipped.get(reason, 0) + count
        self.saved += row["saved"]

    def take_call(self, row: Row) -> None:
        """Add a row of `model_calls`, which knows nothing of what was skipped."""
        state = CallState(row["state"])
        self.questions += 1
        self.reserved += row["reserved"] if state is CallState.ASKED else ZERO
        self.spent += row["cost"] or ZERO
        self.calls += row["calls"] or 0
        self.lost += state is CallState.LOST
        self.discarded += state is CallState.DISCARDED
        self.replayed += bool(row["replayed"])
        self.tokens_in += sum(row[name] or 0 for name in ("input_tokens", "cached_tokens", "cache_write_tokens"))
        self.tokens_out += row["output_tokens"] or 0

    def told(self) -> dict[str, Any]:
        """As plain data; what the triggers saved stands in `saved_by_trigger`."""
        told = asdict(self) | {"spent": _text(self.spent), "reserved": _text(self.reserved)}
        del told["saved"]
        spared, paid = self.skipped.get("trigger", 0), self.questions - self.replayed
        estimate = self.saved if self.saved else (self.spent / paid * spared).quantize(_EXACT) if paid and spared else None
        about = "at most" if self.saved else "at the average of the questions asked"
        saved = {"questions": spared, "usd": None if estimate is None else _text(estimate), "how": about if estimate is not None else ""}
        return told | {"saved_by_trigger": saved}


def today(desk: Desk) -> dict[str, Any]:
    """What is spent, reserved and left of the day's budget, and of the hour's calls."""
    purse, budget = Purse.open(desk, desk.ledger), desk.models.budget if desk.models is not None else ModelBudget()
    rows = desk.ledger.find(SPEND, day=purse.day.isoformat())
    return {
        "day": purse.day.isoformat(),
        "budget": _text(budget.per_day),
        "spent": _text(sum((row["spent"] for row in rows), ZERO)),
        "reserved": _text(sum((row["reserved"] for row in rows), ZERO)),
        "left": _text(purse.left()),
        "calls_last_hour": purse.calls_last_hour(),
        "calls_per_hour": budget.calls_per_hour,
        "providers": [
            {"provider": provider.value, "budget": _text(most), "committed": _text(purse.committed(provider=provider))}
            for provider, most in budget.per_provider
        ],
    }


def costs(desk: Desk, days: int | None = 1, by: CostsBy = CostsBy.STRATEGY) -> dict[str, Any]:
    """Today, and what the last days, None for all there are, amount to: a group each, the dearest first, and in all."""
    now = today(desk)
    last = Purse.open(desk, desk.ledger).day
    if days is None:
        names = sorted({row["day"] for row in desk.ledger.find(SPEND)}, reverse=True) or [last.isoformat()]
    else:
        names = [(last - timedelta(days=back)).isoformat() for back in range(days)]
    rows = desk.ledger.find(SPEND, day=names)
    groups: dict[str, _Sum] = {}
    if by in (CostsBy.STRATEGY, CostsBy.PROVIDER):
        for row in rows:
            groups.setdefault(row[by.value], _Sum()).take(row)
    else:
        for row in desk.ledger.find(CALLS, day=names):
            groups.setdefault(row[by.value], _Sum()).take_call(row)
    told = [{by.value: name, **each.told()} for name, each in sorted(groups.items(), key=lambda item: (-item[1].spent, item[0]))]
    return {"today": now, "from": names[-1], "to": names[0], "by": by.value, "groups": told, "total": _total(rows).told()}


def _total(rows: Iterable[Row]) -> _Sum:
    total = _Sum()
    for row in rows:
        total.take(row)
    return total


def _text(amount: Decimal) -> str:
    return format(amount, "f")
