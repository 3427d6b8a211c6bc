"""Titles: how people call a config. Pure.

A digest tells nobody what a config watches. Its author's words do: the name that was typed for it in the admin, else that of its
instance, else the Service that it is of, else what it connects to, else its file.
"""

from collections.abc import Sequence
from pathlib import PurePath

from checks.models import originkeys
from checks.wire.places import Call
from clusteragent.lib.scrub import scrub
from clusteragent.lib.shortids import short_id
from clusteragent.lib.words import escape_controls

MOST = 120
# Names of files that say no more than their folder, which is the check.
_EMPTY_WORDS = {"", "conf", "auto_conf", "default", "config", "metrics", "instances"}


def title(check: str, calls: Sequence[Call], source: str) -> str:
    """Return a config's title, `postgres orders`, scrubbed and at most MOST characters long; empty if nothing names it.

    calls: of its instances. source: as configs name it, `file:postgres.d/orders.yaml`.
    """
    name, place = (next(filter(None, words), "") for words in zip(*calls, strict=True)) if calls else ("", "")
    said = _typed(check, source) or name or _service(source) or place or _file(check, source)
    if not said:
        return ""
    more = f" +{len(calls) - 1}" if len(calls) > 1 else ""
    words = " ".join(escape_controls(scrub(f"{check} {said}")).split())
    return f"{words if len(words) + len(more) <= MOST else words[: MOST - len(more) - 1] + '…'}{more}"


def called(title: str, check: str, digest: str) -> str:
    """Return how people see a config: its title, else its check and its short ID. Scrubbed: the title may be an old version's."""
    return scrub(title or f"{check} {short_id(digest)}")


def _typed(check: str, source: str) -> str:
    """The name that its author typed in the admin, if it says more than the check does."""
    sender, _, key = source.partition(":")
    return key if sender == originkeys.ADMIN and key != check else ""


def _service(source: str) -> str:
    kind, name = originkeys.object_of(source.partition(":")[2])
    return name if kind else ""


def _file(check: str, source: str) -> str:
    """The file's name without its ending, if it says more than the check does."""
    sender, _, key = source.partition(":")
    stem = PurePath(key).stem if sender == "file" else ""
    return "" if stem in _EMPTY_WORDS or stem == check else stem
