"""A map of the nodes: a tile a node, by pool or by failure domain. Its size tells how many configs it has, its look the load."""

import math
from collections import Counter
from collections.abc import Iterable, Iterator
from html import escape
from typing import NamedTuple
from urllib.parse import urlencode

from django.http import HttpRequest, HttpResponse
from django.utils.safestring import SafeString

from checks.dispatcher import costs
from clusteragent.lib import clock
from clusteragent.lib.words import grouped_count, listed, percent
from nodes.models import Node
from nodes.models.nodes import named_domain
from operators.admin.base import list_url
from operators.pages import base, now
from operators.pages.pools import Member, NodePool, pools

# Of more nodes the tiles are small, and show their words on focus and on hover alone.
DENSE = 400
# The sizes of tiles: 1 for none or hardly any of the most configs that a node has, SIZES for as many.
SIZES = 6
# The most lost nodes that a group names.
MOST_LOST = 5


class Group(NamedTuple):
    """Nodes whose tiles stand together. url: of their list. alone: the address of the map of them alone, if that is larger."""

    title: str
    pool: NodePool
    url: str
    tiles: SafeString
    lost: str
    alone: str


class Band(NamedTuple):
    """Nodes whose loads are at least `least`, up to the next band. name: in the page's address."""

    name: str
    least: float
    text: str


# From the highest one on. A node without a known load has 0 %.
BANDS = (
    Band("over", math.nextafter(1, 2), "above 100 %"),
    Band("high", 0.8, "80 to 100 %"),
    Band("middle", 0.5, "50 to 80 %"),
    Band("low", 0.2, "20 to 50 %"),
    Band("idle", 0, "below 20 %"),
)
# Of nodes whose load is a guess, whatever that is.
ASSUMED = Band("assumed", math.inf, "assumed, not measured")
_NAMES = {band.name for band in (*BANDS, ASSUMED)}
WAYS = {"pool": "By pool", "domain": "By failure domain"}


def band_of(load: float) -> Band:
    """The band of a load."""
    return next((band for band in BANDS if load >= band.least), BANDS[-1])


def _band(member: Member) -> Band:
    """The band of a node."""
    return ASSUMED if member.is_assumed else band_of(member.load)


@base.page
def nodemap(request: HttpRequest) -> HttpResponse:
    """The map. `?by=pool|domain`, `?load=` with a band's name for its nodes alone, `?group=` with a group's title for that."""
    by = request.GET.get("by", "pool")
    by = by if by in WAYS else "pool"
    members = now.members()
    known = [member for member in members if member.state != "lost"]
    counts = Counter(_band(member).name for member in known)
    wanted = request.GET.get("load", "")
    chosen = [one for one in members if wanted not in _NAMES or (one.state != "lost" and _band(one).name == wanted)]
    most = max((member.configs for member in members), default=0)
    asked = {"by": by} | ({"load": wanted} if wanted in _NAMES else {})
    found, only = _groups(members, chosen, by), request.GET.get("group", "")
    found = [group for group in found if only in ("", group[0])]
    is_dense = sum(len(pool.members) for _, pool, _ in found) > DENSE
    context = {
        "groups": [
            Group(
                title, pool, url, _tiles(pool.members, most, is_dense), _lost(pool.members),
                "?" + urlencode(asked | {"group": title}) if is_dense and len(pool.members) <= DENSE else "",
            )
            for title, pool, url in found
        ],
        "only": only, "all": "?" + urlencode(asked),
        "legend": [
            (band, counts[band.name], "?" + urlencode({"by": by, "load": band.name}))
            for band in (*BANDS, *([ASSUMED] if counts[ASSUMED.name] else []))
        ],
        "ways": WAYS, "by": by, "load": wanted if wanted in _NAMES else "", "is_dense": is_dense, "at": clock.now(),
        "number": len(chosen), "assumed": costs.assumed(),
    }  # fmt: skip
    return base.render(request, "operators/nodemap.html", "Map", **context)


def _groups(members: Iterable[Member], chosen: Iterable[Member], by: str) -> list[tuple[str, NodePool, str]]:
    """The groups of the map: (title, group, address of its list). Pools with trouble first, then the largest; domains by name.

    chosen: those of the nodes that are shown. Which pool a node is of, all nodes tell.
    """
    if by == "pool":
        shown, many, single = {one.id for one in chosen}, [], NodePool("Nodes of no pool")
        for pool in pools(members):
            left = [one for one in pool.members if one.id in shown]
            if len(pool.members) == 1:
                single.members += left
            elif left:
                many.append((pool.name, NodePool(pool.name, left), now.pool_url(pool)))
        return [*many, (single.name, single, list_url(Node))] if single.members else many
    groups: dict[str, NodePool] = {}
    for member in chosen:
        groups.setdefault(member.domain, NodePool(named_domain(member.domain))).members.append(member)
    urls = {name: list_url(Node, domain=name) if name else list_url(Node) for name in groups}
    return [(groups[name].name, groups[name], urls[name]) for name in sorted(groups)]


def _tiles(members: Iterable[Member], most: int, is_dense: bool) -> SafeString:
    """The tiles of these nodes: the highest loads first, then those that are guesses, lost nodes last."""
    tiles = sorted(members, key=lambda one: (one.state == "lost", one.is_assumed, -one.load, -one.configs, one.name))
    return SafeString("".join(_links(tiles, most, is_dense)))


def _links(members: Iterable[Member], most: int, is_dense: bool) -> Iterator[str]:
    """A link each, in plain strings: resolving URLs and escaping what is ours would take half a second for 10 000."""
    url = list_url(Node)
    for member in members:
        size = max(1, math.ceil(SIZES * math.sqrt(member.configs / most))) if most else 1
        load = "" if member.state == "lost" else percent(member.load)
        guess = " (assumed)" if load and member.is_assumed else ""
        told = f", load {load}{guess}" if load else ""
        worst = member.state if member.state != "alive" else member.going
        look, state = (f" tile-{worst}", f", {member.how}") if worst else ("", "")
        name, band = escape(member.name), _band(member).name
        text = (
            ""
            if is_dense
            else f'<span class="tile-name"><bdi>{name}</bdi></span> {"≈ " if guess else ""}{load or member.state}'
        )
        yield (
            f'<a class="tile tile-{size} tile-{band}{look}" href="{url}{member.id}/change/"'
            f' title="{name}{told}{state}, {grouped_count(member.configs, "config")}">{text}</a>'
        )


def _lost(members: Iterable[Member]) -> str:
    """The names of the first lost nodes: of these one wants to know which they are."""
    return listed(sorted(member.name for member in members if member.state == "lost"), MOST_LOST)
