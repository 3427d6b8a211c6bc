"""What should be said of the declared checks of a cluster: of each ClusterCheck, and of each DatadogInstrumentation."""

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping

from checks.models.configs import KUBERNETES
from checks.sources.kubernetes.clusterchecks import OF_CLUSTERCHECKS, ClusterCheck
from checks.sources.kubernetes.conditions import Standing, of_clustercheck, of_instrumentation
from checks.sources.kubernetes.instrumentations import OF_INSTRUMENTATIONS, Instrumentation
from checks.sources.kubernetes.resources import CLUSTERCHECKS, INSTRUMENTATIONS
from checks.sources.kubernetes.statuses import Key, Wanted
from checks.sources.source import PassedOver, Problem

# How what a source sends under keys with these beginnings stands: {key: standing}.
Standings = Callable[[str, Collection[str]], Mapping[str, Standing]]


def wanted(
    clusterchecks: Collection[ClusterCheck],
    problems: Iterable[Problem],
    passed_over: Iterable[PassedOver],
    standings: Standings,
    instrumentations: Collection[Instrumentation] = (),
) -> dict[Key, Wanted]:
    """Return the statuses that these should have. Asks nothing if there are none."""
    beginnings = [OF_CLUSTERCHECKS] * bool(clusterchecks) + [OF_INSTRUMENTATIONS] * bool(instrumentations)
    if not beginnings:
        return {}
    # Kind, namespace and name are the beginning of a key.
    stand: dict[str, list[Standing]] = defaultdict(list)
    for key, standing in standings(KUBERNETES, beginnings).items():
        stand["/".join(key.split("/")[:3])].append(standing)
    errors: dict[str, str] = {}
    for problem in problems:
        errors.setdefault(problem.where, problem.error)
    # Such as a check that an option excludes.
    excluded = {one.where: one.why for one in passed_over}
    said = {}
    for check in clusterchecks:
        names = f"{check.namespace}/{check.name}"
        found, place = stand.get(f"clustercheck/{names}"), f"clustercheck {names}"
        error = errors.get(place) or excluded.get(place, "")
        status = of_clustercheck(check.generation, found[0] if found else None, error, _orders(check), check.status)
        if status:
            said[Key(CLUSTERCHECKS, check.namespace, check.name)] = Wanted(status, check.status)
    for one in instrumentations:
        names = f"{one.namespace}/{one.name}"
        found, error = stand.get(f"instrumentation/{names}", []), errors.get(f"datadoginstrumentation {names}", "")
        status = of_instrumentation(one.generation, found, error, excluded.get(one.place, ""))
        said[Key(INSTRUMENTATIONS, one.namespace, one.name)] = Wanted(status, one.status)
    return said


def _orders(check: ClusterCheck) -> dict[str, str]:
    """The fields of a ClusterCheck that order something, by the kind of the order."""
    fields = {"pin": "spec.pin" if check.ordered.pin else "", "pause": "spec.paused" if check.ordered.paused else ""}
    return {kind: field for kind, field in fields.items() if field}
