"""How what a source sends now differs from what the store has of it."""

from checks.sources.origins import Comparison, Known, compare
from checks.sources.source import Judgement


def now(fingerprint: str, written_hash: str = "") -> Judgement:
    return Judgement(1, fingerprint, written_hash=written_hash)


def stored(fingerprint: str, *replicas: str, written_hash: str = "") -> Known:
    return Known(fingerprint, frozenset(replicas or {""}), ("origin",), written_hash)


def test_each_key_is_what_became_of_it() -> None:
    known = {
        "edited": stored("1"),
        "gone": stored("1"),
        "kept": stored("1"),
        "reworded": stored("1", written_hash="before"),
        "same": stored("1"),
    }
    sends = {"same": now("1"), "new": now("1"), "edited": now("2"), "reworded": now("1", "after")}
    assert compare(known, sends, kept={"kept", "never sent"}) == Comparison(
        added=["new"], changed=["edited"], same=["reworded", "same"], resent=["reworded"], gone=["gone"]
    )


def test_what_another_replica_sent_is_sent_again() -> None:
    known = {"theirs": stored("1", "west"), "both": stored("1", "east", "west"), "ours": stored("1", "east")}
    sends = {key: now("1") for key in known}
    assert compare(known, sends, replica="east").resent == ["both", "theirs"]


def test_a_key_that_is_sent_is_never_gone_nor_unchanged_because_it_is_kept() -> None:
    found = compare({"a": stored("1"), "b": stored("1")}, {"a": now("2")}, kept={"a", "b"})
    assert (found.changed, found.gone) == (["a"], [])
