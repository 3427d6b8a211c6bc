"""What `make run` says when everything runs."""

import pytest

from clusteragent.greeting import _suggestions
from clusteragent.lib import conf


@pytest.mark.parametrize(
    ("proof", "stats", "said"),
    [
        ("all", True, "after some 15 s (its port proves its death; else 30 s) its configs go"),
        ("port", True, "after some 15 s"),
        ("pod", True, "after 30 s its configs go"),
        ("off", True, "after 30 s its configs go"),
        ("all", False, "after 30 s its configs go"),
    ],
)
def test_how_soon_others_have_a_killed_nodes_configs(
    monkeypatch: pytest.MonkeyPatch, proof: str, stats: bool, said: str
) -> None:
    for name, value in (("PROOF_OF_DEATH", proof), ("ADVANCED_DISPATCHING_ENABLED", stats), ("DEMO_NODES", 3)):
        monkeypatch.setattr(conf, name, value)
    [line] = [line for line in _suggestions() if line.startswith("# Kill a node")]
    assert said in line
