"""Names of what makes configs: Services and ClusterChecks. Pure."""

from typing import NamedTuple

from checks.sources.kubernetes import clusterchecks, configs

SERVICE, CLUSTERCHECK = "service", "clustercheck"


class Subject(NamedTuple):
    """An object that makes configs, by itself or with others. kind: SERVICE or CLUSTERCHECK."""

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
    return configs.beginnings(subject.namespace, subject.name)
