"""What should be said of the declared checks of a cluster: of each ClusterCheck, and of each DatadogInstrumentation."""

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Protocol

from checks.models.configs import KUBERNETES
from checks.sources.kubernetes.conditions import Standing, of_clustercheck, of_instrumentation
from checks.sources.kubernetes.resources import CLUSTERCHECKS, INSTRUMENTATIONS, Object
from checks.sources.kubernetes.statuses import Key, Wanted
from checks.sources.source import Problem

# How what a source sends under keys with these beginnings stands: {key: standing}.
Standings = Callable[[str, Collection[str]], Mapping[str, Standing]]


class Instrumentation(Protocol):
    """What is known of a DatadogInstrumentation. status: as the watch told it."""

    @property
    def namespace(self) -> str: ...

    @property
    def name(self) -> str: ...

    @property
    def generation(self) -> int: ...

    @property
    def status(self) -> Object: ...


class ClusterCheck(Instrumentation, Protocol):
    """What is known of a ClusterCheck. orders: what its fields order, {kind of order: field}."""

    @property
    def orders(self) -> Mapping[str, str]: ...


def wanted(
    clusterchecks: Collection[ClusterCheck],
    instrumentations: Collection[Instrumentation],
    problems: Iterable[Problem],
    standings: Standings,
) -> dict[Key, Wanted]:
    """Return the statuses that these should have. Asks nothing if there are none."""
    beginnings = ["clustercheck/"] * bool(clusterchecks) + ["instrumentation/"] * bool(instrumentations)
    if not beginnings:
        return {}
    # Kind, namespace and name are the beginning of a key.
    stand: dict[str, list[Standing]] = defaultdict(list)
    for key, standing in standings(KUBERNETES, beginnings).items():
        stand["/".join(key.split("/")[:3])].append(standing)
    errors: dict[str, str] = {}
    for problem in problems:
        errors.setdefault(problem.where, problem.error)
    said = {}
    for check in clusterchecks:
        names = f"{check.namespace}/{check.name}"
        found, error = stand.get(f"clustercheck/{names}"), errors.get(f"clustercheck {names}", "")
        status = of_clustercheck(check.generation, found[0] if found else None, error, check.orders, check.status)
        if status:
            said[Key(CLUSTERCHECKS, check.namespace, check.name)] = Wanted(status, check.status)
    for one in instrumentations:
        names = f"{one.namespace}/{one.name}"
        found, error = stand.get(f"instrumentation/{names}", []), errors.get(f"datadoginstrumentation {names}", "")
        status = of_instrumentation(one.generation, found, error)
        said[Key(INSTRUMENTATIONS, one.namespace, one.name)] = Wanted(status, one.status)
    return said
