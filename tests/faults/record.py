"""Invariants of the map, checked ten times a second during a fault and at its end."""

import threading
import time
from collections.abc import Collection
from types import TracebackType
from typing import Any, NamedTuple, Self

import psycopg

from tests.faults.account import Account
from tests.faults.database import Server

# One statement, so that all values are of the same moment.
_LOOK = """
    SELECT
        (SELECT count(*) FROM (SELECT FROM checks_assignment GROUP BY config_id HAVING count(*) > 1) AS d),
        (SELECT count(*) FROM checks_config AS c LEFT JOIN checks_assignment AS a ON a.config_id = c.id
            WHERE c.node_name = '' AND (a.config_id IS NULL) <> (c.dangling_since IS NOT NULL)),
        (SELECT count(*) FROM checks_assignment AS a LEFT JOIN nodes_heartbeat AS h ON h.node_id = a.node_id
            WHERE h.node_id IS NULL),
        (SELECT json_object_agg(n.name, json_build_array(n.config_version::text, (
            SELECT string_agg(c.digest, ' ' ORDER BY c.id) FROM checks_config AS c
            WHERE (c.id, n.id, 'overlap') IN (SELECT config_id, source_id, promise FROM checks_handover)
                OR (c.id, n.id, 'overlap') IN (SELECT config_id, between_id, promise FROM checks_handover)
                OR (c.id, n.id) IN (SELECT config_id, node_id FROM checks_assignment)
                AND (c.id, 'strict') NOT IN (SELECT config_id, promise FROM checks_handover)
        ))) FROM nodes_node AS n)
"""
_MAP = "SELECT a.config_id, n.name FROM checks_assignment AS a JOIN nodes_node AS n ON n.id = a.node_id"
_LEDGER = "SELECT id, name, config_id, source_node, to_node, reason, actor FROM checks_move ORDER BY id"


class Moved(NamedTuple):
    """A line of the ledger."""

    id: int
    name: str
    config_id: int
    source: str
    to: str
    reason: str
    actor: str


class Watch(threading.Thread):
    """Checks the map ten times a second while the database answers. wrong: what violates an invariant."""

    def __init__(self, server: Server) -> None:
        super().__init__(name="watch", daemon=True)
        self.wrong: list[str] = []
        self.looks = 0
        self.reason = "no time"
        self._server = server
        self._contents: dict[tuple[str, str], str] = {}
        self._ended = threading.Event()

    def run(self) -> None:
        """Check until `stop` is called."""
        while not self._ended.wait(0.1):
            try:
                self._look_on()
            except psycopg.Error as error:
                self.reason = str(error)

    def _look_on(self) -> None:
        with psycopg.connect(self._server.url, autocommit=True, connect_timeout=5) as session:
            while not self._ended.wait(0.1):
                self._look(session.execute(_LOOK).fetchone())

    def stop(self) -> None:
        """End the thread."""
        self._ended.set()
        self.join(10)

    def _look(self, row: Any) -> None:
        doubles, astray, held_by_lost, nodes = row
        self.looks += 1
        if doubles or astray or held_by_lost:
            self.wrong.append(f"{doubles} with two owners, {astray} neither assigned nor dangling, {held_by_lost} lost")
        for name, (version, content) in (nodes or {}).items():
            if self._contents.setdefault((name, version), content) != content:
                self.wrong.append(f"{name} had other configs with the same version {version}")


class Record:
    """Records what happens during the block. Raises AssertionError at its end if an invariant was violated.

    gap, double: the longest time in seconds that a check ran nowhere, and on more than one node.
    """

    def __init__(self, server: Server, account: Account) -> None:
        self._server, self._account = server, account
        self._watch = Watch(server)

    def __enter__(self) -> Self:
        self.began = time.monotonic()
        self._known = {move.id for move in self._ledger()}
        self._watch.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._watch.stop()
        if not error:
            self._verify()
            self.gap = self._account.longest_gap(self.began)
            self.double = self._account.longest_double(self.began)

    def moves(self, *reasons: str) -> list[Moved]:
        """Return the moves since the beginning, of these reasons if any are given."""
        fresh = (move for move in self._ledger() if move.id not in self._known)
        return [move for move in fresh if not reasons or move.reason in reasons]

    def _ledger(self) -> list[Moved]:
        return [Moved(*row) for row in self._server.ask(_LEDGER)]

    def _verify(self) -> None:
        assert self._watch.looks, f"nothing was looked at: {self._watch.reason}"
        assert not self._watch.wrong, self._watch.wrong[:5]
        owners: dict[int, str] = {move.config_id: move.to for move in self._ledger()}
        assert {config: owner for config, owner in owners.items() if owner} == dict(self._server.ask(_MAP))


def sources(moves: Collection[Moved]) -> set[str]:
    """Return the nodes that lost a config, but for what went back to a node that had been lost."""
    return {move.source for move in moves if move.source and move.reason != "returned"}
