"""`python -m trading_pipeline.faces.cli`: the command line without its script, for processes that start each other."""

from trading_pipeline.faces.cli.main import run

run()
