"""The interface of a config source, and the results of its scans."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import NamedTuple

from checks.wire.lint import NOTHING_ODD, Linted, place
from checks.wire.patching import IntegrationConfig


@dataclass(frozen=True, slots=True)
class Problem:
    """An error of a source. where: a place in the source, such as a file's key. line: counted from 1."""

    where: str
    line: int | None
    error: str

    def __str__(self) -> str:
        return f"{place(self.where, self.line)}: {self.error}"


@dataclass(frozen=True, slots=True)
class PassedOver:
    """A config that is read but never dispatched. why: the rule that says so."""

    where: str
    why: str


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

    read: returns the config; raises BrokenConfig or Unsettled.
    """

    key: str
    version: Hashable
    read: Callable[[], Read]


@dataclass(slots=True)
class Scan:
    """The result of one scan of a source.

    kept: keys that exist but can't be read now. kept_under: prefixes of keys of which nothing is known; "" is all keys. Both
    keep what they sent last. unsettled: the keys of `kept` that are being written. arriving: those of `unsettled` that were
    first seen a moment ago. missing: problems that count only if the source ever sent something. readable: the source as a
    whole could be read, whatever is wrong with its parts.
    """

    found: list[Found] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    missing: list[Problem] = field(default_factory=list)
    kept: set[str] = field(default_factory=set)
    kept_under: set[str] = field(default_factory=set)
    unsettled: set[str] = field(default_factory=set)
    arriving: set[str] = field(default_factory=set)
    readable: bool = True

    def keeps(self, key: str) -> bool:
        """Return whether the key keeps what it sent last although the scan did not find it."""
        return key in self.kept or any(key.startswith(beginning) for beginning in self.kept_under)


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
    """A source of configs. memory: {key: the judgement of its last version}, so that no version is read twice."""

    name: str

    def __init__(self) -> None:
        self.memory: dict[str, Judgement] = {}

    @abstractmethod
    def scan(self) -> Scan:
        """Return what the source has now. Raises nothing: unreadable parts are problems of the scan."""
