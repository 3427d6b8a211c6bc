"""The resource ClusterCheck: a check that is declared in Kubernetes, and where it may run. Pure.

Its definition in the cluster may be an older one, so that every field is judged here again.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from checks.sources.kubernetes import gojson
from checks.sources.kubernetes.annotations import MOST_INSTANCES
from checks.sources.kubernetes.configs import Made, Options
from checks.sources.kubernetes.gojson import InvalidJSON
from checks.sources.kubernetes.resources import Object
from checks.sources.kubernetes.variables import Target, Unresolved, resolve
from checks.sources.source import Aim, Ordered
from checks.wire.patching import MAX_NAME, IntegrationConfig
from clusteragent.lib import words

PROVIDER = "kubernetes-clusterchecks"
# The beginning of the keys of all of them.
OF_CLUSTERCHECKS = "clustercheck/"
_NOTHING = Ordered()
_AIMS = ("node", "pattern", "label")


@dataclass(frozen=True, slots=True)
class ClusterCheck:
    """A ClusterCheck. Those that differ only in their status are equal.

    error: why its spec makes no check; empty if it makes one. init_config, instances: as JSON. ordered: what it orders of its
    config. status: as it was last seen.
    """

    namespace: str
    name: str
    generation: int = 0
    check: str = ""
    init_config: str = "{}"
    instances: tuple[str, ...] = ()
    ordered: Ordered = _NOTHING
    error: str = ""
    status: Mapping[str, Any] = field(default_factory=dict, compare=False)


class InvalidSpec(ValueError):
    """A field of a spec can't be used. The message names it, and holds no value of it."""


def read_clustercheck(data: Object) -> ClusterCheck:
    """Return what is kept of a ClusterCheck. Only its names must be there."""
    metadata, spec, status = data["metadata"], data.get("spec"), data.get("status")
    generation = metadata.get("generation")
    known: dict[str, Any] = {
        "namespace": metadata["namespace"],
        "name": metadata["name"],
        "generation": generation if type(generation) is int else 0,
        "status": status if isinstance(status, dict) else {},
    }
    try:
        return ClusterCheck(**known, **_spec(spec))
    except InvalidSpec as error:
        return ClusterCheck(**known, error=str(error))


def key(namespace: str, name: str) -> str:
    """Return the key of the config of a ClusterCheck."""
    return f"{OF_CLUSTERCHECKS}{namespace}/{name}"


def make(declared: ClusterCheck, options: Options) -> Made:
    """Return the config that a ClusterCheck makes. Raises nothing."""
    made, its_key = Made(), key(declared.namespace, declared.name)
    try:
        made.put(its_key, _config(declared, options), declared.namespace, options.secrets)
    except (InvalidSpec, Unresolved) as error:
        # What it sent before goes on.
        made.kept.add(its_key)
        made.fail(f"clustercheck {declared.namespace}/{declared.name}", str(error))
    return made


def _config(declared: ClusterCheck, options: Options) -> IntegrationConfig:
    if declared.error:
        raise InvalidSpec(declared.error)
    target = Target(
        namespace=declared.namespace,
        host="",
        ports=(),
        tags=(),
        hostless="a ClusterCheck is about no Service: write the address",
        portless="a ClusterCheck is about no Service: write the port",
    )

    def resolved(field: str, text: str) -> str:
        try:
            return resolve(text, target, options.environment)
        except Unresolved as error:
            raise InvalidSpec(f"{field}: {error}") from None

    return IntegrationConfig(
        name=declared.check,
        instances=tuple(resolved(f"spec.instances[{number}]", text) for number, text in enumerate(declared.instances)),
        init_config=resolved("spec.initConfig", declared.init_config),
        provider=PROVIDER,
        cluster_check=True,
        source=f"clustercheck:{declared.namespace}/{declared.name}",
    )


def _spec(spec: object) -> dict[str, Any]:
    if not isinstance(spec, dict):
        raise InvalidSpec("spec is missing" if spec is None else "spec is no object")
    init_config = spec.get("initConfig")
    return {
        "check": _check(spec),
        "init_config": _json("spec.initConfig", {} if init_config is None else init_config),
        "instances": _instances(spec),
        "ordered": Ordered(paused=_flag("spec.paused", spec.get("paused")), pin=_pin(spec.get("pin"))),
    }


def _check(spec: Object) -> str:
    check = spec.get("check")
    if check is None:
        raise InvalidSpec("spec.check is missing: it is the name of the check, such as http_check")
    if not isinstance(check, str) or not check:
        raise InvalidSpec("spec.check is no name of a check")
    if len(check) > MAX_NAME:
        raise InvalidSpec(f"spec.check is longer than {MAX_NAME} characters")
    return gojson.utf8(check)


def _instances(spec: Object) -> tuple[str, ...]:
    instances = spec.get("instances")
    if instances is None:
        raise InvalidSpec("spec.instances is missing: a check needs at least one, which may be {}")
    if not isinstance(instances, list):
        raise InvalidSpec("spec.instances is no list")
    if not instances:
        raise InvalidSpec("spec.instances is empty: a check needs at least one, which may be {}")
    if len(instances) > MOST_INSTANCES:
        raise InvalidSpec(f"spec.instances has {len(instances)}, allowed are {MOST_INSTANCES}")
    # Numbers as those of annotations: they are read again as Go reads them.
    return tuple(_json(f"spec.instances[{number}]", each, as_annotated=True) for number, each in enumerate(instances))


def _json(field: str, value: object, *, as_annotated: bool = False) -> str:
    if not isinstance(value, dict):
        raise InvalidSpec(f"{field} is no object")
    try:
        text = gojson.write(value)
        return gojson.write(gojson.read(text)) if as_annotated else text
    except InvalidJSON as error:
        raise InvalidSpec(f"{field} {error}") from None


def _flag(field: str, value: object) -> bool:
    if not isinstance(value, bool | None):
        raise InvalidSpec(f"{field} is neither true nor false")
    return bool(value)


def _pin(pin: object) -> Aim | None:
    if pin is None:
        return None
    if not isinstance(pin, dict):
        raise InvalidSpec("spec.pin is no object")
    given = [name for name in _AIMS if pin.get(name) is not None]
    if len(given) != 1:
        raise InvalidSpec(
            f"spec.pin needs exactly one of {words.listed(_AIMS)}, but has {words.listed(given) or 'none'}"
        )
    [name] = given
    aim = pin[name]
    if not isinstance(aim, str) or not aim:
        raise InvalidSpec(f"spec.pin.{name} is no text")
    if len(aim) > MAX_NAME:
        raise InvalidSpec(f"spec.pin.{name} is longer than {MAX_NAME} characters")
    if "\0" in aim:
        raise InvalidSpec(f"spec.pin.{name} holds a zero byte")
    if name == "label" and not all(aim.partition("=")[:2]):
        raise InvalidSpec("spec.pin.label is no label with a value: it is written as zone=a")
    return Aim(name, gojson.utf8(aim), waits=_flag("spec.pin.waits", pin.get("waits")))
