"""The pipeline as Dagster assets: bodies of a few lines over the steps of `trading_pipeline.service.cycle`.

`from __future__ import annotations` is not used here: Dagster reads the annotations of asset functions.
"""

import warnings

import dagster as dg

# Backfill policies and owners are beta in this pinned version; tests hold us to their behaviour.
warnings.filterwarnings("ignore", category=dg.BetaWarning, message=r"Parameter `(backfill_policy|owners)`")
