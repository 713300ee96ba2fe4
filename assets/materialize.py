"""What every asset body does: run its step for the run's cycle and show the facts as a trader reads them."""

from collections.abc import Mapping, Sequence
from typing import Any

import dagster as dg

from assets.partitions import cycles_of
from assets.tables import details
from resources.run_process import mark
from trading_pipeline.domain.cycles import Cycle
from trading_pipeline.service.cycle import STEPS
from trading_pipeline.service.desk import Desk
from trading_pipeline.service.market import events_of
from trading_pipeline.service.steps import StepResult


def materialize(context: dg.AssetExecutionContext, desk: Desk) -> dg.MaterializeResult[Any]:
    """Run the step named like the asset, once for each cycle of the run."""
    mark(context)
    step = context.asset_key.path[-1]
    partitions = list(context.partition_keys) if context.has_partition_key_range or context.has_partition_key else []
    cycles = cycles_of(desk, context.run.tags, partitions, context.run.run_id)
    done = [(cycle, STEPS[step](desk, cycle)) for cycle in cycles]
    if len(partitions) > 1:
        for cycle, result in done:
            context.add_asset_metadata(_figures(desk, cycle, result), partition_key=cycle.session.isoformat())
        return dg.MaterializeResult(metadata={"sessions": len(partitions), **_total(result for _, result in done)})
    metadata: dict[str, Any] = {}
    for cycle, result in done:
        metadata |= _figures(desk, cycle, result) | details(desk, step, events_of(desk, result))
        for note in result.notes[:10]:
            context.log.info(note)
    return dg.MaterializeResult(metadata=metadata or {"note": dg.MetadataValue.text("no strategy runs: nothing to do")})


def _figures(desk: Desk, cycle: Cycle, result: StepResult) -> dict[str, Any]:
    figures: dict[str, Any] = dict(result.counts)
    figures["market"] = dg.MetadataValue.text(desk.world.value.upper())
    figures["cycle"] = dg.MetadataValue.text(result.cycle_id)
    figures["due_at"] = dg.MetadataValue.timestamp(cycle.due_at)
    if result.seqs:
        figures["ledger_seqs"] = dg.MetadataValue.text(ranges(result.seqs))
    if result.notes:
        figures["notes"] = dg.MetadataValue.json(list(result.notes[:20]))
    if result.replayed:
        figures["replayed"] = dg.MetadataValue.bool(True)
    return figures


def _total(results: Any) -> Mapping[str, int]:
    totals: dict[str, int] = {}
    for result in results:
        for name, count in result.counts.items():
            totals[name] = totals.get(name, 0) + count
    return totals


def ranges(seqs: Sequence[int]) -> str:
    """`12-40, 44`: the facts of this step in the ledger."""
    parts: list[list[int]] = []
    for seq in seqs:
        if parts and seq == parts[-1][-1] + 1:
            parts[-1] = [parts[-1][0], seq]
        else:
            parts.append([seq, seq])
    shown = [f"{first}-{last}" if last > first else str(first) for first, last in parts[:12]]
    return ", ".join(shown) + (f" and {len(parts) - 12} more" if len(parts) > 12 else "")
