"""Settings that change are reported as another data version: what was computed with the one before is shown as stale (A6).

They are reported as materialisations: of an asset that Dagster does not observe by itself it reads no observations.
"""

import json

import dagster as dg

from trading_pipeline.service.desk import Desk
from trading_pipeline.service.record.versions import versions as versions_of


@dg.sensor(minimum_interval_seconds=15, default_status=dg.DefaultSensorStatus.RUNNING)
def versions(context: dg.SensorEvaluationContext, desk: dg.ResourceParam[Desk]) -> dg.SensorResult:
    """Report the version of each kind of settings when it is another one."""
    found = {kind.value: version for kind, version in versions_of(desk).items()}
    now = {name: version.digest for name, version in found.items()}
    seen = json.loads(context.cursor) if context.cursor else {}
    events = [
        dg.AssetMaterialization(
            asset_key=name, tags={"dagster/data_version": digest}, metadata={"settings": dg.MetadataValue.json(found[name].settings)},
        )
        for name, digest in now.items() if seen.get(name) != digest
    ]
    return dg.SensorResult(asset_events=events, skip_reason=None if events else "nothing has changed", cursor=json.dumps(now))
