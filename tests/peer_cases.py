"""The Datadog Cluster Agent's own test cases, as data, and those that ours differs from on purpose."""

import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

DATA = Path(__file__).parent / "data" / "peer_cases"

# The reason why ours does otherwise. What a test asserts in place of it names the case as well.
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
    """The cases of these files, by name."""
    found = [case for file in files for case in json.loads((DATA / file).read_text())]
    assert len({case["name"] for case in found}) == len(found)
    return {case["name"]: case for case in found}


def unread(names: Collection[str], *readers: str, tables: Collection[str] = ()) -> set[str]:
    """Cases that no test replays and no difference explains. readers: files of tests; tables: what those are run with."""
    text = "".join(Path(reader).read_text() for reader in readers)
    return {name for name in names if name not in DIFFERENT and name not in tables and f'"{name}"' not in text}
