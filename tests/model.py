"""A small model of the dispatcher: what it must remember, and what it may do. It has no clock and chooses no nodes.

It checks that the dispatcher's choices of nodes are allowed, and then adopts them.
"""

import math
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field

from checks import balancing
from checks.dispatcher import NotAccepting, NotDispatchable
from checks.dispatcher.changes import Sent
from clusteragent.lib import conf
from nodes.models import UnknownNode

Key = tuple[str, str]

TIMEOUT = conf.NODE_EXPIRATION_TIMEOUT.total_seconds()


@dataclass(eq=False)
class Check:
    """A config, whatever its content is. former: its node that was lost; near: the node that it should go to.

    given: the least version by which its owner acknowledges that it has it in place of `former`; 0 when it moved on.
    """

    sent: Sent
    owner: str = ""
    former: str = ""
    near: str = ""
    given: int = 0
    edits: int = 0
    is_lost_lately: bool = False
    # The hand-over that it is in: from which node, by which promise, and by which node between.
    handing: tuple[str, str, str] | None = None

    @property
    def digest(self) -> str:
        """The digest of its bytes."""
        return self.sent.patched.digest

    @property
    def former_nodes(self) -> list[str]:
        """The nodes that run it for its owner, or must stop it first: the former one, and then the one between."""
        return [name for name in (self.handing[0], self.handing[2]) if name] if self.handing else []

    @property
    def is_endpoint(self) -> bool:
        """Whether it belongs to a fixed node and is never placed."""
        return bool(self.sent.patched.node_name)

    @property
    def dangles(self) -> bool:
        """Whether it should have an owner and has none."""
        return not (self.owner or self.is_endpoint)


@dataclass(eq=False)
class Agent:
    """A node. silent_for: seconds; version: of its configs; fetched: the version that its agent has; acknowledged: reported last.

    runs: the ids of the configs that its agent runs. is_stale: it was lost since it fetched them, so others may run them, too.
    """

    silent_for: float = 0
    is_cordoned: bool = False
    is_lost: bool = False
    is_lost_lately: bool = False
    times_lost: int = 0
    fetched: int = 0
    acknowledged: int = 0
    version: int = 0
    runs: set[int] = field(default_factory=set)
    is_stale: bool = False


@dataclass
class Model:
    """All nodes, origins and configs. warms_up: nothing is placed yet; is_deaf: silence does not count."""

    warms_up: bool
    warmup_has_begun: bool = False
    warmup_is_over: bool = False
    is_deaf: bool = False
    agents: dict[str, Agent] = field(default_factory=dict)
    origins: dict[Key, tuple[Check, Sent]] = field(default_factory=dict)
    pending: list[Check] = field(default_factory=list)
    pool: list[str] = field(default_factory=list)
    ceiling: float = math.inf
    taken: int = 0

    @property
    def checks(self) -> list[Check]:
        """All configs, each once."""
        return list(dict.fromkeys(check for check, _ in self.origins.values()))

    def known(self) -> list[str]:
        """Return the names of the nodes that are not lost."""
        return [name for name, agent in self.agents.items() if not agent.is_lost]

    def accepting(self, patience: float = TIMEOUT / 2) -> list[str]:
        """Return the nodes that may get configs: not cordoned, and not silent for more than `patience` seconds."""
        patient = math.inf if self.is_deaf else patience
        agents = {name: self.agents[name] for name in self.known()}
        return [name for name, agent in agents.items() if not agent.is_cordoned and agent.silent_for <= patient]

    def share(self, name: str) -> list[Check]:
        """Return the node's configs."""
        return [check for check in self.checks if check.owner == name]

    def served(self, name: str) -> list[Check]:
        """Return the configs that the node gets: its own, but for those that another must stop first; and those it hands over."""
        strict = [check for check in self.checks if check.handing and check.handing[1] == "strict"]
        found = self.share(name) + [check for check in self.checks if name in check.former_nodes]
        return [check for check in found if check not in strict]

    def is_unsure(self, name: str) -> bool:
        """Return whether a list of its configs could make the node stop one that nobody else runs."""
        return self.warms_up or any(check.former == name for check in self.checks)

    def send(self, sents: Iterable[Sent]) -> None:
        """Let origins send configs, one after the other."""
        latest = {(sent.source, sent.key): sent for sent in sents}
        for key, sent in latest.items():
            self._send(key, sent)
        self.pool = [] if self.warms_up else self.accepting()

    def _send(self, key: Key, sent: Sent) -> None:
        mine, before = self.origins.get(key, (None, None))
        if before and before.patched.fingerprint == sent.patched.fingerprint:
            return
        twin = next((check for check in self.checks if check.digest == sent.patched.digest), None)
        if mine and twin in (None, mine) and len(self.senders(mine)) == 1:
            self._edit(mine, sent)
            check = mine
        else:
            check = twin or self._new(sent, near=mine.owner if mine else "")
            self._part(key)
        self.origins[key] = check, sent

    def _new(self, sent: Sent, near: str) -> Check:
        check = Check(sent, near=near)
        if check.dangles:
            self.pending.append(check)
        return check

    def senders(self, check: Check) -> list[Key]:
        """Return the origins that send this config."""
        return [key for key, (sent, _) in self.origins.items() if sent is check]

    def _edit(self, check: Check, sent: Sent) -> None:
        was_endpoint, check.sent = check.is_endpoint, sent
        check.edits += 1
        if check.is_endpoint:
            self._take(check)
        elif was_endpoint:
            self.pending.append(check)

    def _part(self, key: Key) -> None:
        before, _ = self.origins.pop(key, (None, None))
        if before and not self.senders(before):
            self._take(before)

    def _take(self, check: Check) -> None:
        self.taken += bool(check.owner)
        check.owner = check.former = check.near = ""

    def forget(self, keys: Iterable[Key]) -> None:
        """Let these origins send nothing any more."""
        for key in keys:
            self._part(key)

    def expire(self, *, force: bool = False) -> None:
        """Take the configs from every expired node, unless silence does not count or no node accepts configs."""
        if not force and (self.is_deaf or not self.accepting()):
            return
        lost = [name for name in self.known() if self.agents[name].silent_for > TIMEOUT]
        for name in lost:
            agent = self.agents[name]
            agent.is_lost = agent.is_lost_lately = agent.is_stale = True
            agent.times_lost += 1
        for name in lost:
            for check in self.share(name):
                self._lose(check, name)

    def _lose(self, check: Check, name: str) -> None:
        former = [one for one in check.former_nodes if one in self.known()]
        if former:
            check.owner, check.given = former[0], 0
        else:
            check.owner, check.former, check.near, check.is_lost_lately = "", name, name, True

    def redispatch(self, *, force: bool = False) -> None:
        """Place what dangles, if the warm-up is over or `force` is given; nodes may get as many configs as the ceiling allows."""
        is_warm = not self.warms_up or self.warmup_is_over
        if not self.warms_up:
            self._give_back()
        self.warmup_has_begun = bool(self.agents)
        if is_warm or force:
            self.pending = [check for check in self.checks if check.dangles]
            self.pool = self.accepting()
            self.ceiling = math.inf if force else self._ceiling()
            self.warms_up = not is_warm

    def _give_back(self) -> None:
        """Give nodes that are back what others have not acknowledged, and forget what need not wait any more."""
        for check in self.checks:
            if check.former and check.owner:
                former = self.agents[check.former]
                is_unfetched = self.agents[check.owner].acknowledged < check.given
                is_back = not former.is_lost and former.silent_for <= TIMEOUT / 2
                if is_back and is_unfetched and conf.HANDOVER != "strict" and check.former in self.accepting():
                    check.owner = check.former
                if is_back or not is_unfetched:
                    check.former = ""

    def _ceiling(self) -> float:
        lost = sum(check.dangles and bool(check.former) and check.is_lost_lately for check in self.checks)
        before = sum(agent.is_lost_lately or not agent.is_lost for agent in self.agents.values())
        return (
            balancing.ceiling(sum(not check.is_endpoint for check in self.checks), lost, before) if lost else math.inf
        )

    def wait(self) -> None:
        """Let a minute pass, in which no node becomes silent."""
        self.is_deaf = False
        self.warmup_is_over = self.warmup_has_begun
        for check in self.checks:
            check.is_lost_lately = False
        for agent in self.agents.values():
            agent.is_lost_lately = False

    def why_not(self, checks: Collection[Check], name: str) -> type[Exception] | None:
        """Return the exception that giving these configs to the node raises; None if it is allowed."""
        if name not in self.known():
            return UnknownNode
        if name not in self.accepting(TIMEOUT) or self.warms_up:
            return NotAccepting
        return NotDispatchable if any(check.is_endpoint for check in checks) else None

    def give(self, checks: Iterable[Check], name: str) -> None:
        """Give these configs to the node."""
        for check in checks:
            if not check.owner:
                check.former = ""
            if check.owner != name:
                check.owner, check.given = name, 0

    def settle(self, owners: Mapping[str, str]) -> None:
        """Adopt the owners that the dispatcher chose, {digest: node}. Raises AssertionError if a choice is not allowed.

        A node must accept configs and have room, and be the nearest one or have the fewest configs.
        """
        for check in self.pending:
            check.owner = owners[check.digest]
            assert check.owner in ("", *self.pool), f"{check.owner} may not be given work"
        loads = {name: len(self.share(name)) for name in self.pool}
        room = {name for name in self.pool if loads[name] + 1 <= self.ceiling}
        chosen = {check.owner for check in self.pending} - {""}
        near = {check.near for check in self.pending}
        for check in self.pending:
            assert check.owner == check.near or check.near not in room, f"{check.near} is nearer"
            assert check.owner or not room, "somebody has room"
        for name in chosen:
            assert loads[name] <= self.ceiling, f"{name} has more than it may"
            assert name in near or loads[name] - 1 <= min(loads.values()) + self.taken, f"{name} has too much"
        for check in self.pending:
            if check.former and check.owner:
                check.former = check.former if self.agents[check.former].is_lost else ""
                check.given = self.agents[check.owner].version + 1
        for check in self.checks:
            check.near = check.former if check.dangles else ""
        self.pending, self.pool, self.ceiling, self.taken = [], [], math.inf, 0
