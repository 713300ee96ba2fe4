
"""Models: 61 what they cite, 63 what they cost, 64 in which words they are asked, and 59 as far as a reply's ending and version go.

Only a model's request carries `reserved`; the rules agent's facts are left alone here. Money is held to the budget that each request
says was in force, by the day that is written into it.
"""

from collections.abc import Iterator
from decimal import Decimal

from trading_pipeline.oracle.fact import ZERO, Fact
from trading_pipeline.oracle.invariant import Invariant
from trading_pipeline.oracle.state import State, Talk

FIGURE_TOLERANCE = Decimal("0.005")
"""Of our value; INVARIANTS 61 leaves the figure to the code, which documents it in `domain.citations`."""
ENDS = ("llm.responded", "llm.discarded", "llm.lost")


def _within_budget(state: State, fact: Fact) -> Iterator[str]:
    data = fact.data
    if "reserved" not in data:
        return
    reserved, budget = Decimal(data["reserved"]), Decimal(data["budget"])
    gone = state.model_spend.get(data["day"], ZERO)
    if not reserved.is_finite() or reserved < 0:
        yield f"{data['strategy']} reserves {data['reserved']} about {data['symbol']}"
    elif reserved > 0 and gone + reserved > budget:
        yield f"${gone} of {data['day']} are spent or reserved, of ${budget}, and {data['strategy']} reserves ${reserved} more"


def _settled(state: State, fact: Fact) -> Iterator[str]:
    data = fact.data
    if "day" not in data:
        return
    talk = state.talks.get(fact.cause or 0)
    if talk is None:
        yield f"{fact.key} follows from no request to a model"
        return
    if talk.day != data["day"]:
        yield f"{fact.key} is settled on {data['day']}, and was reserved on {talk.day}"
    if talk.ended and not (talk.ended == "llm.lost" and fact.type == "llm.discarded"):
        yield f"{fact.key} settles what {talk.ended} settled before"
    cost = Decimal(data["cost"]) if "cost" in data else ZERO
    if not cost.is_finite() or cost < 0:
        yield f"{fact.key} cost {data['cost']}"
    # A bill that cannot be is booked as it came, and a person is told.
    if cost > talk.reserved and talk.bounded and not data.get("over"):
        yield f"{fact.key} cost ${cost}, and ${talk.reserved} were reserved"


def _believed(state: State, fact: Fact) -> Iterator[str]:
    """An action follows from a complete reply of the model that was asked."""
    reply = state.model_replies.get(fact.cause or 0)
    if reply is None:
        return
    name = fact.data["action_id"]
    if reply.get("trouble") or reply.get("ending") != "complete":
        yield f"{name} follows from a reply that is {reply.get('trouble') or reply.get('ending')}"
    expected = reply["expected_model"]
    if expected is not None and reply["model"] != expected:
        yield f"{name} follows from {reply['model']}, and {expected} answered before"


def _cited(state: State, fact: Fact) -> Iterator[str]:
    data = fact.data
    if fact.cause not in state.model_replies:
        return
    values = state.indicator_values.get((data["cycle"], data["symbol"]), {})
    flagged = {flag.partition(" ")[0] for flag in data.get("flags", ())}
    for figure in data.get("figures", ()):
        text = values.get(figure["name"])
        if text is None:
            continue
        ours, said = Decimal(text), Decimal(figure["value"])
        rounded = said == ours.quantize(Decimal(1).scaleb(min(0, int(said.as_tuple().exponent))))
        if not rounded and abs(said - ours) > abs(ours) * FIGURE_TOLERANCE and figure["name"] not in flagged:
            yield f"{data['action_id']} cites {figure['name']} as {said}, which is {ours}, and nobody is told"


def _same_words(state: State, fact: Fact) -> Iterator[str]:
    data = fact.data
    if "prompt_digest" in data:
        known = state.words.get((data["strategy"], data["prompt"]))
        if known is not None and data["prompt_digest"] not in known:
            yield f"{data['strategy']} asks with other words of {data['prompt']} than before, and nobody let it go on with them"


def _rests_on_a_pass(state: State, fact: Fact) -> Iterator[str]:
    data = fact.data
    if "prompt_digest" not in data or data.get("unchecked"):
        return
    outcome = state.checks.get(data["checked"])
    if outcome is None or not outcome["passed"] or outcome["strategy"] != data["strategy"]:
        yield f"{data['strategy']} goes on by {data['checked']}, where it passed nothing"
    elif outcome["prompt_digest"] != data["prompt_digest"] or data["answered_by"] not in (None, outcome["answered_by"]):
        yield f"{data['strategy']} goes on with another prompt or model than passed in {data['checked']}"


def checked(state: State, fact: Fact) -> None:
    """Fold an outcome of the golden set."""
    state.checks[fact.seq] = fact.data


def let_go_on(state: State, fact: Fact) -> None:
    """Fold the words that a strategy goes on with."""
    digest = fact.data.get("prompt_digest")
    if digest is not None:
        for place, known in state.words.items():
            if place[0] == fact.data["strategy"]:
                state.words[place] = known | {digest}


def begun(state: State, fact: Fact) -> None:
    """Fold a request to a model."""
    data = fact.data
    if "prompt_digest" in data:
        state.words[data["strategy"], data["prompt"]] = frozenset((data["prompt_digest"],))
    if "reserved" in data:
        reserved = Decimal(data["reserved"])
        # What Claude Code is told to stop at it may overrun by the call it is in: see docs/models.md.
        state.talks[fact.seq] = Talk(data["day"], reserved, bounded=data["provider"] != "claude-code")
        state.model_spend[data["day"]] = state.model_spend.get(data["day"], ZERO) + reserved


def ended(state: State, fact: Fact) -> None:
    """Fold what came of it."""
    talk = state.talks.get(fact.cause or 0)
    if talk is None or "day" not in fact.data:
        return
    if fact.type != "llm.lost":
        state.model_spend[talk.day] += Decimal(fact.data["cost"]) - talk.reserved
    talk.ended = fact.type
    if fact.type == "llm.responded":
        state.model_replies = {fact.seq: fact.data, **dict(list(state.model_replies.items())[:999])}


def computed(state: State, fact: Fact) -> None:
    """Fold the newest values of one symbol."""
    data = fact.data
    if state.indicator_cycle != data["cycle"]:
        state.indicator_cycle, state.indicator_values = data["cycle"], {}
    state.indicator_values[data["cycle"], data["symbol"]] = {name: text for name, text in data["values"].items() if text is not None}


INVARIANTS = (
    Invariant(59, "an action follows from a complete reply", ("llm.action_generated",), _believed),
    Invariant(61, "a figure that is cited wrong is flagged", ("llm.action_generated",), _cited),
    Invariant(63, "what is spent and reserved on models is within the day's budget", ("llm.requested",), _within_budget),
    Invariant(63, "a call is settled once, on its day, at no more than was reserved", ENDS, _settled),
    Invariant(64, "a prompt's words are those of the last request, or were let go on", ("llm.requested",), _same_words),
    Invariant(64, "a changed prompt or model goes on by a pass of exactly this pair", ("strategy.resumed",), _rests_on_a_pass),
)
