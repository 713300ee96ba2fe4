"""The fuzzing of replies, small: nothing is found, and what is broken on purpose is."""

from dataclasses import replace
from decimal import Decimal

import pytest

from tests.evidence import fuzz_replies
from tests.evidence.fuzz_replies import figures_of, fuzz, run
from tests.evidence.order_limits import KNOWN
from trading_pipeline.domain.replies import Flaw
from trading_pipeline.domain.risk import Judgement
from trading_pipeline.domain.signals import Abstain, Action, Signal


def test_hostile_replies_make_no_order_that_breaks_a_limit_and_raise_nothing():
    """33, 35, 59, 60, faults 39-41, T2: every flaw was met, and every rule but equity was once the only one that stopped an order."""
    tally = fuzz(seed=1, first=0, count=20_000)
    found = figures_of(tally)
    assert tally.found == []
    assert (found["replies"], found["breaches"], found["unhandled"], found["unexplained"]) == (20_000, 0, 0, 0)
    assert tally.flaws.keys() == {flaw.value for flaw in Flaw}
    assert len(KNOWN.keys() - tally.alone.keys()) <= 4
    assert found["passed"] > 1_000


def test_a_reply_depends_on_its_seed_and_number_alone():
    one, two = fuzz(seed=5, first=0, count=300), fuzz(seed=5, first=300, count=300)
    one.add(two)
    assert figures_of(one) == figures_of(fuzz(seed=5, first=0, count=600))


def test_two_processes_find_what_one_finds():
    assert figures_of(run(3, 0, 600, jobs=2)) == figures_of(run(3, 0, 600))


# Negative controls: each is a defect that the harness must see


def test_a_parser_that_believes_everything_is_found_out(monkeypatch):
    monkeypatch.setattr(fuzz_replies, "parse_reply", lambda text, symbol, universe: Signal(symbol, Action.BUY, Decimal(1), "why not"))
    assert fuzz(1, 0, 200).breaches > 50


@pytest.mark.parametrize("wrong", [{"confidence": Decimal("0.5")}, {"action": Action.BUY}, {"rationale": "\u202e"}, {"figures": ()}])
def test_a_parser_that_changes_what_was_said_is_found_out(monkeypatch, wrong):
    parse = fuzz_replies.parse_reply

    def careless(*question):
        said = parse(*question)
        return replace(said, **wrong) if isinstance(said, Signal) else said

    monkeypatch.setattr(fuzz_replies, "parse_reply", careless)
    assert fuzz(1, 0, 200).breaches > 10


def test_a_parser_that_refuses_everything_is_found_out(monkeypatch):
    monkeypatch.setattr(fuzz_replies, "parse_reply", lambda text, symbol, universe: Abstain(symbol, "empty"))
    assert fuzz(1, 0, 200).unexplained > 50


def test_a_rulebook_without_its_denials_is_found_out(monkeypatch):
    monkeypatch.setattr(fuzz_replies, "judge", lambda intent, known: Judgement(()))
    assert fuzz(1, 0, 500).breaches > 50


@pytest.mark.parametrize("rule", ["hard_order_value", "trading_hours", "price_collar", "oversell", "tick_size", "fresh_quote"])
def test_a_rulebook_without_one_rule_is_found_out(monkeypatch, rule):
    judge = fuzz_replies.judge
    monkeypatch.setattr(
        fuzz_replies, "judge",
        lambda intent, known: Judgement(tuple(verdict for verdict in judge(intent, known).verdicts if verdict.rule != rule)),
    )
    tally = fuzz(1, 0, 3_000)
    assert tally.breaches > 0
    assert all(rule in found for found in tally.found)


def test_an_exception_on_the_way_is_counted_with_the_number_that_repeats_it(monkeypatch):
    def failing(text, symbol, universe):
        raise ValueError("no such luck")

    monkeypatch.setattr(fuzz_replies, "parse_reply", failing)
    tally = fuzz(1, 7, 2)
    assert tally.unhandled == 2
    assert "SEED=1 FIRST=7 N=1" in tally.found[0]
