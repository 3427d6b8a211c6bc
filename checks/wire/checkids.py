"""Check IDs: the names under which runners report instances, and what of an instance they depend on.

Formulas are the Datadog Agent's. Pure.
"""

import struct

from fnv_c import fnv1_64
from yaml import MappingNode, Node, ScalarNode, SequenceNode

from checks.wire import goyaml, scalars, yamlnodes

# Check IDs are indexed, and PostgreSQL refuses index entries above 2 704 bytes.
MAX_CHECK_ID_BYTES = 2000
DEFAULT_INTERVAL = 15.0

# The keys whose values are parts of check IDs.
NAMES = ("name", "namespace")
# The keys that node agents read in each instance, and the types that they accept besides null.
_TEXT = (scalars.STR, scalars.BOOL, scalars.INT, scalars.FLOAT, scalars.BINARY)
_WHOLE = (scalars.INT, scalars.FLOAT)
_FIELD_TYPES: dict[str, tuple[str, ...]] = {
    "name": _TEXT,
    "namespace": _TEXT,
    "service": _TEXT,
    "tags": (yamlnodes.SEQ,),
    "min_collection_interval": _WHOLE,
    "empty_default_hostname": (scalars.BOOL,),
    "no_index": (scalars.BOOL,),
}


def check_id(name: str, instance_name: str, fast: int, instance: str, init_config: str | None) -> str:
    """Return the check ID under which a runner reports an instance. fast: the FastDigest. The texts are those that are sent."""
    hashed = fnv1_64(struct.pack(">Q", fast) + instance.encode() + (init_config or "").encode())
    return f"{name}:{instance_name}:{hashed:x}" if instance_name else f"{name}:{hashed:x}"


def instance_name(instance: MappingNode) -> str:
    """Return the instance's own part of the check ID: its `name`, else its `namespace`; empty without both.

    Node agents read these keys together with some others. If one of them has a wrong type, they read none.
    """
    fields = {key.value: value for key, value in instance.value if key.value in _FIELD_TYPES}
    if not all(_is_readable(fields[key], _FIELD_TYPES[key]) for key in fields):
        return ""
    names = [fields[key] for key in NAMES if key in fields]
    return next((name.value for name in names if name.value and name.tag != yamlnodes.NULL), "")


def collection_interval(instance: MappingNode) -> float:
    """Return the seconds between two runs: `min_collection_interval` if it is a positive number, else the agents' default."""
    asked = yamlnodes.get(instance, "min_collection_interval")
    try:
        seconds = float(asked.value) if isinstance(asked, ScalarNode) else 0.0
    except ValueError:
        seconds = 0.0
    # Bounded, so that a division by it does not overflow.
    return min(max(seconds, 0.001), 1e9) if seconds > 0 else DEFAULT_INTERVAL


def _is_readable(node: Node, types: tuple[str, ...]) -> bool:
    if isinstance(node, SequenceNode) and node.tag in types:
        return all(_is_readable(item, _TEXT) for item in node.value)
    if types is _WHOLE and isinstance(node, ScalarNode) and node.tag in types:
        return goyaml.fits_64_bits(node)
    return node.tag in types or node.tag == yamlnodes.NULL
