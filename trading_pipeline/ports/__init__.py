"""Every port: what the services need of the world, and nothing of how it is done.

Each port has one contract test class that every adapter, fakes included, inherits. They stand by subject in the modules here.
"""

from trading_pipeline.ports.broker import (
    Broker,
    BrokerAccount,
    BrokerOrder,
    BrokerStatus,
    Capabilities,
    Permit,
    Ticket,
    lapses_in,
    ticket_digest,
)
from trading_pipeline.ports.decisions import Answer, DecisionMaker, Question
from trading_pipeline.ports.home import Home
from trading_pipeline.ports.market import Appended, BarArchive, ChartRenderer, Clock, MarketData, ObjectStore
from trading_pipeline.ports.models import LLM, Golden, OutsideTexts, Price, Prices, Prompts, PromptVersion, Rendered
from trading_pipeline.ports.record import LEASE_SECONDS, Fence, Health, Ledger, Past, Reader, Transaction
from trading_pipeline.ports.safety import Anchor, Anchors, Latch, Stop

__all__ = [
    "Anchor",
    "Anchors",
    "Answer",
    "Appended",
    "BarArchive",
    "Broker",
    "BrokerAccount",
    "BrokerOrder",
    "BrokerStatus",
    "Capabilities",
    "ChartRenderer",
    "Clock",
    "DecisionMaker",
    "Fence",
    "Golden",
    "Health",
    "Home",
    "LEASE_SECONDS",
    "LLM",
    "Latch",
    "Ledger",
    "MarketData",
    "ObjectStore",
    "OutsideTexts",
    "Past",
    "Permit",
    "Price",
    "Prices",
    "PromptVersion",
    "Prompts",
    "Question",
    "Reader",
    "Rendered",
    "Stop",
    "Ticket",
    "Transaction",
    "lapses_in",
    "ticket_digest",
]
