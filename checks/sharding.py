"""Cutting a config into shards, which are dispatched each for itself, and putting them together again.

What is cut, and into what, is the Datadog Cluster Agent's. Pure: no database, no options.
"""

from collections.abc import Container, Iterable, Mapping
from dataclasses import replace

from yaml import MappingNode, Node, ScalarNode, SequenceNode

from checks import yamlnodes
from checks.wire import IntegrationConfig
from checks.yamlnodes import OddYAML

KSM = "kubernetes_state_core"
_SERVICE_ID = "#instance-shard-"
# Each shard repeats what its config has besides instances. What would become too much is dispatched whole.
MOST_REPEATED = 64 * 1024 * 1024
_PODS, _NODES, _OTHERS = range(3)

# What the check collects when its instance does not say: kube-state-metrics' defaults and `endpoints`. Newer resources are
# left out, since agents whose kube-state-metrics does not know one refuse the whole instance.
_DEFAULT_COLLECTORS = (
    "certificatesigningrequests", "configmaps", "cronjobs", "daemonsets", "deployments", "endpoints",
    "horizontalpodautoscalers", "ingresses", "jobs", "leases", "limitranges", "mutatingwebhookconfigurations",
    "namespaces", "networkpolicies", "nodes", "persistentvolumeclaims", "persistentvolumes", "poddisruptionbudgets",
    "pods", "replicasets", "replicationcontrollers", "resourcequotas", "secrets", "services", "statefulsets",
    "storageclasses", "validatingwebhookconfigurations", "volumeattachments",
)  # fmt: skip


def key_of(parent: str, number: int) -> str:
    """The key of a shard's origin."""
    return f"{parent}#{number}"


def parent_of(key: str) -> str:
    """The key whose config was cut into the shard of this key; the key itself when it is no shard's."""
    parent, _, number = key.rpartition("#")
    return parent if number.isascii() and number.isdecimal() else key


def is_shard(key: str) -> bool:
    return parent_of(key) != key


def cut(
    config: IntegrationConfig, *, resources: bool, instances: bool, excluded: Container[str] = ()
) -> dict[int, IntegrationConfig]:
    """The shards by their numbers; none when the config is dispatched whole.

    resources: cut kubernetes_state_core by groups of collectors. instances: cut the others by instance, but for checks
    that are excluded. The number of a shard says which part it is, so that one part can come and go without the others.
    """
    if not config.cluster_check or config.is_endpoint:
        return {}
    if config.name == KSM:
        return _by_resources(config) if resources else {}
    if not instances or len(config.instances) < 2 or config.name in excluded or (config.logs or "").strip():
        return {}
    if repeated(config) * len(config.instances) > MOST_REPEATED:
        return {}
    # The number in the service ID keeps shards apart that say the same.
    return {
        number: replace(config, instances=(instance,), service_id=f"{config.service_id}{_SERVICE_ID}{number}")
        for number, instance in enumerate(config.instances)
    }


def repeated(config: IntegrationConfig) -> int:
    """How many characters of the config each of its shards has."""
    return len(config.init_config or "") + len(config.metric_config or "")


def whole(shards: Mapping[int, IntegrationConfig]) -> IntegrationConfig:
    """A config that is cut into these shards."""
    parts = [shards[number] for number in sorted(shards)]
    texts = [instance for part in parts for instance in part.instances]
    if parts[0].name == KSM:
        return replace(parts[0], instances=tuple(_joined(texts)))
    return replace(parts[0], instances=tuple(texts), service_id=parts[0].service_id.rpartition(_SERVICE_ID)[0])


def grouped(collectors: Iterable[str]) -> dict[int, list[str]]:
    """The collectors that go into the shard of each number: pods are many, nodes are wide, the others are together."""
    groups: dict[int, list[str]] = {}
    for collector in sorted(set(collectors)):
        groups.setdefault({"pods": _PODS, "nodes": _NODES}.get(collector, _OTHERS), []).append(collector)
    return groups


def _by_resources(config: IntegrationConfig) -> dict[int, IntegrationConfig]:
    try:
        roots = [yamlnodes.read(instance) for instance in config.instances]
    except OddYAML:
        return {}
    aggregates = tuple(text for text, root in zip(config.instances, roots, strict=True) if _only_aggregates(root))
    (root, *more) = [root for root in roots if not _only_aggregates(root)] or [None]
    if more or not isinstance(root, MappingNode) or yamlnodes.get(root, "shard_criteria") is not None:
        return {}
    groups = grouped(_collectors(root))
    if len(groups) < 2:
        return {}
    shards = {number: (_collecting(root, group),) for number, group in groups.items()}
    if aggregates:
        # They belong to the pods.
        shards[_PODS] = (*shards.get(_PODS, ()), *aggregates)
    return {number: replace(config, instances=shards[number]) for number in sorted(shards)}


def _only_aggregates(root: Node | None) -> bool:
    mode = yamlnodes.get(root, "pod_collection_mode") if isinstance(root, MappingNode) else None
    return isinstance(mode, ScalarNode) and mode.value == "cluster_aggregates_only"


def _collectors(root: MappingNode) -> list[str]:
    """What the instance collects; nothing when it can't be told."""
    node = yamlnodes.get(root, "collectors")
    if yamlnodes.is_null(node) or (isinstance(node, SequenceNode) and not node.value):
        return list(_DEFAULT_COLLECTORS)
    items = node.value if isinstance(node, SequenceNode) else []
    return [item.value for item in items] if all(isinstance(item, ScalarNode) for item in items) else []


def _collecting(root: MappingNode, collectors: list[str]) -> str:
    """The instance's text when it collects just these. Shards don't elect a leader: each runs once in the cluster anyway."""
    instance = MappingNode(root.tag, root.value, flow_style=False)
    yamlnodes.put(instance, "collectors", yamlnodes.sequence(collectors))
    yamlnodes.put(instance, "skip_leader_election", yamlnodes.true())
    return yamlnodes.write(instance)


def _joined(texts: Iterable[str]) -> Iterable[str]:
    """The one instance that all groups of collectors were cut from, and what rode with them."""
    read = {text: yamlnodes.read(text) for text in texts}
    parts = [root for root in read.values() if isinstance(root, MappingNode) and not _only_aggregates(root)]
    collectors = sorted({collector for part in parts for collector in _collectors(part)})
    return _collecting(parts[0], collectors), *(text for text, root in read.items() if _only_aggregates(root))
