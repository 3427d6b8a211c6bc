"""Nodes whose names differ only in a generated suffix are one pool."""

from nodes.pools import pool_of
from operators.pages.pools import Member, pools
from tests.table import table


@table(
    ("name", "pool"),
    [
        ("datadog-clusterchecks-6d4cf56db6-x7k2p", "datadog-clusterchecks-*"),
        ("runner-x7k2p", "runner-*"),
        ("runner-0", "runner-*"),
        ("runner-00012", "runner-*"),
        ("node01", "node*"),
        ("node_7", "node_*"),
        ("ip-10-1-2-3.ec2.internal", "ip-*.ec2.internal"),
        ("web-12.example.com", "web-*.example.com"),
        ("i-0abc123def4567890", "i-*"),
        ("gke-pool-1-5f7c9d3a-x7k2", "gke-pool-1-*"),
        ("aks-pool1-12345678-vmss00000a", "aks-pool1-12345678-vmss00000a"),
        ("aks-pool1-12345678-vmss000001", "aks-pool1-12345678-vmss*"),
        ("ash", "ash"),
        ("runner-east", "runner-east"),
        ("10.1.2.3", "10.1.2.3"),
        ("12", "12"),
        ("-1", "-1"),
        ("", ""),
        ("<b>-1", "<b>-*"),
    ],
)
def test_the_suffix_is_cut(name: str, pool: str) -> None:
    assert pool_of(name) == pool


def member(name: str, state: str = "alive", load: float = 0.5) -> Member:
    return Member(1, name, state, 2, load)


def test_a_node_alone_in_its_pool_has_its_own_name() -> None:
    (alone,) = pools([member("runner-1")])
    assert (alone.name, alone.title) == ("runner-*", "runner-1")
    (two,) = pools([member("runner-1"), member("runner-2")])
    assert two.title == "runner-*"


def test_pools_with_trouble_come_first_then_large_ones() -> None:
    found = pools([member("ash"), *(member(f"runner-{number}") for number in range(3)), member("birch", "silent")])
    assert [pool.title for pool in found] == ["birch", "runner-*", "ash"]


def test_a_node_that_is_drained_is_alive_and_trouble() -> None:
    (pool,) = pools([member("runner-1"), member("runner-2")._replace(going="draining")])
    assert (pool.count("alive"), pool.count("draining"), pool.troubled) == (2, 1, 1)


def test_lost_nodes_have_no_load() -> None:
    (pool,) = pools([member("runner-1", load=0.25), member("runner-2", "lost", load=9), member("runner-3", load=0.75)])
    assert (pool.known, pool.mean, pool.configs) == (2, 0.5, 6)
    assert pool.fullest == member("runner-3", load=0.75)
    (gone,) = pools([member("ash", "lost")])
    assert (gone.mean, gone.fullest) == (0.0, None)
