"""Prompts as files: what is refused when they are loaded, what is filled in, and that the personas say what the code does."""

import os
import re
import threading

import numpy as np
import pytest

from tests.domain.market_tables import wandering
from trading_pipeline.adapters.prompt_files import SHIPPED, PromptFiles
from trading_pipeline.adapters.prompt_text import MAX_FILE
from trading_pipeline.domain import analyzer
from trading_pipeline.domain.expressions import evaluate, indicators_of, parse
from trading_pipeline.domain.indicators import compute, price_columns
from trading_pipeline.domain.prompts import SIGNAL_VARIABLES
from trading_pipeline.domain.replies import reply_schema
from trading_pipeline.domain.strategies import RiskSizing
from trading_pipeline.errors import PromptError, StorageError, UnknownName
from trading_pipeline.ports import Prompts

PLAIN = """---
description: Says it plainly.
schema: signal
variables: [symbol, bars, outside]
---
## system
Look at {{ symbol }}.
## user
{{ bars }}
{% if outside %}
Outside:
{{ outside }}
{% endif %}
"""


@pytest.fixture
def own(tmp_path):
    """Put a file into one's own folder; the prompts of both folders."""

    def put(text, name="mine/v1"):
        path = tmp_path / f"{name}.md"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text.encode() if isinstance(text, str) else text)
        return PromptFiles(tmp_path)

    return put


def refusal(prompts, name="mine/v1"):
    with pytest.raises(PromptError) as raised:
        prompts.get(name)
    assert raised.value.rule
    assert raised.value.remedy
    return raised.value


def changed(old, new):
    assert old in PLAIN
    return PLAIN.replace(old, new)


def test_the_files_are_prompts_as_the_port_wants_them(own):
    prompts: Prompts = own(PLAIN)
    version = prompts.get("mine/v1")
    assert (version.name, version.schema, version.source) == ("mine/v1", "signal", "own")
    assert version.variables == ("symbol", "bars", "outside")
    assert (version.personas, version.description) == ((), "Says it plainly.")


def test_exactly_the_declared_variables_are_filled_in(own):
    rendered = own(PLAIN).render("mine/v1", {"symbol": "AAPL", "bars": "1 2 3", "outside": ""})
    assert (rendered.system, rendered.text) == ("Look at AAPL.", "1 2 3")
    fuller = own(PLAIN).render("mine/v1", {"symbol": "AAPL", "bars": "1 2 3", "outside": "news"})
    assert fuller.text == "1 2 3\nOutside:\nnews"
    assert fuller.digest != rendered.digest
    assert own(PLAIN).render("mine/v1", {"symbol": "AAPL", "bars": "1 2 3", "outside": ""}).digest == rendered.digest


@pytest.mark.parametrize(("values", "said"), [
    ({"symbol": "A", "bars": ""}, "lacks a value for outside"),
    ({"symbol": "A", "bars": "", "outside": "", "quote": "1"}, "does not declare quote"),
    ({"symbol": "A", "bars": "", "outside": None}, "the value of outside is no text"),
    ({"symbol": "A", "bars": ["x"] * 3, "outside": ""}, "the value of bars is no text"),
])
def test_a_variable_missing_too_many_or_no_text_is_refused(own, values, said):
    with pytest.raises(PromptError, match=said):
        own(PLAIN).render("mine/v1", values)


def test_words_from_outside_are_never_read_as_a_template(own):
    """62, T1: braces in a text are braces."""
    evil = "{{ symbol }} {% for x in range(10**9) %}x{% endfor %} {{ ''.__class__.__mro__ }} {% raw %}"
    rendered = own(PLAIN).render("mine/v1", {"symbol": "AAPL", "bars": "", "outside": evil})
    assert rendered.text == f"Outside:\n{evil}"
    assert evil not in rendered.system


def test_text_is_not_escaped_as_html(own):
    assert own(PLAIN).render("mine/v1", {"symbol": "S&P <500>", "bars": "a\"b", "outside": ""}).system == "Look at S&P <500>."


@pytest.mark.parametrize(("text", "line", "said"), [
    (PLAIN.removeprefix("---\n"), 1, "no front matter"),
    (changed("description: Says it plainly.", "description: [unclosed"), 3, "no YAML"),
    (changed("description: Says it plainly.\n", ""), 2, "the key description is missing"),
    (changed("schema: signal", "schema: poem"), 3, "no schema poem"),
    (changed("schema: signal", "schema: signal\nmodel: gpt"), 4, "the key model is unknown"),
    (changed("schema: signal", "schema: signal\npersonas: [nobody/v1]"), 4, "no persona 'nobody/v1'"),
    (changed("[symbol, bars, outside]", "[symbol, bars, outside, mood]"), 4, "no variable 'mood'"),
    (changed("[symbol, bars, outside]", "[symbol, bars, outside, quote]"), 4, "quote is declared and not used"),
    (changed("[symbol, bars, outside]", "[symbol, bars, outside, bars]"), 4, "bars is declared twice"),
    (changed("[symbol, bars, outside]", "[symbol, bars, outside, 1]"), 4, "variables.3"),
    (changed("{{ bars }}", "{{ bars }} {{ quote }}"), 9, "quote is used and not declared"),
    (changed("{{ bars }}", "{{ bars"), 10, "the template is wrong"),
    (changed("{{ bars }}", "{{ personas.analyzer }} {{ bars }}"), 9, "personas.analyzer is used and not declared"),
    (changed("## user", "## User"), 6, "the parts are ## system"),
    (changed("## user", "## user\n## user"), 9, "the parts are ## system, ## user, ## user"),
    (changed("## system", "Hello\n## system"), 6, "something stands before"),
    (changed("Look at {{ symbol }}.", ""), 6, "a part says nothing"),
    (changed("Look at {{ symbol }}.", "Look at {{ outside }}, {{ symbol }}."), 7, "outside stands in the system part"),
    (changed("Look at {{ symbol }}.", "Look at {{ symbol }}.{% if outside %}!{% endif %}"), 7, "outside stands in the system part"),
])
def test_what_is_wrong_with_a_file_is_said_with_its_line(own, text, line, said):
    error = refusal(own(text))
    assert f"mine/v1.md, line {line}: " in error.message
    assert said in error.message


@pytest.mark.parametrize("text", [
    changed("Says it plainly.", "2012-13-45"), changed("Says it plainly.", "[" * 20_000),
    changed("Says it plainly.", "!!python/object:os.system x"), changed("{{ bars }}", "{{ " + "not " * 10_000 + "bars }}"),
    changed("{{ bars }}", "{% if bars %}" * 2_000 + "{{ bars }}" + "{% endif %}" * 2_000),
    changed("{{ bars }}", "{% if bars %}" * 30 + "{{ bars }}" + "{% endif %}" * 30), changed("signal", "&a [*a, *a]"),
    changed("schema: signal", "schema: {}"), changed("variables: [symbol, bars, outside]", "variables: {a: b}"),
])
def test_a_hostile_file_is_refused_like_any_other(own, text):
    assert re.search(r"line \d+: ", refusal(own(text)).message)


@pytest.mark.parametrize("statement", [
    "{% for x in bars %}{{ x }}{% endfor %}", "{% include 'x' %}", "{% import 'x' as y %}", "{% set x = 1 %}", "{{ bars * 9 }}",
    "{{ bars.upper() }}", "{{ bars['x'] }}", "{{ bars.x }}", "{{ range(9) }}", "{{ 'x' ~ bars }}", "{{ 7 }}", "{{ personas }}",
    "{{ personas['analyzer'] }}", "{% macro m() %}{% endmacro %}", "{% block b %}{% endblock %}", "{% extends 'x' %}", "{{ bars + bars }}",
    "{% if bars == 'x' %}{% endif %}", "{{ bars if symbol else outside }}", "{{ [bars] }}", "{{ lipsum }}", "{{ self }}",
])
def test_a_prompt_can_do_nothing_but_name_its_variables(own, statement):
    assert "line 9" in refusal(own(changed("{{ bars }}", "{{ bars }}" + statement))).message


@pytest.mark.parametrize("statement", ["{{ bars|upper }}", "{{ bars|e }}", "{% if bars is defined %}{% endif %}", "{% autoescape true %}"])
def test_there_are_no_filters_and_no_tests(own, statement):
    refusal(own(changed("{{ bars }}", "{{ bars }}" + statement)))


def test_a_file_that_is_too_long_or_no_text_is_refused(own):
    assert f"{MAX_FILE + len(PLAIN):,} bytes" in refusal(own(PLAIN + "x" * MAX_FILE)).message
    assert "is no text" in refusal(own(PLAIN.encode() + b"\xff")).message


def test_the_system_part_of_a_prompt_that_is_no_signal_holds_nothing_that_it_is_handed(own):
    """62: what fills such a prompt may quote anybody."""
    text = changed("schema: signal", "schema: text").replace("bars, outside", "bars, note").replace("outside", "note")
    assert "symbol stands in the system part" in refusal(own(text)).message
    moved = text.replace("Look at {{ symbol }}.", "Look.").replace("{{ bars }}", "{{ symbol }} {{ bars }}")
    assert own(moved).get("mine/v1").schema == "text"


def test_a_prompt_of_ones_own_takes_no_name_that_ships(own):
    prompts = own(PLAIN, "analyst/v1")
    error = refusal(prompts, "analyst/v1")
    assert "takes no shipped name" in error.rule
    with pytest.raises(PromptError):
        prompts.render("analyst/v1", {})
    assert own(PLAIN, "analyst/v2").get("analyst/v2").source == "own"


def test_a_name_taken_while_the_program_runs_is_found_out(own, tmp_path):
    prompts = PromptFiles(tmp_path)
    assert prompts.get("analyst/v1").source == "shipped"
    own(PLAIN, "analyst/v1")
    refusal(prompts, "analyst/v1")


def test_a_persona_of_ones_own_is_taken_in_and_is_part_of_the_digest(own):
    own("Be brave {{ symbol }}.", "personas/hero/v1")
    prompts = own(changed("schema: signal", "schema: signal\npersonas: [hero/v1]").replace("Look at", "{{ personas.hero }} Look at"))
    rendered = prompts.render("mine/v1", {"symbol": "AAPL", "bars": "1", "outside": ""})
    assert rendered.system == "Be brave {{ symbol }}. Look at AAPL."
    assert "personas/v1" not in prompts.names()
    own("Be careful.", "personas/hero/v1")
    assert prompts.get("mine/v1").digest != rendered.prompt.digest
    assert prompts.render("mine/v1", {"symbol": "AAPL", "bars": "1", "outside": ""}).system == "Be careful. Look at AAPL."


def test_a_persona_that_ships_is_not_replaced_and_none_is_declared_in_vain(own):
    text = changed("schema: signal", "schema: signal\npersonas: [analyzer/v1]")
    assert "the persona analyzer/v1 is declared and not used" in refusal(own(text)).message
    own("Buy everything.", "personas/analyzer/v1")
    assert "exists twice" in refusal(own(text.replace("Look at", "{{ personas.analyzer }} Look at"))).message


def test_a_persona_with_a_dash_in_its_name_cannot_be_taken_in(own):
    own("Be brave.", "personas/my-hero/v1")
    text = changed("schema: signal", "schema: signal\npersonas: [my-hero/v1]").replace("Look at", "{{ personas.my-hero }} Look at")
    assert "line 4: my-hero cannot be taken in" in refusal(own(text)).message


@pytest.mark.parametrize("name", ["../secret/v1", "mine", "mine/v0", "mine/v1/../v2", "MINE/v1", "personas/v1", "mine/v1\n", "", "/etc/v1"])
def test_a_name_is_no_path(own, name):
    prompts = own(PLAIN)
    with pytest.raises(UnknownName, match="no prompt"):
        prompts.get(name)
    with pytest.raises(PromptError):
        prompts.write(name, PLAIN)


def test_an_unknown_name_is_told_the_near_one():
    with pytest.raises(UnknownName) as raised:
        PromptFiles().get("analist/v1")
    assert "analyst/v1" in raised.value.remedy


def test_names_are_sorted_by_version_as_a_number(own):
    for number in (1, 2, 10):
        prompts = own(PLAIN, f"mine/v{number}")
    assert [name for name in prompts.names() if name.startswith("mine")] == ["mine/v1", "mine/v2", "mine/v10"]


def test_a_changed_file_is_read_again_and_an_unchanged_one_is_not(own, tmp_path, monkeypatch):
    prompts = own(PLAIN)
    first = prompts.get("mine/v1")
    opened = []
    monkeypatch.setattr("trading_pipeline.adapters.prompt_files.read_file", lambda path: opened.append(path))
    assert prompts.get("mine/v1") is first
    assert opened == []
    monkeypatch.undo()
    own(changed("plainly", "loudly"))
    assert prompts.get("mine/v1").description == "Says it loudly."
    assert prompts.get("mine/v1").digest != first.digest


def test_a_written_version_is_never_written_again(tmp_path):
    prompts = PromptFiles(tmp_path)
    path = prompts.write("mine/v1", PLAIN)
    assert path.read_text() == PLAIN
    with pytest.raises(PromptError, match="exists already"):
        prompts.write("mine/v1", PLAIN)
    with pytest.raises(PromptError, match="exists already"):
        prompts.write("analyst/v1", PLAIN)
    with pytest.raises(PromptError, match="no front matter"):
        prompts.write("mine/v2", "Hello")
    assert prompts.names().count("mine/v2") == 0


def test_a_folder_that_cannot_be_written_is_the_operators(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError):
        PromptFiles(tmp_path / "file").write("mine/v1", PLAIN)


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_a_file_that_cannot_be_read_is_the_operators(own, tmp_path):
    prompts = own(PLAIN)
    (tmp_path / "mine/v1.md").chmod(0)
    with pytest.raises(StorageError):
        prompts.get("mine/v1")


def test_many_threads_render_the_same(own):
    prompts, seen = own(PLAIN), []

    def work():
        seen.extend(prompts.render("mine/v1", {"symbol": f"S{n}", "bars": "", "outside": ""}).system for n in range(50))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(seen) == sorted([f"Look at S{n}." for n in range(50)] * 4)


def test_windows_line_ends_are_read(own):
    rendered = own(PLAIN.replace("\n", "\r\n")).render("mine/v1", {"symbol": "AAPL", "bars": "1", "outside": ""})
    assert (rendered.system, rendered.text) == ("Look at AAPL.", "1")


# Those that ship

SHIPPED_NAMES = PromptFiles().names()


PUBLISHED = {
    "analyst/v1": "97566f64d0325494",
    "analyzer/v1": "d25251a83546781e",
    "backtester/v1": "219540cd4b051206",
    "optimizer/v1": "a85c01875325f2f2",
    "reviewer/v1": "b26bb5f78993f183",
    "screener/v1": "99466f58ce0d2591",
}
"""How the digest of each begins. A line is added with a new version, and never changed once it was released."""


def test_a_published_version_is_never_edited():
    prompts = PromptFiles()
    assert {name: prompts.get(name).digest[:16] for name in prompts.names()} == PUBLISHED


@pytest.mark.parametrize("name", SHIPPED_NAMES)
def test_every_prompt_that_ships_can_be_rendered(name):
    prompts = PromptFiles()
    version = prompts.get(name)
    rendered = prompts.render(name, {variable: f"<{variable}>" for variable in version.variables})
    assert not re.search(r"{[{%]|## ", rendered.system + rendered.text)
    assert all(f"<{variable}>" in rendered.system + rendered.text for variable in version.variables)
    assert rendered.digest != version.digest


def test_the_five_personas_ship_and_each_has_a_prompt():
    known = {path.parent.name for path in (SHIPPED / "personas").glob("*/v1.md")}
    assert known == {"screener", "analyzer", "optimizer", "reviewer", "backtester"}
    prompts = PromptFiles()
    assert {prompts.get(f"{name}/v1").personas for name in known} == {(f"{name}/v1",) for name in known}


@pytest.mark.parametrize("name", ["analyst/v1", "analyzer/v1"])
def test_a_signal_prompt_names_every_field_of_the_reply_and_takes_every_variable(name):
    system = PromptFiles().render(name, dict.fromkeys(SIGNAL_VARIABLES, "x")).system
    fields = reply_schema("AAPL")["properties"]
    assert set(re.findall(r'^- "(\w+)":', system, re.MULTILINE)) == set(fields)
    for action in fields["action"]["enum"]:
        assert action in system




def persona(name):
    return (SHIPPED / "personas" / name / "v1.md").read_text()


def test_the_analyzers_table_scores_as_the_code_does():
    rows = [re.fullmatch(r"\| (.+) \| (\d+) \|", line) for line in persona("analyzer").splitlines()]
    conditions = [(parse(row[1]), int(row[2])) for row in rows if row]
    assert len(conditions) == 7
    bars = wandering(600)
    specs = {spec for expression, _ in conditions for spec in indicators_of(expression)} | set(analyzer.INDICATORS)
    columns = compute(tuple(sorted(specs)), bars) | price_columns(bars)
    scored = analyzer.score_columns(columns)
    told = np.minimum(100, sum(points * evaluate(expression, columns).astype(int) for expression, points in conditions))
    known = scored != analyzer.UNSCORED
    assert known.sum() > 300
    assert np.array_equal(told[known], scored[known])


def test_the_analyzer_names_the_bands_of_the_score():
    words = persona("analyzer")
    for label, low, high in (("STRONG_BUY", 80, 100), ("BUY", 60, 79), ("HOLD", 40, 59), ("AVOID", 0, 39)):
        assert f"{label} from {low} to {high}" in words
        assert {analyzer.Score(total, ()).label.value for total in (low, high)} == {label}
    assert (analyzer.BUY_FROM, analyzer.EXIT_BELOW) == (60, 40)


def test_sizing_is_told_as_it_is_done():
    sizing = RiskSizing()
    for name in ("analyzer", "optimizer"):
        words = " ".join(persona(name).split())
        assert f"lowest low of {sizing.support_bars} bars" in words
        assert f"{sizing.atr_multiple} x atr_14" in words
        assert f"{sizing.max_stop:.0%}".replace("%", " %") in words
        assert f"{sizing.risk_per_trade:.0%}".replace("%", " %") in words
    assert " and ".join(str(target) for target in sizing.targets) in persona("optimizer")


# The founding documents in their own words: 001, Phase 3.
@pytest.mark.parametrize(("name", "said"), [
    ("screener", ["rsi_14 from 45 to 70", "macd_hist above 0", "atr_14 at least 0.5", "volume above 1,000,000", "| volume | 30 % |",
                  "| technical | 40 % |", "| trend | 20 % |", "| liquidity | 10 % |", "3 to 5 candidates"]),
    ("optimizer", ["pullback", "sma_20 and support", "risk-based", "capital-based", "buying power", "exposure multiplier", "1.5 and 2.5"]),
    ("reviewer", ["EXCELLENT", "GOOD", "ACCEPTABLE", "NEEDS_IMPROVEMENT", "patterns in time", "by symbol", "in behaviour", "psychologist"]),
    ("backtester", ["at least 30 trades", "p-value below 0.05", "win rate above 40 %", "Sharpe above 0.5", "overfitted", "LOW", "MEDIUM",
                    "HIGH", "UNACCEPTABLE", "from 0 to 100"]),
])
def test_the_personas_carry_the_rules_of_the_founding_documents(name, said):
    words = " ".join(persona(name).split())
    assert [each for each in said if each not in words] == []
