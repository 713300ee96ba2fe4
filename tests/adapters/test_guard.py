"""The guard takes down whoever left its command's group, where it is told to, however quickly the command ended."""

import os
import subprocess
import sys
from contextlib import suppress

import psutil
import pytest

from trading_pipeline.adapters import guard

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux hands orphans to the guard")
LEAVES_A_CHILD = "import subprocess, sys; print(subprocess.Popen(['sleep', '60'], start_new_session=True, stdout=subprocess.DEVNULL).pid)"
LEAVES_A_GRANDCHILD = f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', {LEAVES_A_CHILD!r}], start_new_session=True).wait()"


def left_behind(*options: str, program: str = LEAVES_A_CHILD) -> psutil.Process:
    """The process that a program leaves, once its guard has ended."""
    argv = [sys.executable, "-I", "-S", guard.__file__, "1", *options, sys.executable, "-c", program]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        pid = int(process.stdout.readline())
        found = psutil.Process(pid) if psutil.pid_exists(pid) else psutil.Process(os.getpid())
        process.wait(60)
    return found


@pytest.mark.parametrize("program", [LEAVES_A_CHILD, LEAVES_A_GRANDCHILD])
def test_a_child_in_a_session_of_its_own_ends_with_the_guard(program):
    found = left_behind("--orphans", program=program)
    assert found.pid == os.getpid() or not found.is_running()


def test_without_being_told_to_the_guard_leaves_it():
    found = left_behind()
    try:
        assert found.pid != os.getpid()
        assert found.is_running()
    finally:
        with suppress(psutil.NoSuchProcess):
            found.kill()
