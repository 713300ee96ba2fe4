"""The parent with less patience: `python -m tests.orchestration.launcher.impatient_parent SOCKET MODULE VARIABLE...`."""

import sys
from pathlib import Path

from resources.launcher import children, parent

children.KILL_SECONDS = 1.0
parent.QUESTION_SECONDS = 0.3
children.FORK_PAUSE_SECONDS = 0.2

if __name__ == "__main__":
    sys.exit(parent.main(Path(sys.argv[1]), sys.argv[2], sys.argv[3:]))
