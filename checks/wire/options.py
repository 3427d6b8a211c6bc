"""The options that determine the bytes of configs, and their fingerprint. Configs with another fingerprint are patched again."""

import hashlib
import json
import re

from clusteragent.lib import conf, scrub, shortids

# The version of patching and sharding. Raise it when the same config and options become other bytes. Version 1 kept the
# spelling of plain scalars, and its fingerprints do not name it.
WRITER = 2


def extra_tags() -> list[str]:
    """Return the tags that every dispatched instance gets, in the order of the Datadog Cluster Agent."""
    tags = list(conf.GLOBAL_TAGS)
    if conf.CLUSTER_NAME and conf.CLUSTER_TAG_NAME and not conf.DISABLE_CLUSTER_NAME_TAG_KEY:
        tags.append(f"{conf.CLUSTER_TAG_NAME}:{conf.CLUSTER_NAME}")
    if conf.CLUSTER_NAME:
        tags.append(f"kube_cluster_name:{conf.CLUSTER_NAME}")
    if conf.ORCH_CLUSTER_ID:
        tags.append(f"orch_cluster_id:{conf.ORCH_CLUSTER_ID}")
    return tags


def made_with() -> str:
    """Return the beginning of each fingerprint: the version and the key that make display copies."""
    return f"{scrub.VERSION}.{shortids.fingerprint()}."


def made_by_us(patched_with: str) -> bool:
    """Return whether display copies with this fingerprint may be shown: this version made them."""
    return patched_with.startswith(f"{scrub.VERSION}.")


def notes_identity(patched_with: str) -> bool:
    """Return whether the version that wrote the bytes also stored their hashes. Version 1 did not."""
    return patched_with.rpartition(".")[2].startswith("w")


def made_by_newer(patched_with: str) -> bool:
    """Return whether a later version than this one wrote the bytes. Those must not be overwritten."""
    named = re.match(r"w([0-9]+)-", patched_with.rpartition(".")[2])
    return named is not None and int(named[1]) > WRITER


def fingerprint() -> str:
    """Return the fingerprint of this process's options and version. It is equal for equal bytes, in any order of tags and names.

    It is `made_with()`, then the version of the bytes and a hash of the options. Bytes and display copies are always written
    together, so a copy that an older version made is recognised.
    """
    sharding = (
        conf.KSM_SHARDING_ENABLED,
        conf.INSTANCE_SHARDING_ENABLED,
        sorted(conf.INSTANCE_SHARDING_EXCLUDE_CHECKS),
    )
    decisive = json.dumps([sorted(set(extra_tags())), sharding])
    return f"{made_with()}w{WRITER}-{hashlib.blake2b(decisive.encode(), digest_size=8).hexdigest()}"
