"""The Datadog Cluster Agent's own test cases as data, and those in which this program differs on purpose."""

import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

DATA = Path(__file__).parent / "data" / "peer_cases"

# {case: why this program differs}. A test that asserts the difference names the case as well.
DIFFERENT: Mapping[str, str] = {
    "TestUpdateAdvancedDispatchingMode node agents present": "a node agent does not switch balancing off for all others",
    "TestUpdateAdvancedDispatchingMode mixed": "a node agent does not switch balancing off for all others",
    "TestResetClearsShardedConfigs": "nothing is reset: shards are rows, which outlive every leader",
    "TestResetClearsUnscheduledCheckGauge": "nothing is reset: the flag stays with the config",
    "TestAddConfigConflictTransfersAccumulatedWeight": "a config has one cost and, by a constraint, one owner",
    "TestChecksSortedByWorkersNeeded standard": "no proposal is filled from empty nodes: moves are the fewest",
    "TestUpdateRunnersStatsFetchesWorkersWhenGroupsForceUtilization groups=no": "balancing is always by utilization",
}


def cases(*files: str) -> dict[str, dict[str, Any]]:
    """Return {name: case} of these files."""
    found = [case for file in files for case in json.loads((DATA / file).read_text())]
    assert len({case["name"] for case in found}) == len(found)
    return {case["name"]: case for case in found}


def unread(names: Collection[str], *readers: str, tables: Collection[str] = ()) -> set[str]:
    """Return the cases that no test replays and that are not in DIFFERENT.

    readers: files of tests that name cases; tables: names of cases that tests run as a table.
    """
    text = "".join(Path(reader).read_text() for reader in readers)
    return {name for name in names if name not in DIFFERENT and name not in tables and f'"{name}"' not in text}
