"""The environment of the parent and of every warm run: an allow-list, so that a run has no secret that it does not need.

Under `trading up` runs are given the keys of models, and what the setting `run_variables` names. What else a person's shell happens to
hold, such as the keys of a cloud, stays out. Deliberately absent: the URL of the ledger's owner, who may change what the application may
only append to; `trading_pipeline.settings` does not read it from `.env` either where this environment says that it is scrubbed.
"""

import os
import sys
from collections.abc import Iterable, Mapping

ALLOWED = frozenset({"PATH", "HOME", "LANG", "TZ", "TMPDIR", "VIRTUAL_ENV"})
ALLOWED_PREFIXES = ("LC_", "PYTHON", "DAGSTER_", "TRADING_", "SSL_CERT_")
DENIED = frozenset({"TRADING_OWNER_DATABASE_URL"})
ONE_THREAD = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "JE_ARROW_MALLOC_CONF": "background_thread:false"}
"""A process is forked whole only if it has one thread: numpy's and pyarrow's begin when they are imported."""
_SCRUBBED = "TRADING_SCRUBBED"


def scrubbed(environ: Mapping[str, str], also: Iterable[str] = ()) -> dict[str, str]:
    """What of an environment warm runs are given.

    Args:
        also: Names of further variables that runs need.
    """
    wanted = (ALLOWED | frozenset(also)) - DENIED
    kept = {
        name: value for name, value in environ.items()
        if name in wanted or (name.startswith(ALLOWED_PREFIXES) and name not in DENIED)
    }
    return kept | ONE_THREAD


def scrub(also: Iterable[str]) -> None:
    """Begin this program anew in a scrubbed environment, unless that is done: a variable deleted later stays in the process's memory."""
    if _SCRUBBED not in os.environ:
        os.execve(sys.executable, sys.orig_argv, scrubbed(os.environ, also) | {_SCRUBBED: "1"})
