"""What models cost: the shipped table, a home's own before it, the worst case before a call and the exact cost after it."""

from datetime import date
from decimal import Decimal as D
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trading_pipeline.adapters.prices import OVERHEAD, PriceTable, load_prices
from trading_pipeline.domain.models import ModelRequest, Picture, Provider, Sampling, Usage
from trading_pipeline.errors import SettingsError

TODAY = date(2026, 11, 21)
ANTHROPIC, OPENAI = Provider.ANTHROPIC, Provider.OPENAI
SHIPPED = load_prices(None, D("0.25"))


def request(
    model: str = "claude-haiku-4-5", provider: Provider = ANTHROPIC, system: str = "", text: str = "", schema: str = "",
    size: tuple[int, int] | None = None, max_tokens: int = 1,
) -> ModelRequest:
    pictures = () if size is None else (Picture("0" * 64, b"", *size),)
    return ModelRequest(provider, model, system, text, schema, pictures, Sampling(max_tokens))


def own(home: Path, text: str) -> PriceTable:
    (home / "prices.toml").write_text(text, encoding="utf-8")
    return load_prices(home, D("0.25"))


# The shipped table


def test_the_figures_are_those_of_the_price_lists():
    """https://platform.claude.com/docs/en/about-claude/pricing, https://developers.openai.com/api/docs/models/gpt-6-sol, 2026-11-21."""
    haiku, sol = SHIPPED.price(ANTHROPIC, "claude-haiku-4-5-20251001", TODAY), SHIPPED.price(OPENAI, "gpt-6-sol", TODAY)
    assert haiku is not None and (haiku.input, haiku.output, haiku.cached, haiku.cache_write) == (D(1), D(5), D("0.10"), D("1.25"))
    assert sol is not None and (sol.input, sol.output, sol.cached, sol.cache_write) == (D(2), D(10), D("0.20"), D("2.50"))


def test_an_alias_costs_what_its_snapshot_costs():
    for alias, snapshot in (("claude-sonnet-4-5", "claude-sonnet-4-5-20250929"), ("claude-opus-4-5", "claude-opus-4-5-20251101")):
        usage = Usage(1_000, 1_000, 1_000, 1_000)
        assert SHIPPED.cost(ANTHROPIC, alias, usage, TODAY) == SHIPPED.cost(ANTHROPIC, snapshot, usage, TODAY) is not None


def test_a_price_holds_from_its_day_on():
    """The cache of claude-sonnet-5-5 became cheaper on 2026-10-07."""
    prices = [SHIPPED.price(ANTHROPIC, "claude-sonnet-5-5", day) for day in (date(2026, 10, 6), date(2026, 10, 7))]
    assert [price.cached for price in prices if price is not None] == [D("0.20"), D("0.10")]
    assert SHIPPED.price(ANTHROPIC, "claude-sonnet-5-5", date(2026, 9, 1)) is None


@pytest.mark.parametrize("model", ["claude-nobody-9", "", "CLAUDE-HAIKU-4-5", "claude-haiku-4-5 "])
def test_a_model_that_is_not_in_the_table_has_no_price(model):
    """63: unknown price, no call."""
    assert SHIPPED.price(ANTHROPIC, model, TODAY) is None
    assert SHIPPED.worst(request(model), TODAY) is None
    assert SHIPPED.cost(ANTHROPIC, model, Usage(1, 1), TODAY) is None


def test_one_providers_model_is_not_the_others():
    assert SHIPPED.price(OPENAI, "claude-haiku-4-5", TODAY) is None


def test_the_cutoff_of_a_model_is_its_makers_word():
    """https://platform.claude.com/docs/en/models/opus-5/overview: training data cutoff May 2026."""
    assert SHIPPED.cutoff(ANTHROPIC, "claude-opus-5") == date(2026, 5, 31)
    assert SHIPPED.cutoff(ANTHROPIC, "claude-nobody-9") is None


# What a call did cost


def test_every_kind_of_token_has_its_price():
    """Haiku 4.5: 1,000 x $1 + 200 x $5 + 3,000 x $0.10 + 400 x $1.25, for a million."""
    assert SHIPPED.cost(ANTHROPIC, "claude-haiku-4-5", Usage(1_000, 200, 3_000, 400), TODAY) == D("0.0028")


def test_a_cost_is_exact():
    """GPT-5 nano: one token read from the cache is $0.000000005."""
    assert SHIPPED.cost(OPENAI, "gpt-5-nano", Usage(cached_tokens=1), TODAY) == D("0.000000005")


# What a call can cost


def test_every_byte_is_a_token():
    """Haiku 4.5 writes a cache at $1.25: 2 + 3 + 6 bytes (of 5 letters) and the frame; 100 tokens back at $5."""
    worst = SHIPPED.worst(request(system="ab", text="abc", schema="ä2345", max_tokens=100), TODAY)
    assert worst == ((OVERHEAD + 11) * D("1.25") + 100 * D(5)) / 1_000_000


def test_what_a_cache_costs_to_write_counts_only_where_it_is_dearer():
    assert SHIPPED.worst(request("gpt-4o", OPENAI, max_tokens=1), TODAY) == (OVERHEAD * D("2.50") + D(10)) / 1_000_000


def picture_tokens(model: str, size: tuple[int, int], provider: Provider = OPENAI, rate: str = "2.50") -> D:
    with_picture, without = SHIPPED.worst(request(model, provider, size=size), TODAY), SHIPPED.worst(request(model, provider), TODAY)
    assert with_picture is not None and without is not None
    return (with_picture - without) * 1_000_000 / D(rate)


@pytest.mark.parametrize(("size", "tokens"), [((1_024, 1_024), 765), ((2_048, 4_096), 1_105), ((4_096, 2_048), 1_105)])
def test_pictures_for_gpt_4o_are_tiles_as_its_guide_reckons_them(size, tokens):
    """https://platform.openai.com/docs/guides/images-vision, the examples."""
    assert picture_tokens("gpt-4o", size) == tokens


def test_pictures_for_gpt_4_1_mini_are_patches():
    """The same guide: 1,024 patches of 32 pixels, times 1.62."""
    assert picture_tokens("gpt-4.1-mini", (1_024, 1_024), rate="0.40") == 1_659


@pytest.mark.parametrize(("size", "documented"), [((200, 200), 54), ((1_000, 1_000), 1_334), ((1_092, 1_092), 1_590)])
def test_pictures_for_claude_are_bounded_by_what_is_documented(size, documented):
    """https://platform.claude.com/docs/en/build-with-claude/vision: width x height / 750."""
    assert documented <= picture_tokens("claude-haiku-4-5", size, ANTHROPIC, "1.25") <= documented * D("1.25")


@given(width=st.integers(1, 8_000), height=st.integers(1, 8_000))
def test_pictures_for_claude_are_never_underrated(width, height):
    """By area, and by patches of 28 pixels as they are billed."""
    tokens = picture_tokens("claude-haiku-4-5", (width, height), ANTHROPIC, "1.25")
    assert tokens >= D(width * height) / 750 and tokens >= -(-width // 28) * -(-height // 28)


@given(text=st.text(max_size=300), reply=st.integers(0, 500), cached=st.integers(0, 300), written=st.integers(0, 300))
def test_no_call_costs_more_than_its_worst_case(text, reply, cached, written):
    """However its tokens fall into fresh, cached and written ones, as long as no token is less than a byte."""
    most = len(text.encode()) + OVERHEAD
    cached, written = min(cached, most), min(written, most - min(cached, most))
    usage = Usage(most - cached - written, reply, cached, written)
    for provider, model in ((ANTHROPIC, "claude-opus-5-5"), (OPENAI, "gpt-6-luna"), (OPENAI, "gpt-4.1")):
        worst, cost = SHIPPED.worst(request(model, provider, text=text, max_tokens=500), TODAY), SHIPPED.cost(provider, model, usage, TODAY)
        assert worst is not None and cost is not None and cost <= worst


def test_a_prompt_longer_than_its_price_holds_for_has_no_known_price():
    """Haiku 5.5 costs more above 100,000 tokens of prompt."""
    assert SHIPPED.worst(request("claude-haiku-5-5", text="x" * (100_000 - OVERHEAD)), TODAY) is not None
    assert SHIPPED.worst(request("claude-haiku-5-5", text="x" * (100_001 - OVERHEAD)), TODAY) is None
    assert SHIPPED.cost(ANTHROPIC, "claude-haiku-5-5", Usage(90_000, 1, 10_000, 1), TODAY) is None


def test_claude_code_is_bounded_by_what_it_is_told_to_stop_at():
    assert load_prices(None, D("0.40")).worst(request("sonnet", Provider.CLAUDE_CODE, text="x" * 10**6), TODAY) == D("0.40")
    assert SHIPPED.cost(Provider.CLAUDE_CODE, "sonnet", Usage(1, 1), TODAY) is None


# A home's own table


LOCAL = """
[[model]]
provider = "openai"
ids = ["llama3.2-vision:11b"]
input = 0
output = 0
"""


def test_a_local_model_costs_nothing_pictures_included(tmp_path):
    prices = own(tmp_path, LOCAL)
    assert prices.worst(request("llama3.2-vision:11b", OPENAI, text="x" * 10**6, size=(900, 600)), TODAY) == 0
    assert prices.price(ANTHROPIC, "claude-haiku-4-5", TODAY) is not None, "the shipped table goes on beside it"


def test_a_homes_own_price_comes_before_the_shipped_one(tmp_path):
    prices = own(tmp_path, '[[model]]\nprovider = "openai"\nids = ["gpt-4o"]\nsince = 2026-11-01\ninput = 7\noutput = 9\n')
    ours, before = (prices.price(OPENAI, "gpt-4o", day) for day in (TODAY, date(2026, 10, 31)))
    assert ours is not None and (ours.input, ours.cached, ours.cache_write) == (D(7), D(7), D(7))
    assert before is not None and before.input == D("2.50")


def test_a_picture_without_a_rule_has_no_known_price(tmp_path):
    prices = own(tmp_path, '[[model]]\nprovider = "openai"\nids = ["new"]\ninput = 1\noutput = 1\n')
    assert prices.worst(request("new", OPENAI), TODAY) is not None
    assert prices.worst(request("new", OPENAI, size=(10, 10)), TODAY) is None


def test_a_home_may_have_a_rule_for_pictures_of_its_own(tmp_path):
    table = '[images.big]\npatch = 10\nfactor = 2.5\n[[model]]\nprovider = "openai"\nids = ["new"]\ninput = 1\noutput = 0\nimages = "big"\n'
    worst = own(tmp_path, table).worst(request("new", OPENAI, size=(25, 10)), TODAY)
    assert worst == D(OVERHEAD + 8) / 1_000_000, "3 patches x 2.5, rounded up"


MODEL = '[[model]]\nprovider = "openai"\nids = ["new"]\n'


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[[model", "is no TOML"), (MODEL + "input = 1\noutput = 1\ninptu = 2\n", "unknown key model.no. 1.inptu"),
        (MODEL + "input = 1\n", "lacks model.no. 1.output"),
        (MODEL + "input = -1\noutput = 1\n", "model.no. 1.input = -1"), (MODEL + "input = nan\noutput = 1\n", "is refused"),
        (MODEL + 'input = "cheap"\noutput = 1\n', "model.no. 1.input = cheap"), (MODEL + "input = true\noutput = 1\n", "is refused"),
        (MODEL.replace("openai", "rules") + "input = 1\noutput = 1\n", "provider = rules"),
        (MODEL + 'input = 1\noutput = 1\nimages = "big"\n', "counts pictures by 'big'"),
        ("[images.big]\npatch = 10\ntile = 3\n", "images.big"), ("[images.big]\n", "images.big"),
        ("[images.big]\nbase = 3\n", "images.big"),
        (2 * (MODEL + "input = 1\noutput = 1\nsince = 2026-01-01\n"), "two prices from 2026-01-01"), ("prices = 1\n", "unknown key prices"),
        (MODEL.replace('"new"', "") + "input = 1\noutput = 1\n", "ids"),
    ],
)
def test_a_table_that_is_wrong_is_refused_with_the_remedy(tmp_path, text, told):
    with pytest.raises(SettingsError) as refused:
        own(tmp_path, text)
    assert told in refused.value.message
    assert refused.value.rule and refused.value.remedy


def test_a_home_without_a_table_has_the_shipped_one(tmp_path):
    assert load_prices(tmp_path, D(1)).price(OPENAI, "gpt-4o", TODAY) == SHIPPED.price(OPENAI, "gpt-4o", TODAY)


def test_every_shipped_entry_names_where_it_was_read():
    from trading_pipeline.adapters.prices import SHIPPED as PATH
    from trading_pipeline.adapters.prices import _read

    for model in _read(PATH, PATH.read_text(encoding="utf-8")).model:
        assert model.source.startswith("https://") and model.since > date(2024, 1, 1) and model.images is not None, model.ids
