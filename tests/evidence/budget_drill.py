"""`make budget-drill N=1000`: fifty threads spend one budget while their process is killed, and nobody ever spends more than it.

Each run is a ledger of its own on a real PostgreSQL, with budgets at random for the day, the provider, one strategy and the hour. A
process begins five cycles of eleven questions at once, by the product's own path (purse, facts, thread pool, retry and repair, SDK)
against a provider with books of its own (`billing`). In every other run it is killed at a moment at random; another process takes the
cycles up and begins five more. Then the ledger is judged event by event, with no help of the tables, and so is the provider's bill.
"""

import hashlib
import os
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from decimal import Decimal
from pathlib import Path
from random import Random
from statistics import median
from typing import Any

from pydantic import SecretStr

from tests.conftest import execute, stop_at_once
from tests.desks import OPEN, bars, floor, market, strategy
from tests.evidence.billing import bill_of, provider
from tests.evidence.crashing.processes import Child
from tests.evidence.report import finish, progress, size
from trading_pipeline.adapters.ledger.embedded import EmbeddedPostgres
from trading_pipeline.adapters.ledger.postgres import PostgresLedger, prepare_database
from trading_pipeline.adapters.llm.anthropic_api import AnthropicLLM
from trading_pipeline.adapters.prices import load_prices
from trading_pipeline.adapters.prompt_files import PromptFiles
from trading_pipeline.adapters.text_files import TextFiles
from trading_pipeline.domain.codec import encode
from trading_pipeline.domain.cycles import Cycle, follow_up
from trading_pipeline.domain.events import Event, EventType, NewEvent, canonical_payload
from trading_pipeline.domain.limits import StrategyLimits
from trading_pipeline.domain.models import ModelBudget, ModelRequest, Provider, Sampling
from trading_pipeline.domain.projections.models import CALLS, SPEND, CallState
from trading_pipeline.domain.replies import reply_schema
from trading_pipeline.domain.strategies import ModelAgent
from trading_pipeline.ports import Question, Rendered
from trading_pipeline.service.desk import Desk, Models
from trading_pipeline.service.models import asking, conversations
from trading_pipeline.service.models.briefing import Briefing, disguise
from trading_pipeline.service.models.decision_facts import place
from trading_pipeline.service.models.inquiries import Inquiry
from trading_pipeline.service.models.purse import budget_day
from trading_pipeline.service.record.verification import verify
from trading_pipeline.service.steps import Tally as StepTally

E, ZERO = EventType, Decimal(0)
CYCLES, SYMBOLS, TALKING = 5, 5, 10
"""Five cycles at once, two strategies of five symbols each and one question at an unknown price: ten calls a cycle, fifty threads."""
KNOWN, NOBODY, PROMPT = "claude-haiku-4-5", "claude-nobody-9", "analyst/v1"
MAX_TOKENS = 200
FIRST_GUESS = 0.5
"""Seconds that a process is thought to take before one has been measured: kills are spread over so long."""
OWN_BUDGET = Decimal("0.05")
"""USD a day of strategy `thrifty`."""
SPECS = (
    strategy("lavish", agent=ModelAgent(Provider.ANTHROPIC, KNOWN, PROMPT, max_tokens=MAX_TOKENS)),
    strategy(
        "thrifty", agent=ModelAgent(Provider.ANTHROPIC, KNOWN, PROMPT, max_tokens=MAX_TOKENS),
        limits=StrategyLimits(max_day_model_cost=OWN_BUDGET),
    ),
    strategy("blind", agent=ModelAgent(Provider.ANTHROPIC, NOBODY, PROMPT, max_tokens=MAX_TOKENS)),
)


@dataclass(slots=True)
class Tally:
    """What all runs came to."""

    runs: int = 0
    overspent: int = 0
    killed: int = 0
    counts: Counter[str] = field(default_factory=Counter)
    billed: Decimal = ZERO
    refused: Counter[str] = field(default_factory=Counter)
    violations: list[str] = field(default_factory=list)
    lengths: list[float] = field(default_factory=list)
    """Seconds that the processes took which nobody killed."""


class House:
    """What every run shares: a desk without a ledger, and the questions as they would be sent."""

    def __init__(self, folder: Path) -> None:
        table = bars()
        self._desk = floor(folder, market(table), OPEN).desk
        prices = load_prices(None, ZERO)
        version = PromptFiles().get(PROMPT)
        self._inquiries: dict[str, Inquiry] = {}
        for spec in SPECS:
            for number in range(SYMBOLS if spec.name != "blind" else 1):
                symbol, agent = f"S{number}", spec.agent
                assert isinstance(agent, ModelAgent)
                question = Question(spec.name, agent, symbol, replace(table, symbol=symbol), {}, None)
                rendered = Rendered(version, "You look at a market.", f"{spec.name} {symbol} " + "x" * (97 * number), "0" * 64)
                request = ModelRequest(
                    agent.provider, agent.model, rendered.system, rendered.text, canonical_payload(reply_schema(symbol)), (),
                    Sampling(MAX_TOKENS),
                )
                worst, day = prices.worst(request, budget_day()), budget_day()
                kept = hashlib.sha256(rendered.text.encode()).hexdigest()
                told = Briefing({}, disguise(question), None)
                self._inquiries[place(question)] = Inquiry(
                    question, agent, told, rendered, request, worst, recorded=False, text_digest=kept, on=day, expected=None,
                )
        self.dearest = max(inquiry.reserved for inquiry in self._inquiries.values())
        self._prices = prices

    def warm(self, port: int) -> None:
        """Ask once in this process, so that none that is forked from it has anything left to import."""
        llm = AnthropicLLM(SecretStr("sk-ant-drill"), f"http://127.0.0.1:{port}/warm")
        llm.ask(next(iter(self._inquiries.values())).request, 10.0)
        llm.close()

    def desk(self, ledger: PostgresLedger, budget: ModelBudget, port: int, run: str) -> Desk:
        """A desk on a ledger, with a client of its own."""
        llm = AnthropicLLM(SecretStr("sk-ant-drill"), f"http://127.0.0.1:{port}/{run}")
        models = Models({Provider.ANTHROPIC: llm}, PromptFiles(), self._prices, TextFiles(Path(os.devnull)), budget)
        return replace(self._desk, ledger=ledger, models=models)

    def turn(self, desk: Desk, cycle: Cycle) -> None:
        """The cycle's questions, from the reservation to the last reply."""
        tally = StepTally("signals", cycle)
        with desk.ledger.transaction() as tx:
            talks = conversations.begin(desk, tx, cycle, [each.question for each in self._inquiries.values()], self._inquiries, {}, tally)
        conversations.carry_on(desk, cycle, talks, tally)


def cycles(part: str) -> list[Cycle]:
    """Five of one name."""
    return [follow_up((), OPEN.date(), OPEN, f"{part}{number}") for number in range(CYCLES)]


def spend(house: House, url: Any, budget: ModelBudget, port: int, run: str, parts: Iterable[str]) -> Callable[[], Any]:
    """The work of one process: several cycles at once; then what the ledger says of itself."""

    def work() -> dict[str, Any]:
        asking.LONGEST_WAIT = 0.01  # type: ignore[misc]  # nobody here recovers by being waited for
        ledger = PostgresLedger.open(url, "demo")
        desk = house.desk(ledger, budget, port, run)
        with ledger.transaction() as tx:
            tx.append(*(
                NewEvent(E.STRATEGY_CREATED, f"strategy:{spec.name}", f"created:{spec.name}", {"strategy": spec.name, "spec": encode(spec)},
                         OPEN, "user:drill")
                for spec in SPECS
            ))
        for part in parts:
            with ThreadPoolExecutor(CYCLES) as pool:
                list(pool.map(lambda cycle: house.turn(desk, cycle), cycles(part)))
        report = verify(ledger)
        wrong = [] if report.ok else [f"the ledger does not verify: {report.difference}"]
        waiting = len(ledger.find(CALLS, state=CallState.ASKED.value))
        wrong += [f"{waiting} questions are open though nobody asks"] if waiting else []
        kept = sum((row["spent"] + row["reserved"] for row in ledger.find(SPEND)), ZERO)
        faults, counts, total = judge(ledger.scan(), budget, bill_of(port, run))
        if kept != total:
            wrong.append(f"the tables say ${kept}, the events ${total}")
        return {"wrong": wrong, "overspent": faults, "counts": counts}

    return work


def judge(events: Iterable[Event], budget: ModelBudget, bill: Mapping[str, Any]) -> tuple[list[str], dict[str, int], Decimal]:
    """Whether ever more was spent or reserved than there was, by the facts alone, and whether the bill is covered by them."""
    held: dict[tuple[str, ...], tuple[str, Decimal]] = {}
    counts: Counter[str] = Counter()
    faults = []
    most = {"the day": budget.per_day, "thrifty": OWN_BUDGET, "the provider": dict(budget.per_provider).get(Provider.ANTHROPIC)}
    for event in events:
        data = event.payload
        if event.type is E.LLM_SKIPPED:
            counts[f"refused: {data['reason']}"] += 1
        if event.type not in (E.LLM_REQUESTED, E.LLM_RESPONDED, E.LLM_DISCARDED, E.LLM_LOST):
            continue
        key = (data["cycle"], data["strategy"], data["symbol"])
        if event.type is E.LLM_REQUESTED:
            held[key] = (data["strategy"], Decimal(data["reserved"]))
        elif event.type is not E.LLM_LOST:
            held[key] = (data["strategy"], Decimal(data["cost"]))
        counts[event.type.value] += 1
        total = sum((amount for _, amount in held.values()), ZERO)
        own = sum((amount for who, amount in held.values() if who == "thrifty"), ZERO)
        for whose, gone in (("the day", total), ("the provider", total), ("thrifty", own)):
            if (allowed := most[whose]) is not None and gone > allowed:
                faults.append(f"event {event.seq}: ${gone} of ${allowed} for {whose}")
    billed = {who: Decimal(usd) for who, usd in bill["usd"].items()}
    total = sum((amount for _, amount in held.values()), ZERO)
    counts["calls"] = bill["calls"]
    if sum(billed.values(), ZERO) > total:
        faults.append(f"the provider bills ${sum(billed.values(), ZERO)}, the ledger knows of ${total}")
    if billed.get("thrifty", ZERO) > OWN_BUDGET:
        faults.append(f"the provider bills ${billed['thrifty']} for thrifty")
    if bill["calls"] > budget.calls_per_hour:
        faults.append(f"{bill['calls']} calls, of {budget.calls_per_hour} an hour")
    if NOBODY in bill["models"]:
        faults.append("a model without a price was asked")
    return faults, dict(counts), total


def run_all(server: EmbeddedPostgres, template: str, port: int, count: int, seed: int) -> Tally:
    """That many runs, one after another."""
    tally, dice = Tally(), Random(seed)
    with tempfile.TemporaryDirectory() as folder:
        house = House(Path(folder))
        house.warm(port)
        for number in range(count):
            _run(server, template, port, house, f"drill_{os.getpid()}_{number}", dice, tally)
            if count > 100 and number % 100 == 99:
                progress(f"{number + 1:,} of {count:,} runs: {tally.overspent} overspent, {len(tally.violations)} violations")
    return tally


def _run(server: EmbeddedPostgres, template: str, port: int, house: House, name: str, dice: Random, tally: Tally) -> None:
    room = house.dearest * Decimal(f"{dice.uniform(1, 60):.3f}")
    own = ((Provider.ANTHROPIC, house.dearest * Decimal(f"{dice.uniform(1, 60):.3f}")),) if dice.random() < 0.5 else ()
    budget = ModelBudget(room, own, dice.choice((10_000, 10_000, 60, 13)), TALKING, 10.0)
    server.ensure_database(name, template=template)
    try:
        url = server.app_url(name)
        began, condemned = time.monotonic(), dice.random() < 0.5
        first = Child(spend(house, url, budget, port, name, ["first"]))
        if condemned:
            time.sleep(dice.random() * median(tally.lengths or [FIRST_GUESS]))
            first.kill()
        ended = first.wait()
        if not condemned:
            tally.lengths.append(time.monotonic() - began)
        tally.killed += ended.killed
        again = Child(spend(house, url, budget, port, name, ["first", "then"])).wait()
        bill = bill_of(port, name)
    finally:
        execute(server.superuser_url(), f'DROP DATABASE "{name}" WITH (FORCE)')
    tally.runs += 1
    for each in (ended, again):
        tally.violations += [f"{name}: {trouble}" for trouble in (each.broken, each.unavailable) if trouble]
        if each.result is not None:
            tally.violations += [f"{name}: {fault}" for fault in (*each.result["wrong"], *each.result["overspent"])]
    tally.overspent += any(each.result is not None and bool(each.result["overspent"]) for each in (ended, again))
    tally.billed += sum((Decimal(usd) for usd in bill["usd"].values()), ZERO)
    if again.result is not None:
        tally.counts.update(again.result["counts"])


def main() -> int:
    """Start a server and a provider, spend, report."""
    count, seed = size(1_000), size(1, "SEED")
    home = Path(tempfile.mkdtemp(prefix="tp-"))
    with provider() as port:
        server = EmbeddedPostgres.start(home / "postgres")
        try:
            execute(server.superuser_url(), "ALTER SYSTEM SET fsync = off")
            execute(server.superuser_url(), "SELECT pg_reload_conf()")
            server.ensure_database("drill_template")
            prepare_database(server.owner_url("drill_template"))
            tally = run_all(server, "drill_template", port, count, seed)
        finally:
            stop_at_once(server)
    for each in tally.violations[:10]:
        progress(each)
    refused = {name: many for name, many in sorted(tally.counts.items()) if name.startswith("refused: ")}
    finish(
        "budget-drill", "Fifty threads, one budget, and a process that is killed",
        {
            "runs": tally.runs, "overspent": tally.overspent, "violations": len(tally.violations), "killed": tally.killed,
            "questions": tally.counts[E.LLM_REQUESTED.value], "lost": tally.counts[E.LLM_LOST.value], "calls": tally.counts["calls"],
            "billed_usd": f"{tally.billed:.2f}", **refused,
        },
        {"overspent": tally.runs, "violations": tally.runs},
        (
            f"Seed {seed}. Each run has a ledger of its own on one PostgreSQL (fsync off: nothing here is about power) and budgets at "
            "random: of the day, of the provider (every other run), of one strategy, and of the hour's calls. Five cycles of eleven "
            "questions are begun at once with ten calls each under way: fifty threads. Every question goes the product's own way, through "
            "the purse, the facts, the pool, one retry or repair, and Anthropic's SDK, to a provider on loopback that keeps its own books "
            "in a process of its own. In every other run SIGKILL is aimed at a moment at random; `killed` counts those that it reached "
            "before their end. A second process takes up what the first left and begins five cycles more. One question a cycle is for a "
            "model without a price.",
            "Overspent is a run in which, after any event, what was spent and reserved was above a budget; or the provider's own count "
            "was above what the ledger knows of, or its calls above the hour's; or a model without a price was asked. Violations are "
            "these, and tables that differ from the events, questions left open, and processes that broke.",
        ),
        command=f"make budget-drill N={count}",
    )
    return 1 if tally.violations else 0


if __name__ == "__main__":
    raise SystemExit(main())
