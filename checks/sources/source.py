"""The contract of a config source: what AutoConf asks of it, and what it is told."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import NamedTuple

from checks.wire.lint import NOTHING_ODD, Linted, place
from checks.wire.patching import IntegrationConfig


@dataclass(frozen=True, slots=True)
class Problem:
    """What is wrong, and where: a place that its source's people know, and a line of it counted from 1."""

    where: str
    line: int | None
    error: str

    def __str__(self) -> str:
        return f"{place(self.where, self.line)}: {self.error}"


@dataclass(frozen=True, slots=True)
class PassedOver:
    """What is read and never dispatched, and which rule says so."""

    where: str
    why: str


class BrokenConfig(ValueError):
    """What stands under a key is no config. lasting: it will be as long as the key's version stays."""

    def __init__(self, error: str, line: int | None = None, *, lasting: bool = True) -> None:
        super().__init__(error)
        self.line = line
        self.lasting = lasting


class Unsettled(Exception):
    """What stands under a key is being written right now."""


class Read(NamedTuple):
    """A config, what its author may not have meant, and the text where it is one."""

    config: IntegrationConfig
    linted: Linted = NOTHING_ODD
    text: str = ""


class Found(NamedTuple):
    """A config that a source has. Equal versions of a key have equal configs, so that each is read once.

    read raises BrokenConfig or Unsettled.
    """

    key: str
    version: Hashable
    read: Callable[[], Read]


@dataclass(slots=True)
class Scan:
    """One look at a source. readable: it could be looked at as a whole, whatever is wrong with its parts.

    kept: keys that exist and can't be told now; kept_under: beginnings of keys about which nothing is known ("" is all of
    them). Both keep what they sent last. unsettled: those of `kept` that are being written; arriving: those of them that
    were first seen a moment ago. missing: problems that count only if the source ever sent something.
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
        """Whether the key's absence from what was found says nothing."""
        return key in self.kept or any(key.startswith(beginning) for beginning in self.kept_under)


@dataclass(frozen=True, slots=True)
class Judgement:
    """What became of a key's version: the fingerprint of what it sends, why it sends nothing or not all, and what is odd."""

    version: Hashable
    fingerprint: str = ""
    outcome: Problem | PassedOver | None = None
    check: str = ""
    linted: Linted = NOTHING_ODD
    written_hash: str = ""

    def keeps_sending(self) -> bool:
        """Whether what the key sent last stays: a broken config is still the config that it was."""
        return bool(self.fingerprint) or isinstance(self.outcome, Problem)

    def is_other_check(self) -> bool:
        """Whether it is a check of node agents themselves, none of the cluster's."""
        return not self.fingerprint and self.outcome is None


class ConfigSource(ABC):
    """Where configs come from. `memory` is what this process knows of each key, so that nothing is read twice."""

    name: str

    def __init__(self) -> None:
        self.memory: dict[str, Judgement] = {}

    @abstractmethod
    def scan(self) -> Scan:
        """Look at everything the source has. Raises nothing: what can't be read is a problem of the scan."""
