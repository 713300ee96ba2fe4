"""The fold: which event is whose business, over all families."""

from collections.abc import Mapping
from typing import Any

from trading_pipeline.domain.events import Event, EventType
from trading_pipeline.domain.projections import accounts, actions, models, orders, strategies
from trading_pipeline.domain.projections.rows import Handler, Touched
from trading_pipeline.domain.projections.tables import Key, Tables

_FAMILIES = (accounts, strategies, actions, orders, models)
_HANDLERS: dict[EventType, Handler] = {type_: handler for family in _FAMILIES for type_, handler in family.HANDLERS.items()}
_TOUCHED: dict[EventType, Touched] = {type_: keys for family in _FAMILIES for type_, keys in family.TOUCHED.items()}


def fold(event: Event, tables: Tables) -> None:
    """Change the tables by one event; events that keep no table change nothing.

    Raises:
        IllegalTransition: The event does not follow from the row's state.
    """
    handler = _HANDLERS.get(event.type)
    if handler is not None:
        handler(event, tables)


def touched(type_: EventType, payload: Mapping[str, Any]) -> tuple[tuple[str, Key], ...]:
    """The rows that `fold` will read for an event, so that a store can fetch a batch's rows at once."""
    keys = _TOUCHED.get(type_)
    return keys(payload) if keys is not None else ()
