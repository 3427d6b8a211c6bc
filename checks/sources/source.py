"""The interface of a config source, and the results of its scans."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from checks.wire.lint import NOTHING_ODD, Linted, Notice, place
from checks.wire.patching import IntegrationConfig
from clusteragent.lib import conf


class Problem(NamedTuple):
    """An error of a source. where: a place in the source, such as a file's key. line: counted from 1."""

    where: str
    line: int | None
    error: str

    def __str__(self) -> str:
        return f"{place(self.where, self.line)}: {self.error}"


class PassedOver(NamedTuple):
    """A config that is read but never dispatched. why: the rule that says so."""

    where: str
    why: str


class Findings(NamedTuple):
    """What was found in a source besides configs that are sent. left_out: how many more there are, {kind of finding: number}."""

    errors: list[Problem]
    warnings: list[Notice]
    passed_over: list[PassedOver]
    left_out: Mapping[str, int] = {}


class BrokenConfig(ValueError):
    """A key has no valid config. lasting: this stays so while the key's version stays the same."""

    def __init__(self, error: str, line: int | None = None, *, lasting: bool = True) -> None:
        super().__init__(error)
        self.line = line
        self.lasting = lasting


class Unsettled(Exception):
    """A key's config is being written right now."""


class Read(NamedTuple):
    """A config that was read, its warnings, and the author's text if there is one."""

    config: IntegrationConfig
    linted: Linted = NOTHING_ODD
    text: str = ""


class Found(NamedTuple):
    """A config that a scan found. Equal versions of a key have equal configs, so each version is read once.

    read: returns the config; raises BrokenConfig or Unsettled. place: where people find it; empty: under its key.
    """

    key: str
    version: Hashable
    read: Callable[[], Read]
    place: str = ""

    @property
    def where(self) -> str:
        """The place of the config, for messages."""
        return self.place or self.key


class Aim(NamedTuple):
    """The nodes to which a config is pinned: see the model Pin."""

    kind: str
    aim: str
    waits: bool = False


class Ordered(NamedTuple):
    """What a key orders of its config: that it runs nowhere, or on these nodes."""

    paused: bool = False
    pin: Aim | None = None


class Part(NamedTuple):
    """What a scan of a part of a source looked at.

    beginnings: those of the keys; what does not end in a slash is a whole key. keys: those that it found there last time.
    places: those of messages.
    """

    beginnings: frozenset[str]
    keys: frozenset[str]
    places: frozenset[str]

    def covers(self, key: str) -> bool:
        """Return whether the scan looked at this key."""
        return key in self.beginnings or not self.beginnings.isdisjoint(beginnings(key))


@dataclass(slots=True)
class Scan:
    """The result of one scan of a source.

    kept: keys that exist but can't be read now. kept_under: prefixes of keys of which nothing is known, which end in a slash;
    "" is all keys. Both keep what they sent last. unsettled: the keys of `kept` that are being written. arriving: those of
    `unsettled` that were first seen a moment ago. missing: problems that count only if the source ever sent something. warnings,
    passed_over: besides those of what is found. readable: the source as a whole could be read, whatever is wrong with its parts.
    part: what was looked at; None: everything. What a part does not send any more is known to be gone, so its removal is never
    held.
    """

    found: list[Found] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    missing: list[Problem] = field(default_factory=list)
    warnings: list[Notice] = field(default_factory=list)
    passed_over: list[PassedOver] = field(default_factory=list)
    kept: set[str] = field(default_factory=set)
    kept_under: set[str] = field(default_factory=set)
    unsettled: set[str] = field(default_factory=set)
    arriving: set[str] = field(default_factory=set)
    readable: bool = True
    part: Part | None = None

    def keeps(self, key: str) -> bool:
        """Return whether the key keeps what it sent last although the scan did not find it."""
        return key in self.kept or not self.kept_under.isdisjoint(beginnings(key))

    def leaves(self, where: str) -> bool:
        """Return whether what was found at a place before is still so: it is being written, or was not looked at."""
        return where in self.unsettled or (self.part is not None and where not in self.part.places)


def beginnings(key: str) -> Iterator[str]:
    """Return the beginnings of a key that end in a slash, and the empty one."""
    yield ""
    yield from (key[: place + 1] for place, letter in enumerate(key) if letter == "/")


@dataclass(frozen=True, slots=True)
class Judgement:
    """What became of a version of a key.

    fingerprint: of what it sends; empty when it sends nothing. outcome: why it sends nothing or not all. linted: warnings.
    """

    version: Hashable
    fingerprint: str = ""
    outcome: Problem | PassedOver | None = None
    check: str = ""
    linted: Linted = NOTHING_ODD
    written_hash: str = ""


class ConfigSource(ABC):
    """A source of configs. memory: {key: the judgement of its last version}, so that no version is read twice.

    findings: of the last scan by this process, more than are stored.
    """

    name: str
    # Whether all replicas read the same. Otherwise what only another one has is kept while that one scans.
    is_shared = False
    # Whether the options ask for it.
    is_used = True
    # Whether only the leader scans it: the options that make it may be others in other processes.
    is_leaders = False

    def __init__(self) -> None:
        self.memory: dict[str, Judgement] = {}
        self.findings: Findings | None = None

    @property
    def replica(self) -> str:
        """Whose reading it is: that of this replica, or of all."""
        return "" if self.is_shared else conf.REPLICA

    def remember(self, scan: Scan, judged: Mapping[str, Judgement]) -> None:
        """Remember the judgements of a scan, and forget those of keys that are gone."""
        if scan.part is None:
            self.memory = {key: known for key, known in self.memory.items() if scan.keeps(key)}
        for key in scan.part.keys if scan.part else ():
            if not scan.keeps(key):
                self.memory.pop(key, None)
        self.memory.update(judged)

    @abstractmethod
    def scan(self) -> Scan:
        """Return what the source has now. Raises nothing: unreadable parts are problems of the scan."""
