"""One house for all tests of the launcher; a test that kills its parent leaves the next one to start a new one."""

from collections.abc import Iterator

import pytest

from tests.orchestration.launcher.house import LauncherHouse, launcher_house


@pytest.fixture(scope="package")
def house() -> Iterator[LauncherHouse]:
    with launcher_house() as house:
        yield house
