"""How long random walks are: short ones in the suite, as many as asked for by `make state-machines EXAMPLES=10000 STEPS=50`."""

import os
from collections.abc import Callable

from hypothesis import HealthCheck, settings
from hypothesis.stateful import RuleBasedStateMachine, run_state_machine_as_test


def walk(machine: Callable[[], RuleBasedStateMachine], examples: int, steps: int = 25) -> None:
    """Take a machine for so many walks of so many steps, or for as many as the environment asks for."""
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=int(os.environ.get("EXAMPLES") or examples), stateful_step_count=int(os.environ.get("STEPS") or steps),
            deadline=None, suppress_health_check=list(HealthCheck), print_blob=True,
        ),
    )
