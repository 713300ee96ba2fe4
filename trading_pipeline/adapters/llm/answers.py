"""What reading the answers of model APIs has in common: counts that can be true, and the names of what is wrong with an answer."""

from typing import Annotated, Final

from pydantic import Field, ValidationError

from trading_pipeline.domain.models import Ending, ModelFailure, Trouble
from trading_pipeline.domain.outside_text import one_line

MAX_NAME: Final = 100
"""Characters that are kept of names and ids that a provider gives."""

TokenCount = Annotated[int, Field(ge=0, le=10**9)]


def name(said: str) -> str:
    """A provider's name for something, fit to keep."""
    return one_line(said, MAX_NAME)


def if_said(ending: Ending, text: str) -> Ending:
    """Complete only with words in it."""
    return Ending.EMPTY if ending is Ending.COMPLETE and not text.strip() else ending


def no_answer(api: str, error: ValidationError, seconds: float) -> ModelFailure:
    """A body that is none of an API's."""
    first = error.errors(include_input=False, include_url=False)[0]
    where = ".".join(str(part) for part in first["loc"]) or "the body"
    return bad(f"no answer of {api}: {one_line(where, 60)}: {first['type']}", seconds)


def unknown_end(said: str, seconds: float) -> ModelFailure:
    """An answer that ends in a way that is not known, so that nobody can say whether it is whole."""
    return bad(f"the answer ends for a reason that is not known: {one_line(said, 40)}", seconds)


def bad(detail: str, seconds: float) -> ModelFailure:
    """An answer that cannot be used; it may have been billed."""
    return ModelFailure(Trouble.BAD_RESPONSE, detail, False, None, seconds)
