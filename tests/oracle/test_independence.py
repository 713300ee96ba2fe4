"""The oracle shares no code with what it judges, and what it types in again agrees with it."""

import ast
import subprocess
import sys
from pathlib import Path

import trading_pipeline.oracle
from trading_pipeline.domain import approvals, orders, strategies
from trading_pipeline.domain.orders import OrderState, client_id
from trading_pipeline.oracle.fact import order_name
from trading_pipeline.oracle.fold import LEADS_TO
from trading_pipeline.oracle.state import ACTION_MOVES, ORDER_MOVES, STRATEGY_MOVES, WORKING

FOLDER = Path(trading_pipeline.oracle.__file__).parent


def test_it_imports_the_standard_library_and_itself_alone():
    for path in FOLDER.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            for name in names:
                assert name.split(".")[0] in sys.stdlib_module_names or name.startswith("trading_pipeline.oracle"), (path.name, name)


def test_it_runs_without_anything_installed():
    program = (
        f"import sys, types\nsys.path.insert(0, {str(FOLDER.parents[1])!r})\n"
        "import trading_pipeline.oracle as oracle\n"
        "assert oracle.check([]) == []\n"
        "print(sorted({name.split('.')[1] for name in sys.modules if name.startswith('trading_pipeline.')}))"
    )
    done = subprocess.run([sys.executable, "-I", "-S", "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "['oracle']"


def test_every_move_the_domain_allows_is_one_of_the_tables_typed_in_here():
    """Sections 3.1 and 3.3 both times; fills, quarantines and states that a fact leaves as they are stand elsewhere."""
    assert {str(state): set(map(str, targets)) for state, targets in approvals.TRANSITIONS.items() if targets} == {
        state: set(targets) for state, targets in ACTION_MOVES.items()
    }
    allowed = {str(state): set(map(str, targets)) for state, targets in strategies.TRANSITIONS.items() if targets}
    assert allowed == {state: set(targets) for state, targets in STRATEGY_MOVES.items()}
    assert set(LEADS_TO.values()) | {"paused_risk", "draft"} == set(map(str, strategies.StrategyState))


def test_orders_that_count_in_full_and_their_moves_are_those_of_the_domain():
    assert set(map(str, orders.WORKING)) == WORKING
    assert ORDER_MOVES.keys() == set(map(str, OrderState))
    for state, moves in ORDER_MOVES.items():
        targets = {target for target in moves.values() if target != "before"}
        assert targets <= set(map(str, orders.TRANSITIONS[OrderState(state)])), state


def test_both_name_an_order_alike():
    """13."""
    assert order_name("KP2KK3ZKFORM", "entry") == client_id("KP2KK3ZKFORM", "entry") == "W4PDKC5E6TZK6ESX7AZQ"
