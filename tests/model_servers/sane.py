"""A model that reads the golden set's prompts and answers as their rules say, figures and all: by the words of the prompt alone."""

import json
import re

from tests.model_servers.plumbing import Asked


def sane(asked: Asked) -> str:
    """SELL where something is held and the rule that the prompt tells is met by its newest bar; HOLD otherwise."""
    text = asked.texts[-1]
    table = next(block for block in text.split("\n\n") if block.startswith("Bars, oldest first"))
    close = table.splitlines()[-1].split()[-2]
    held = re.search(r"Position: \d+ shares.*held for (\d+) bars?", text)
    below, bars = re.search(r"[Ss]ells .*closes below (\d+)", text), re.search(r"held for (\d+) bars or more", text)
    met = held and ((below and float(close) < float(below[1])) or (bars and int(held[1]) >= int(bars[1])))
    average = re.search(r"^sma_20 +(\S+)", text, re.MULTILINE)
    figures = [("close", close), *([("sma_20", average[1])] if average and average[1] != "n/a" else [])]
    return json.dumps({
        "action": "SELL" if met else "HOLD", "symbol": asked.symbol, "confidence": 0.7, "rationale": "As the rule says.",
        "figures": [{"name": name, "value": float(value)} for name, value in figures], "limit": None, "stop": None, "targets": [],
    })
