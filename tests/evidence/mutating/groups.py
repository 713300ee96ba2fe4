"""What is mutated, and by which tests it is judged.

A group's mutants run only the tests named here, and of those only the ones that reach the mutated function, quickest first.
Tests that need PostgreSQL are left out, but where a group says otherwise: a server for each mutant takes seconds.
"""

from dataclasses import dataclass
from pathlib import Path

MODULES = Path("trading_pipeline")


@dataclass(frozen=True, slots=True)
class Group:
    """Modules that are judged by the same tests."""

    name: str
    modules: tuple[str, ...]
    """Below `trading_pipeline`; a pattern names several."""
    tests: tuple[str, ...]
    """Files and folders below `tests`."""
    wider: tuple[str, ...] = ()
    """Tests that survivors are judged by then: slower ones."""
    only: tuple[str, ...] = ()
    """Functions to mutate; none named: all but those of `CALLED_AT_IMPORT`."""
    fresh: bool = False
    """Import everything anew for each mutant."""
    postgres: bool = False
    sample: int | None = 80
    """Mutants of each module at most, drawn by the seed; None: all."""

    def files(self, root: Path) -> list[Path]:
        """The modules' files, relative to the root."""
        return sorted(path.relative_to(root) for pattern in self.modules for path in (root / MODULES).glob(pattern))


CALLED_AT_IMPORT = frozenset({"_order_moves", "_key_reader", "_text", "_inserting", "_upsert", "_by_keys"})
"""Functions whose result is made when their module is imported: a mutant of one must be there before that."""

_PATH = (
    "service/test_approvals.py", "service/test_orders.py", "service/test_verdicts.py", "service/stopping",
    "service/orders/test_protection.py",
)
_FAULTS = ("faults/test_odd_executions.py", "faults/test_broker_faults.py", "faults/test_lost_decisions.py")
_MORE_FAULTS = (
    "faults/test_contradicting_executions.py", "faults/test_exits_and_their_stops.py", "faults/test_restored_ledger.py",
    "faults/test_unowned_orders.py", "faults/test_vanished_orders.py",
)
_CONTRACT = ("contracts/test_ledger.py", "contracts/test_ledger_refusals.py", "contracts/test_ledger_leases.py")
_LEDGER = (*_CONTRACT, "domain/test_events.py")
_POSTGRES = (*_CONTRACT, "adapters/ledger/test_postgres.py", "adapters/ledger/test_backtests.py")

GROUPS = (
    Group(
        "rulebook", ("domain/rules/*.py", "domain/risk.py", "domain/rulebook.py", "domain/limits.py"),
        (
            "domain/test_rulebook.py", "domain/test_rule_boundaries.py", "domain/test_verdict_words.py", "domain/test_hard_limits.py",
            "domain/test_day_risk.py", "domain/test_limits.py", "adapters/test_strategy_files.py",
        ),
        wider=("domain/test_rulebook_properties.py", "service/test_account_limits.py", "service/test_controls.py"),
    ),
    Group(
        "sizing", ("domain/sizing.py",), ("domain/test_sizing.py",),
        wider=("service/orders/test_oversized.py", "service/judging/test_discipline.py"),
        sample=None,
    ),
    Group(
        "orders", ("domain/orders.py", "domain/projections/orders.py"),
        (
            "domain/test_state_machines.py", "domain/test_order_rows.py", "domain/test_rulebook.py", "domain/test_rule_boundaries.py",
            "domain/test_hard_limits.py", *_LEDGER,
        ),
        wider=("service/test_orders.py", "service/test_accounting.py", "faults/test_odd_executions.py", *_MORE_FAULTS),
    ),
    Group(
        "order-moves", ("domain/projections/orders.py",), ("domain/test_state_machines.py", "domain/test_order_rows.py"),
        only=("_order_moves",), fresh=True,
    ),
    Group(
        "approvals", ("domain/approvals.py", "service/approvals.py"),
        ("domain/test_state_machines.py", "service/test_approvals.py", "service/test_orders.py"),
        wider=(
            "service/test_leaving.py", "state_machines/test_approvals.py", "service/test_queries.py", "service/stopping",
            "service/record/test_rederivation.py",
        ),
    ),
    Group(
        "gate", ("service/orders/gate.py",), ("service/orders/test_gate.py", *_PATH),
        wider=(*_FAULTS, *_MORE_FAULTS, "service/test_execution.py", "service/record/test_rederivation.py"),
    ),
    Group(
        "execution", ("service/execution.py", "service/orders/settlement.py"),
        (
            "service/test_execution.py", "service/test_leaving.py", "service/orders/settlement", "service/test_orders.py",
            "service/orders/test_protection.py", *_FAULTS,
        ),
        wider=(
            "service/orders/test_gate.py", "service/test_approvals.py", "service/test_verdicts.py", "service/stopping",
            *_MORE_FAULTS, "service/orders/test_releasing.py", "service/orders/test_splits.py", "service/test_accounting.py",
            "service/test_controls.py", "service/judging/test_discipline.py",
        ),
        sample=60,
    ),
    Group(
        "ledger", (
            "adapters/ledger/draft.py", "adapters/ledger/indexed.py", "adapters/ledger/memory.py", "adapters/ledger/selection.py",
            "domain/derivation.py",
        ),
        (
            *_LEDGER, "adapters/ledger/test_indexed.py", "adapters/ledger/test_memory.py", "adapters/ledger/test_selection.py",
            "domain/test_derivation.py",
        ),
        wider=("service/record/test_verification.py", "service/record/test_tampering.py", "service/test_orders.py"),
    ),
    Group("row-keys", ("domain/derivation.py",), ("domain/test_derivation.py",), only=("_key_reader",), fresh=True),
    Group("codec", ("domain/codec.py",), ("domain/test_codec.py",), sample=None),
    Group(
        "verification", ("service/record/verification.py", "service/record/judgement.py"),
        ("service/record/test_verification.py", "service/record/test_judgement.py", "service/record/test_tampering.py"),
    ),
    Group(
        "postgres", ("adapters/ledger/transaction.py", "adapters/ledger/queries.py"), _POSTGRES, postgres=True, sample=40,
    ),
    Group(
        "statements", ("adapters/ledger/queries.py",), _CONTRACT, only=("_text", "_inserting", "_upsert", "_by_keys"), fresh=True,
        postgres=True, sample=10,
    ),
)
