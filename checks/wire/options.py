"""The options that decide which bytes a config becomes, and their fingerprint: what was patched with others is patched again."""

import hashlib
import json
import re

from checks.wire import patching
from clusteragent.lib import conf, scrub, shortids

# The version of what makes the bytes, wire.patch and the cutting into shards: to be raised when the same config and options
# become other bytes. Version 1 kept the letters of plain scalars, and is not named in what it patched.
WRITER = 2


def extra_tags() -> list[str]:
    """The tags that every dispatched instance gets."""
    return patching.extra_tags(
        global_tags=conf.GLOBAL_TAGS,
        cluster_name=conf.CLUSTER_NAME,
        cluster_tag_name=conf.CLUSTER_TAG_NAME,
        disable_cluster_name_tag_key=conf.DISABLE_CLUSTER_NAME_TAG_KEY,
        orch_cluster_id=conf.ORCH_CLUSTER_ID,
    )


def made_with() -> str:
    """What the copies that people see are made with: the beginning of each fingerprint. No other version's begins so."""
    return f"{scrub.VERSION}.{shortids.fingerprint()}."


def made_by_us(patched_with: str) -> bool:
    """Whether a copy is one that may be shown, by the fingerprint that it was stored with."""
    return patched_with.startswith(f"{scrub.VERSION}.")


def notes_identity(patched_with: str) -> bool:
    """Whether the writer of the bytes noted what they say: the first one did not."""
    return patched_with.rpartition(".")[2].startswith("w")


def made_by_newer(patched_with: str) -> bool:
    """Whether a later version than this one wrote the bytes, which is not to be undone."""
    named = re.match(r"w([0-9]+)-", patched_with.rpartition(".")[2])
    return named is not None and int(named[1]) > WRITER


def fingerprint() -> str:
    """Of this process's options and writer: equal for equal bytes, whatever the order in which tags and names are given.

    It begins with what the copies are made with, and all that writes bytes writes both: so a copy that a replica of an
    older version made is known for that. The writer's version follows.
    """
    sharding = (
        conf.KSM_SHARDING_ENABLED,
        conf.INSTANCE_SHARDING_ENABLED,
        sorted(conf.INSTANCE_SHARDING_EXCLUDE_CHECKS),
    )
    decisive = json.dumps([sorted(set(extra_tags())), sharding])
    return f"{made_with()}w{WRITER}-{hashlib.blake2b(decisive.encode(), digest_size=8).hexdigest()}"
