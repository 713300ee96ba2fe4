"""Asks a running Dagster webserver how the whole is doing: code location, daemons, schedules, sensors, and when each was last heard of.

Over its GraphQL on the loopback, with the standard library: the CLI does not import Dagster. A proxy named in the
environment is not used.
"""

import json
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TypeVar

from trading_pipeline.errors import ServiceError

T = TypeVar("T")

_QUERY = """{
  workspaceOrError {
    __typename
    ... on PythonError { message }
    ... on Workspace { locationEntries { locationOrLoadError {
      __typename
      ... on PythonError { message }
      ... on RepositoryLocation { repositories {
        schedules { name scheduleState { status } }
        sensors { name sensorState { status } }
      } }
    } } }
  }
  instance { daemonHealth { allDaemonStatuses { daemonType required lastHeartbeatTime } } }
}"""

_HEARD_QUERY = """{
  workspaceOrError { ... on Workspace { locationEntries { locationOrLoadError {
    ... on RepositoryLocation { repositories {
      sensors { name minIntervalSeconds sensorState { status ticks(limit: 1) { timestamp } } }
    } }
  } } } }
  instance { daemonHealth { allDaemonStatuses { daemonType required lastHeartbeatTime } } }
}"""


@dataclass(frozen=True, slots=True)
class SensorHeard:
    """A sensor that is switched on: its interval in seconds, and when it last began a tick, None for never."""

    name: str
    interval: float
    ticked: datetime | None


@dataclass(frozen=True, slots=True)
class Heard:
    """When the webserver last heard of whom: required daemons by their heartbeat, sensors that are switched on by their tick."""

    daemons: Mapping[str, datetime | None]
    sensors: tuple[SensorHeard, ...]


@dataclass(frozen=True, slots=True)
class PageStatus:
    """What the webserver sees.

    `loaded`: the code location answers; `error` is its message when it does not load. `silent`: required daemons without a
    heartbeat since the instant asked about. `running` and `stopped`: names of schedules and sensors.
    """

    loaded: bool
    error: str
    silent: tuple[str, ...]
    running: tuple[str, ...]
    stopped: tuple[str, ...]


class DagsterPage:
    """A webserver at a loopback port."""

    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def answers(self) -> bool:
        """Whether the webserver takes requests."""
        try:
            with self._opener.open(f"{self.url}/server_info", timeout=2) as reply:
                return bool(reply.status == 200)
        except OSError:
            return False

    def status(self, since: float) -> PageStatus | None:
        """How it is doing; None while it does not answer.

        Args:
            since: Wall clock, seconds since the epoch: only later heartbeats count, not those of an earlier daemon.

        Raises:
            ServiceError: What answers is no Dagster of a kind we know.
        """
        return self._ask(_QUERY, lambda data: _read(data, since))

    def heard(self) -> Heard | None:
        """Who was heard of when; None while the webserver does not answer.

        Raises:
            ServiceError: What answers is no Dagster of a kind we know.
        """
        return self._ask(_HEARD_QUERY, _read_heard)

    def _ask(self, query: str, read: Callable[[dict[str, Any]], T]) -> T | None:
        request = urllib.request.Request(
            f"{self.url}/graphql", data=json.dumps({"query": query}).encode(), headers={"Content-Type": "application/json"}
        )
        try:
            with self._opener.open(request, timeout=10) as reply:
                return read(json.load(reply)["data"])
        except (KeyError, TypeError, ValueError) as error:
            raise ServiceError(
                f"{self.url} does not answer as Dagster does ({error!r}).", value=self.url, rule="the webserver is Dagster's",
                remedy="see who listens there, or give another port with --port",
            ) from error
        except OSError:
            return None


def _read_heard(data: dict[str, Any]) -> Heard:
    daemons = data["instance"]["daemonHealth"]["allDaemonStatuses"]
    locations = [entry["locationOrLoadError"] or {} for entry in data["workspaceOrError"].get("locationEntries", ())]
    sensors = [sensor for location in locations for repo in location.get("repositories", ()) for sensor in repo["sensors"]]
    return Heard(
        {each["daemonType"]: _instant(each["lastHeartbeatTime"]) for each in daemons if each["required"]},
        tuple(
            SensorHeard(each["name"], each["minIntervalSeconds"], _instant(next((t["timestamp"] for t in state["ticks"]), None)))
            for each in sensors if (state := each["sensorState"])["status"] == "RUNNING"
        ),
    )


def _instant(seconds: float | None) -> datetime | None:
    return datetime.fromtimestamp(seconds, UTC) if seconds else None


def _read(data: dict[str, Any], since: float) -> PageStatus:
    daemons = data["instance"]["daemonHealth"]["allDaemonStatuses"]
    silent = tuple(d["daemonType"] for d in daemons if d["required"] and (d["lastHeartbeatTime"] or 0) < since)
    workspace = data["workspaceOrError"]
    locations = [entry["locationOrLoadError"] for entry in workspace.get("locationEntries", ())]
    error = workspace.get("message", "") or next((loc["message"] for loc in locations if loc and "message" in loc), "")
    repositories = [repo for loc in locations if loc for repo in loc.get("repositories", ())]
    states = {s["name"]: s["scheduleState"]["status"] for repo in repositories for s in repo["schedules"]}
    states |= {s["name"]: s["sensorState"]["status"] for repo in repositories for s in repo["sensors"]}
    return PageStatus(
        loaded=bool(repositories), error=error.strip(), silent=silent,
        running=tuple(sorted(name for name, status in states.items() if status == "RUNNING")),
        stopped=tuple(sorted(name for name, status in states.items() if status != "RUNNING")),
    )
