"""Names of what makes configs: Services, and resources that declare checks. Pure."""

from collections import Counter
from collections.abc import Callable, Iterable
from typing import NamedTuple, TypeVar

from checks.sources.kubernetes import clusterchecks, configs, instrumentations

T = TypeVar("T")

SERVICE, CLUSTERCHECK, INSTRUMENTATION = "service", "clustercheck", "datadoginstrumentation"


class Subject(NamedTuple):
    """An object that makes configs, by itself or with others. kind: SERVICE, CLUSTERCHECK or INSTRUMENTATION."""

    kind: str
    namespace: str
    name: str

    @property
    def place(self) -> str:
        """Its name in messages."""
        return f"{self.kind} {self.namespace}/{self.name}"


def beginnings(subject: Subject) -> list[str]:
    """Return the beginnings of all keys that a subject's configs have; what does not end in a slash is a whole key."""
    if subject.kind == CLUSTERCHECK:
        return [clusterchecks.key(subject.namespace, subject.name)]
    if subject.kind == INSTRUMENTATION:
        return [instrumentations.beginning(subject.namespace, subject.name)]
    return configs.beginnings(subject.namespace, subject.name)


def in_turn(things: Iterable[T], namespace: Callable[[T], str]) -> list[T]:
    """Return the things: of each namespace the first, then of each the second, so that none waits for all of another."""
    numbers: Counter[str] = Counter()
    ranked = []
    for thing in things:
        ranked.append((numbers[namespace(thing)], thing))
        numbers[namespace(thing)] += 1
    return [thing for _, thing in sorted(ranked, key=lambda one: one[0])]
