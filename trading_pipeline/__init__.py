"""An LLM proposes trades, a rulebook it cannot touch judges them, and a person or hard limits decide.

Layers, downward only: definitions > faces > bootstrap > adapters | service > ports > domain. Only
`definitions`, `assets`, `resources` and `sensors` know Dagster.
"""

__version__ = "0.1.0"
