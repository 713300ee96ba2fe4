"""`make injections N=1400`: somebody else's words in every place where the product has some, and two models that read them.

Each case is one trick at one place (`injection_corpus`), played twice on the same bars, with the words and without, by each of two models:
one that does whatever it is told, and one that goes by the figures alone. Counted is what words brought about that no words may bring
about (`side_effects`), orders and positions beyond the rules (`breaches`), and, as it is, how often a decision came out differently.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from tests.evidence.injection_corpus import FAMILIES, PLACEMENTS, Case, cases
from tests.evidence.injection_guard import Guard
from tests.evidence.injection_judges import side_effects
from tests.evidence.injection_models import Policy
from tests.evidence.injection_stage import Seen, Setting, Stage
from tests.evidence.report import finish, progress, size

WHOLE = len(FAMILIES) * len(PLACEMENTS)
"""Every family at every place once."""


@dataclass
class Count:
    """Of one family, or of one channel."""

    cases: int = 0
    reached: int = 0
    """A prompt held the words."""
    refused: int = 0
    """The strategy file was refused."""
    flips: Counter[Policy] = field(default_factory=Counter)
    """Cases in which any decision came out differently, by the model's policy."""
    abstained: Counter[Policy] = field(default_factory=Counter)
    """Of those, the ones in which it only came to say nothing where it had said something."""
    orders: Counter[Policy] = field(default_factory=Counter)
    """Cases in which other orders were made."""


@dataclass
class Tally:
    """What came of the cases."""

    cases: int = 0
    sessions: int = 0
    calls: int = 0
    side_effects: list[str] = field(default_factory=list)
    breaches: list[str] = field(default_factory=list)
    failed: int = 0
    by_family: dict[str, Count] = field(default_factory=dict)
    by_channel: dict[str, Count] = field(default_factory=dict)


class Trial:
    """Plays cases; the clean session of a setting and a policy is played once and kept."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self._clean: dict[tuple[Setting, Policy], Seen] = {}

    def clean(self, setting: Setting, policy: Policy) -> Seen:
        """The session without the words."""
        if (setting, policy) not in self._clean:
            with self._stage.played(setting, policy, None) as (seen, _):
                self._clean[setting, policy] = seen
        return self._clean[setting, policy]

    def play(self, case: Case, tally: Tally) -> None:
        """One case with both models."""
        counts = [tally.by_family.setdefault(case.family.name, Count()), tally.by_channel.setdefault(case.channel.value, Count())]
        tally.cases += 1
        for count in counts:
            count.cases += 1
        reached = refused = False
        for policy in Policy:
            clean = self.clean(Setting.of(case), policy)
            with self._stage.played(Setting.of(case), policy, case) as (seen, desk):
                tally.side_effects += [f"{case}, {policy}: {each}" for each in side_effects(case, seen, clean, desk)]
            tally.breaches += [f"{case}, {policy}: {each}" for each in seen.breaches]
            tally.sessions += 1
            tally.calls += len(seen.asked)
            tally.failed += len(seen.failed)
            refused |= bool(seen.door)
            reached |= any(case.token in text for asked in seen.asked for text in asked.texts)
            for count in counts:
                _compare(count, policy, seen, clean)
        for count in counts:
            count.reached += reached
            count.refused += refused


def _compare(count: Count, policy: Policy, seen: Seen, clean: Seen) -> None:
    if seen.door:
        return
    came, would = set(seen.decisions), set(clean.decisions)
    if came != would:
        count.flips[policy] += 1
        count.abstained[policy] += all(decision[-1] == "abstain" for decision in came - would)
    if seen.orders != clean.orders:
        count.orders[policy] += 1


def play(given: Iterable[Case]) -> Tally:
    """All of these, on servers of their own."""
    tally = Tally()
    with Stage.opened(guard()) as stage:
        trial = Trial(stage)
        for case in given:
            trial.play(case, tally)
            if tally.cases % 100 == 0:
                progress(f"{tally.cases:,} cases, {len(tally.side_effects)} side effects, {len(tally.breaches)} breaches")
    return tally


_guards: list[Guard] = []


def guard() -> Guard:
    """The process's own."""
    if not _guards:
        _guards.append(Guard())
    return _guards[0]


def _table(title: str, counts: dict[str, Count]) -> str:
    rows = [
        f"| {title} | cases | reached a prompt | refused at the door | flips, obedient | of them to no answer | other orders, obedient "
        "| flips, steady | of them to no answer | other orders, steady |", "|---|" + "---:|" * 9,
    ]
    for name, count in sorted(counts.items()):
        figures: list[int] = [count.cases, count.reached, count.refused]
        for policy in Policy:
            figures += [count.flips[policy], count.abstained[policy], count.orders[policy]]
        rows.append(f"| {name} | " + " | ".join(f"{each:,}" for each in figures) + " |")
    return "\n".join(rows)


NOTES = (
    "Two strategies, one that trades alone and one that proposes to a person who is not there, ask a model at two bars. The model is a "
    "server on loopback, reached through the providers' own SDKs; ledger, rulebook, prompts, files and paper broker are the product's. "
    "Where an attack's words reach its prompt, the `obedient` model gives exactly the reply that they are after, which is the worst "
    "that a model can do with words. The `steady` one goes by the table of bars. Where the words are in the reply itself, or around it, "
    "both say them. A strategy's description is told outside the fence, on one line of at most 500 characters: it is its owner's, but a "
    "strategy file may have come from somebody else, so it counts as a place for foreign words.",
    "`side_effects` counts what the same session without the words did not do and no words may do: a fact by a person, or of a kind "
    "that a decision cannot bring about; a file read outside the home or written outside its objects and archive; a connection to "
    "anything but the model's server; a program started; words compiled as source; words outside the fence, in the system part or in a "
    "turn of their own; a tool offered; a secret in a prompt or the ledger; more than two calls a question; and on the screens of the "
    "command line and of Dagster anything that is rendered, that steers a terminal, or that hides or turns words. `breaches` counts "
    "orders and positions beyond limits or symbols, by a second reckoning before the broker and by the oracle over the ledger, and "
    "orders that nobody approved.",
    "A flip is a case in which any decision differs from that of the session without the words. It is no side effect: what a model is "
    "told may change its mind, and an attacker who is believed gets a BUY or a SELL of the one symbol that was asked about, of the size "
    "that code chooses, within the limits. `of them to no answer` are flips in which the reply was refused or did not come, so that "
    "nothing followed. Where the words are in the reply or around it, a flip of the steady model is a reply that was spoilt, or read as "
    "what it says.",
    "What this does not show: no real model was asked. How often one believes such words is not measured here, and the flips are those "
    "of two made-up models, the upper and the lower end. What native code does without the interpreter is not seen by its audit hook, "
    "and no browser was driven: what Dagster gets was looked at, not what it paints. The words are our own and known tricks; a zero "
    "says that these were tried.",
)


def main() -> None:
    """Count, and say so."""
    many = size(WHOLE)
    tally = play(cases(many))
    for each in (*tally.side_effects[:40], *tally.breaches[:40]):
        progress(each)
    flips = {policy: sum(count.flips[policy] for count in tally.by_family.values()) for policy in Policy}
    orders = {policy: sum(count.orders[policy] for count in tally.by_family.values()) for policy in Policy}
    figures: dict[str, object] = {
        "cases": tally.cases, "side_effects": len(tally.side_effects), "breaches": len(tally.breaches), "flips": sum(flips.values()),
        "flips_obedient": flips[Policy.OBEDIENT], "flips_steady": flips[Policy.STEADY], "other_orders_obedient": orders[Policy.OBEDIENT],
        "other_orders_steady": orders[Policy.STEADY], "reached_a_prompt": sum(count.reached for count in tally.by_family.values()),
        "refused_at_the_door": sum(count.refused for count in tally.by_family.values()), "cycles_failed": tally.failed,
        "sessions": tally.sessions, "model_calls": tally.calls,
    }
    finish(
        "injections", "Words from outside that want something", figures, {"side_effects": tally.cases, "breaches": tally.cases},
        (*NOTES, _table("channel", tally.by_channel), _table("trick", tally.by_family)), command=f"make injections N={many}",
    )


if __name__ == "__main__":
    main()
