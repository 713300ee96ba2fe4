"""The command line as a process: the script `trading`, and `python -m trading_pipeline.faces.cli` for processes that start each other."""

import gc
import sys


def run() -> None:
    """The entry point: never returns."""
    # What a command imports lives as long as it does, and is more than this: by its own measure the collector would walk through it
    # again and again, which takes a tenth of the time until a desk is up.
    gc.set_threshold(250_000, 20, 20)
    from trading_pipeline.faces.cli.main import main

    sys.exit(main(sys.argv[1:]))


if __name__ == "__main__":
    run()
