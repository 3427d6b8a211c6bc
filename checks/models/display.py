"""The copy of a config that people see: scrubbed and named by short IDs, once, when the config is stored.

Pages, lists, searches, the operators' API and the metrics read the copy. A config that says with what its copy was made
(`Config.patched_with`) as another version than ours is not shown until the leader has made it anew (checks/sources/renewing.py).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.db.models import Q

from checks.wire.lint import Notice
from checks.wire.options import made_by_us
from checks.wire.sharding import parent_of
from clusteragent.lib.scrub import VERSION
from clusteragent.lib.shortids import short_id

if TYPE_CHECKING:
    from checks.models import Config

NOT_YET = "# Not shown yet: what hides secrets is newer than this copy, which is made anew within minutes.\n"


def is_ours(config: str = "") -> Q:
    """Rows whose configs' copies may be shown. config: where the rows are others, how they name their config."""
    return Q(**{f"{config}patched_with__startswith": f"{VERSION}."})


def text(config: Config) -> str:
    """What node agents get of a config, as people see it."""
    return config.text if made_by_us(config.patched_with) else NOT_YET


def warnings(config: Config) -> list[Notice]:
    """What the authors of a config may not have meant."""
    # Not at the top: the models import this module's neighbours.
    from checks.models import Source

    return Source.objects.warnings_of({(origin.source, parent_of(origin.key)) for origin in config.origins.all()})


def sees_digests(user: Any) -> bool:
    """Whether someone may see, and search by, the digests and check IDs that node agents have."""
    return bool(user.has_perm("checks.view_digests"))


def digest(exact: str, user: Any) -> str:
    """A digest as someone sees it."""
    return exact if sees_digests(user) else short_id(exact)
