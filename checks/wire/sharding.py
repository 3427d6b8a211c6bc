"""Cuts configs into shards, which are dispatched separately, and joins them again.

The rules of cutting are the Datadog Cluster Agent's. Pure: no database, no options.
"""

import re
from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass, replace

from yaml import MappingNode, Node, ScalarNode, SequenceNode

from checks.wire import yamlnodes
from checks.wire.patching import MAX_INSTANCES, IntegrationConfig
from checks.wire.yamlnodes import InvalidYAML

KSM = "kubernetes_state_core"
_SERVICE_ID = "#instance-shard-"
# Each shard repeats the other parts of its config. A config whose shards would exceed so many characters stays whole.
MOST_REPEATED = 64 * 1024 * 1024
# Most shards by hash of one config. The Datadog Cluster Agent has no limit, and a typing error could mean a million.
MOST_BY_HASH = 1000
_PODS, _NODES, _OTHERS = range(3)
_CRITERIA = ("namespace", "resource")
_INT, _FLOAT = "tag:yaml.org,2002:int", "tag:yaml.org,2002:float"

# The default collectors: those of kube-state-metrics, and `endpoints`. Newer ones are left out, since agents whose
# kube-state-metrics does not know one of them refuse the whole instance.
_DEFAULT_COLLECTORS = (
    "certificatesigningrequests", "configmaps", "cronjobs", "daemonsets", "deployments", "endpoints",
    "horizontalpodautoscalers", "ingresses", "jobs", "leases", "limitranges", "mutatingwebhookconfigurations",
    "namespaces", "networkpolicies", "nodes", "persistentvolumeclaims", "persistentvolumes", "poddisruptionbudgets",
    "pods", "replicasets", "replicationcontrollers", "resourcequotas", "secrets", "services", "statefulsets",
    "storageclasses", "validatingwebhookconfigurations", "volumeattachments",
)  # fmt: skip


def key_of(parent: str, number: int) -> str:
    """Return the key of a shard's origin."""
    return f"{parent}#{number}"


def parent_of(key: str) -> str:
    """Return the key of the config that a shard was cut from; the key itself when it is no shard's."""
    parent, mark, number = key.rpartition("#")
    return parent if mark and number.isascii() and number.isdecimal() else key


def is_shard(key: str) -> bool:
    """Return whether the key is a shard's."""
    return parent_of(key) != key


def cut(
    config: IntegrationConfig, *, resources: bool, instances: bool, excluded: Container[str] = ()
) -> dict[int, IntegrationConfig]:
    """Return the shards of a config: {number: config}; empty when it is dispatched whole.

    resources: cut kubernetes_state_core by groups of collectors, or by hash if its instance asks for it. instances: cut other
    configs by instance, except those of excluded checks. A number always means the same part, so that one part can change
    without the others.
    """
    # What has too many instances is refused as a whole.
    if not config.cluster_check or config.is_endpoint or len(config.instances) > MAX_INSTANCES:
        return {}
    if config.name == KSM:
        return _of_ksm(config) if resources else {}
    if not instances or len(config.instances) < 2 or config.name in excluded or (config.logs or "").strip():
        return {}
    if repeated(config) * len(config.instances) > MOST_REPEATED:
        return {}
    # The number in the service ID distinguishes equal shards.
    return {
        number: replace(config, instances=(instance,), service_id=f"{config.service_id}{_SERVICE_ID}{number}")
        for number, instance in enumerate(config.instances)
    }


def repeated(config: IntegrationConfig) -> int:
    """Return how many characters of the config each shard repeats, at most."""
    instances = sum(map(len, config.instances)) if config.name == KSM else 0
    return len(config.init_config or "") + len(config.metric_config or "") + instances


def deviations(config: IntegrationConfig) -> tuple[str, str]:
    """Return which instances of kubernetes_state_core are in no shard by hash, and why it is dispatched whole although its
    instance asks for such shards. Both are empty for all other configs.
    """
    if config.name != KSM or not config.cluster_check or config.is_endpoint:
        return "", ""
    root, aggregates = _classified(config)
    if root is None or not (request := _by_hash(root)):
        return "", ""
    if why := request.wrong or _too_much(config, request.count):
        return "", f"it asks for shards by hash and is dispatched whole: {why}"
    left, all_ = len(aggregates) - 1, len(aggregates)
    why = f"{left} of {all_} instances of cluster_aggregates_only left out: each counts all pods"
    return why if left > 0 else "", ""


def whole(shards: Mapping[int, IntegrationConfig]) -> IntegrationConfig:
    """Return the whole config of these shards, {number: config}."""
    first, *_ = parts = [shards[number] for number in sorted(shards)]
    texts = [instance for part in parts for instance in part.instances]
    if first.name != KSM:
        return replace(first, instances=tuple(texts), service_id=first.service_id.rpartition(_SERVICE_ID)[0])
    read = {text: yamlnodes.read(text) for text in texts}
    aggregates = [text for text, root in read.items() if _only_aggregates(root)]
    roots = [root for root in read.values() if isinstance(root, MappingNode) and not _only_aggregates(root)]
    if not roots:
        # The instance to cut could not be patched, so only the `cluster_aggregates_only` ones are there.
        return replace(first, instances=tuple(texts))
    if (request := _by_hash(roots[0])) and not request.wrong:
        root = MappingNode(roots[0].tag, [pair for pair in roots[0].value if pair[0].value != "shard_id"])
        instance = _hashed(root, request, None)
    else:
        instance = _collecting(roots[0], sorted({collector for root in roots for collector in _collectors(root)}))
    return replace(first, instances=(instance, *aggregates))


def grouped(collectors: Iterable[str]) -> dict[int, list[str]]:
    """Return the collectors of each shard: {number: collectors}. Pods and nodes have a shard each, the others share one."""
    groups: dict[int, list[str]] = {}
    for collector in sorted(set(collectors)):
        groups.setdefault({"pods": _PODS, "nodes": _NODES}.get(collector, _OTHERS), []).append(collector)
    return groups


@dataclass(frozen=True, slots=True)
class _Request:
    """Shards by hash, as an instance asks for them. wrong: why that is not possible."""

    criteria: list[str]
    count: int
    wrong: str = ""


def _classified(config: IntegrationConfig) -> tuple[MappingNode | None, tuple[str, ...]]:
    """The only instance that can be cut, None unless it is the only one; and the `cluster_aggregates_only` instances."""
    try:
        roots = [yamlnodes.read(instance) for instance in config.instances]
    except InvalidYAML:
        return None, ()
    aggregates = tuple(text for text, root in zip(config.instances, roots, strict=True) if _only_aggregates(root))
    others = [root for root in roots if not _only_aggregates(root)]
    root = others[0] if len(others) == 1 else None
    return (root if isinstance(root, MappingNode) else None), aggregates


def _of_ksm(config: IntegrationConfig) -> dict[int, IntegrationConfig]:
    root, aggregates = _classified(config)
    if root is None:
        return {}
    if request := _by_hash(root):
        # A config whose request can't be followed is not cut in another way, since nobody asked for that.
        if request.wrong or _too_much(config, request.count):
            return {}
        parts = [_hashed(root, request, number) for number in range(request.count)]
        # An instance that counts all pods must run once: in a shard of its own.
        parts += [_without_election(yamlnodes.read(text)) for text in aggregates[:1]]
        return {number: replace(config, instances=(part,)) for number, part in enumerate(parts)}
    groups = grouped(_collectors(root))
    if len(groups) < 2:
        return {}
    shards: dict[int, tuple[str, ...]] = {number: (_collecting(root, group),) for number, group in groups.items()}
    if aggregates:
        # They count pods, so they are in the shard of the pods.
        shards[_PODS] = (*shards.get(_PODS, ()), *aggregates)
    return {number: replace(config, instances=shards[number]) for number in sorted(shards)}


def _by_hash(root: MappingNode) -> _Request | None:
    """The request of the instance; None without one. Null and an empty list are no request."""
    wanted, number = yamlnodes.get(root, "shard_criteria"), yamlnodes.get(root, "shard_count")
    count = _whole_number(number)
    if yamlnodes.is_null(wanted) or (isinstance(wanted, SequenceNode) and not wanted.value):
        return _Request([], 0, "shard_count is not a whole number") if count is None else None
    items = wanted.value if isinstance(wanted, SequenceNode) else []
    criteria = [item.value for item in items if isinstance(item, ScalarNode)]
    if not items or set(criteria) - set(_CRITERIA) or len(set(criteria)) < len(items):
        return _Request([], 0, f"shard_criteria is not a list of {' or '.join(_CRITERIA)}, each once at most")
    if count is None or not 2 <= count <= MOST_BY_HASH:
        return _Request([], 0, f"shard_count is not a whole number from 2 to {MOST_BY_HASH}")
    return _Request(sorted(criteria), count)


def _whole_number(node: Node | None) -> int | None:
    """A scalar as the Datadog Cluster Agent reads it as a whole number; None when it refuses it. Null is 0."""
    if yamlnodes.is_null(node):
        return 0
    if not isinstance(node, ScalarNode) or node.tag not in (_INT, _FLOAT):
        return None
    text = node.value.replace("_", "").lower()
    try:
        if node.tag == _FLOAT:
            return int(float(text))
        return int(text, 8 if re.match(r"[+-]?0\d", text) else 0)
    except (ValueError, OverflowError):
        return None


def _too_much(config: IntegrationConfig, count: int) -> str:
    size = repeated(config) * count
    return f"its shards would have {size} characters, allowed are {MOST_REPEATED}" if size > MOST_REPEATED else ""


def _only_aggregates(root: Node | None) -> bool:
    mode = yamlnodes.get(root, "pod_collection_mode") if isinstance(root, MappingNode) else None
    return isinstance(mode, ScalarNode) and mode.value == "cluster_aggregates_only"


def _collectors(root: MappingNode) -> list[str]:
    """The collectors of the instance; empty when they can't be read."""
    node = yamlnodes.get(root, "collectors")
    if yamlnodes.is_null(node) or (isinstance(node, SequenceNode) and not node.value):
        return list(_DEFAULT_COLLECTORS)
    items = node.value if isinstance(node, SequenceNode) else []
    return [item.value for item in items] if all(isinstance(item, ScalarNode) for item in items) else []


def _collecting(root: MappingNode, collectors: list[str]) -> str:
    """The instance's text with only these collectors."""
    return _without_election(root, collectors=yamlnodes.sequence(collectors))


def _hashed(root: MappingNode, request: _Request, number: int | None) -> str:
    """The instance's text as the shard of this number; as the whole without a number."""
    parts: dict[str, Node] = {
        "shard_criteria": yamlnodes.sequence(request.criteria),
        "shard_count": ScalarNode(_INT, str(request.count)),
    }
    if number is not None:
        parts["shard_id"] = ScalarNode(_INT, str(number))
    return _without_election(root, **parts)


def _without_election(root: Node | None, **parts: Node) -> str:
    """The instance's text with these keys and without leader election: each shard runs once in the cluster anyway."""
    assert isinstance(root, MappingNode)
    instance = MappingNode(root.tag, root.value, flow_style=False)
    for key, value in (parts | {"skip_leader_election": yamlnodes.true()}).items():
        yamlnodes.put(instance, key, value)
    return yamlnodes.write(instance)
