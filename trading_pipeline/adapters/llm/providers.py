"""Who can be asked in a home: each provider whose key or program is there, its calls logged, its replies kept.

A cassette stands around the log and the log around the provider, so that a replayed reply is no call. Nothing is connected to here, and no
SDK imported: that costs a second, which only a run that asks somebody pays. A provider's own module is imported where it is set up: most
processes of a home ask nobody.
"""

import shutil
from collections.abc import Iterator

from pydantic import SecretStr

from trading_pipeline.adapters.llm.call_log import CallLog
from trading_pipeline.adapters.llm.cassette import Cassette
from trading_pipeline.adapters.llm.cassette_store import CassetteStore
from trading_pipeline.domain.models import CassetteMode, ModelRequest, Provider
from trading_pipeline.domain.scrubbing import Scrubber
from trading_pipeline.ports import LLM, Home
from trading_pipeline.settings import Settings

OF_MODELS = tuple(provider for provider in Provider if provider is not Provider.RULES)


def open_providers(settings: Settings, home: Home) -> dict[Provider, LLM]:
    """By name; replaying without asking needs no key and has them all.

    Raises:
        SettingsError: A key, base URL or command that cannot be one.
    """
    store, mode = CassetteStore(home.cassette), settings.model.cassette
    if mode is CassetteMode.REPLAY_OR_FAIL:
        return {provider: Cassette(store, mode, provider=provider) for provider in OF_MODELS}
    keys = (settings.anthropic_api_key, settings.openai_api_key, settings.claude_code_oauth_token)
    scrub = Scrubber(key.get_secret_value() for key in keys if key is not None)
    return {llm.provider: Cassette(store, mode, CallLog(llm, home.calls, scrub)) for llm in _set_up(settings)}


def rehearse(settings: Settings) -> None:
    """One call to nobody by each provider that is set up: what an SDK imports and builds at its first call, it has afterwards.

    For a process that others are forked from: it takes seconds, connects to nothing and starts no thread.
    """
    from trading_pipeline.adapters.llm.bounded_http import nowhere

    key, request = SecretStr("rehearsal-without-a-key"), ModelRequest(Provider.RULES, "claude-rehearsal", "system", "text", "{}")
    for provider in {llm.provider for llm in _set_up(settings)}:
        match provider:
            case Provider.ANTHROPIC:
                from trading_pipeline.adapters.llm.anthropic_api import AnthropicLLM

                llm: LLM = AnthropicLLM(key, transport=nowhere())
            case Provider.OPENAI:
                from trading_pipeline.adapters.llm.openai_api import OpenAILLM

                llm = OpenAILLM(key, api="chat" if settings.model.openai.api == "chat" else "responses", transport=nowhere())
            case _:
                continue
        llm.ask(request, 1.0)
        llm.close()


def _set_up(settings: Settings) -> Iterator[LLM]:
    wanted = settings.model
    if settings.anthropic_api_key is not None:
        from trading_pipeline.adapters.llm.anthropic_api import AnthropicLLM

        yield AnthropicLLM(settings.anthropic_api_key, wanted.anthropic.base_url)
    if settings.openai_api_key is not None or not wanted.openai.key_required:
        from trading_pipeline.adapters.llm.openai_api import OpenAILLM

        yield OpenAILLM(settings.openai_api_key, wanted.openai.base_url, wanted.openai.api, wanted.openai.key_required)
    if shutil.which(wanted.claude_code.command[0]) is not None:
        from trading_pipeline.adapters.llm.claude_code import ClaudeCodeLLM

        yield ClaudeCodeLLM(wanted.claude_code.command, wanted.claude_code.max_cost_per_call, token=settings.claude_code_oauth_token)
