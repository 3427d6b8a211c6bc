"""Each of the peer's cases is replayed by a test or differs on purpose. Most files of cases are checked by their own tests."""

from tests import peer_cases

# The file of tests that reads each, and fails when it leaves a case out.
READERS = {
    "dispatch.json": "checks/tests/test_dispatch_peer_cases.py",
    "expiry.json": "checks/tests/test_dispatch_peer_cases.py",
    "isolate.json": "checks/tests/test_isolate.py",
    "rebalance.json": "checks/tests/test_plan_peer_cases.py",
    "runner_groups.json": "checks/tests/test_runner_groups_peer_cases.py",
    "sharding.json": "checks/tests/test_sharding.py",
}
# Those of this one are read whole, by these topics.
PATCHING = "patching.json", {"extra_tags", "patch"}


def test_each_file_has_a_test_that_reads_all_of_it() -> None:
    root = peer_cases.DATA.parents[2]
    assert {file.name for file in peer_cases.DATA.iterdir()} == {*READERS, PATCHING[0]}
    for reader in READERS.values():
        assert "peer_cases.unread(" in (root / reader).read_text()
    file, topics = PATCHING
    assert {case["topic"] for case in peer_cases.cases(file).values()} == topics


def test_each_difference_is_of_a_case_and_has_a_reason() -> None:
    names = {name for file in peer_cases.DATA.iterdir() for name in peer_cases.cases(file.name)}
    assert peer_cases.DIFFERENT.keys() <= names
    assert all(reason.strip() for reason in peer_cases.DIFFERENT.values())
