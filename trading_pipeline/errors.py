"""Every exception of the product, in one tree.

Outcomes are values (a denied order, an abstention, an expired approval); an exception means that the
world is broken, and its class says who must act:

    TradingError
    ├── InputError                the user: a value given was wrong (exit code 2)
    │   ├── SettingsError             settings, environment, trading.toml
    │   ├── StrategyError             a strategy file or its values
    │   ├── ExpressionError           a trigger or rule expression
    │   ├── PromptError               a prompt's file, its variables or what fills them
    │   ├── UnknownName               symbol, indicator, interval, strategy, order ... that does not exist
    │   ├── BarsError                 a bars file that cannot be used as it is
    │   ├── CalendarError             an instant or date outside the trading calendar
    │   └── PermissionRequired        this actor may not do this here
    ├── Conflict                  nobody: somebody else was first, look again (exit code 3)
    │   ├── IllegalTransition         a state machine refused an event
    │   └── Fenced                    another submitter has the lease, or a stop has revoked it: end at once
    ├── LedgerError               the operator: the record cannot be written or trusted (exit code 4)
    │   ├── LedgerUnavailable         no connection, locked, timed out
    │   ├── LedgerCorrupt             chain, triggers or tables do not verify
    │   └── EnvironmentMismatch       a ledger of one environment met work of another
    ├── StorageError              the operator: disk full, read-only, no permission (exit code 4)
    │   └── StopUnfiled               a stop is in force by the ledger, and the disk does not take its file: all else goes on
    ├── MarketDataError           the operator: a source does not answer or answers nonsense
    ├── BrokerError               the operator, see the order's state
    │   ├── BrokerRefused             the broker definitely refused: nothing was placed
    │   ├── OrderExists               the broker has an order of that name already: this one was not placed
    │   ├── BrokerNotReady            no session; nothing was sent
    │   └── OutcomeUnknown            sent, and nobody knows: resolve by query, never resend
    └── ServiceError              the operator: a process of ours could not start or stop (port in use ...)
"""

from typing import ClassVar


class TradingError(Exception):
    """A broken world, told in three parts: the value met, the rule it breaks, the remedy."""

    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, *, value: object = None, rule: str = "", remedy: str = "") -> None:
        """Build the error.

        Args:
            message: One sentence, without the remedy.
            value: The offending value; never a secret.
            rule: The rule it breaks, as a person would say it.
            remedy: What to do next, in the imperative.
        """
        super().__init__(message)
        self.message = message
        self.value = value
        self.rule = rule
        self.remedy = remedy

    def __str__(self) -> str:
        parts = [self.message]
        if self.rule:
            parts.append(f"Rule: {self.rule}.")
        if self.remedy:
            parts.append(f"Remedy: {self.remedy}.")
        return " ".join(parts)

    def as_json(self) -> dict[str, str]:
        """The same parts for scripts."""
        return {
            "error": type(self).__name__,
            "message": self.message,
            "value": "" if self.value is None else str(self.value),
            "rule": self.rule,
            "remedy": self.remedy,
        }


class InputError(TradingError):
    """A value the user gave is wrong; nothing was changed."""

    exit_code = 2


class SettingsError(InputError):
    """Settings do not fit together or break a limit."""


class StrategyError(InputError):
    """A strategy's file or values are refused."""


class ExpressionError(InputError):
    """An expression does not parse or names something unknown."""


class PromptError(InputError):
    """A prompt's file is refused, or a variable is missing or too many."""


class UnknownName(InputError):
    """A symbol, indicator, interval, strategy, order or approval that does not exist."""


class BarsError(InputError):
    """A bars file cannot be used as it is."""


class CalendarError(InputError):
    """An instant or date outside the trading calendar."""


class PermissionRequired(InputError):
    """This actor may not do this in this environment."""


class Conflict(TradingError):
    """Somebody else was first; the state has moved on."""

    exit_code = 3


class IllegalTransition(Conflict):
    """A state machine refused an event; nothing was written."""


class Fenced(Conflict):
    """The lease this process submitted under is no longer its own: nothing was written, and nothing may be sent."""


class LedgerError(TradingError):
    """The record cannot be written or trusted."""

    exit_code = 4


class LedgerUnavailable(LedgerError):
    """No connection, locked, or timed out: nothing was acknowledged."""


class LedgerCorrupt(LedgerError):
    """The chain or a table does not verify."""


class EnvironmentMismatch(LedgerError):
    """A ledger of one environment was asked to hold another's facts."""


class StorageError(TradingError):
    """Disk full, read-only file system, or no permission."""

    exit_code = 4


class StopUnfiled(StorageError):
    """The disk does not take the file of an emergency stop that the ledger has: it is in force, carried out, and written later."""


class MarketDataError(TradingError):
    """A market data source does not answer, or answers nonsense."""


class BrokerError(TradingError):
    """The broker could not do what was asked."""


class BrokerRefused(BrokerError):
    """A definitive, structured refusal: nothing was placed."""


class OrderExists(BrokerError):
    """The name is taken: an order of that name was placed before, and this one was not.

    We send a name once. Who hears this has a record that is older than the account, or shares the account with another one.
    """


class BrokerNotReady(BrokerError):
    """No healthy session: nothing was sent."""


class OutcomeUnknown(BrokerError):
    """The request left and no answer came: only a query can tell. Never resend."""


class ServiceError(TradingError):
    """A process of ours could not start, be reached, or stop."""

    exit_code = 4
