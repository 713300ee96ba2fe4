"""What people decide, as assets that nothing materialises: another version of one marks what was computed with it as stale (A6)."""

import dagster as dg

from trading_pipeline.service.record.versions import Kind

_WORDS = {
    Kind.INDICATORS: "The indicators that live strategies ask for, with their parameters.",
    Kind.CHARTS: "What the charts of live strategies show.",
    Kind.DECISIONS: "Rules, models, prompts and the parser of replies that live strategies decide with.",
}

SPECS = [
    dg.AssetSpec(kind.value, group_name="settings", owners=["team:desk"], description=words) for kind, words in _WORDS.items()
]
