"""Configs: the bytes that node agents get, who sends them, and their check IDs."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import Any, NamedTuple

from django.contrib.postgres.expressions import ArraySubquery
from django.db import connection, models
from django.db.models import Case, F, OuterRef, Subquery, Value, When
from django.db.models.functions import Concat, Now

from checks.models.searching import called, containing, ids_of
from checks.wire.options import made_by_us
from clusteragent.lib import conf
from clusteragent.lib.clock import ago
from clusteragent.lib.database.rows import rewrite
from clusteragent.lib.scrub import VERSION, scrub
from clusteragent.lib.shortids import short_id, told_check_id
from nodes.models import Node

# Configs that are flagged in one statement.
FLAGGED_AT_ONCE = 1000


NOT_YET = "# Not shown yet: what hides secrets is newer than this copy, which is made anew within minutes.\n"


def displayable(config: str = "") -> models.Q:
    """Rows whose configs' display copies may be shown: this version made them. config: the path from a row to its config.

    Pages, lists, searches, the operators' API and the metrics read these copies, which are scrubbed and named by short IDs once,
    when a config is stored. Those that an older version made the leader makes anew (checks/sources/renewing.py).
    """
    return models.Q(**{f"{config}patched_with__startswith": f"{VERSION}."})


class Share(NamedTuple):
    """What a node agent is given: the version of its configs and what is stored of them, or why nothing is said now."""

    version: int
    configs: str
    unsure: str = ""


class ConfigQuerySet(models.QuerySet["Config"]):
    def dispatchable(self) -> ConfigQuerySet:
        """Configs that should have an owner: all but those of endpoint checks."""
        return self.filter(node_name="")

    def dangling(self) -> ConfigQuerySet:
        return self.filter(dangling_since__isnull=False)

    def containing(self, word: str, *, exact: bool = False) -> ConfigQuerySet:
        """The configs that are called so; when there is none, those with the word in a check's name or their YAML as shown."""
        if ids := called(self.model, word, exact=exact):
            return self.filter(pk__in=ids)
        named = Instance.objects.filter(displayable("config__"))
        by_name = containing(named, "shown_name", word).values("config_id")
        return containing(self.filter(displayable()), "text", word, models.Q(pk__in=by_name))

    def with_ids_or_like(
        self, ids: Iterable[int], contents: Iterable[str] = (), hashes: Iterable[str] = ()
    ) -> ConfigQuerySet:
        """Configs with these ids, with these contents, or with one of these hashes as digest or fast digest."""
        hashes = list(hashes)
        alike = models.Q(contents__in=list(contents)) | models.Q(digest__in=hashes) | models.Q(fast_digest__in=hashes)
        return self.filter(models.Q(pk__in=list(ids)) | alike)

    def lost_since(self, time: Any) -> ConfigQuerySet:
        """Dangling since then at the earliest, because their node expired or left."""
        return self.dangling().filter(former_node__isnull=False, dangling_since__gte=time)

    def settle(self, ids: Collection[int]) -> None:
        """Note that these have an owner again, or need none."""
        self.filter(pk__in=ids).update(dangling_since=None, unscheduled=False, former_node=None)

    def let_dangle(self, ids: Collection[int]) -> None:
        """Note that these should have an owner and have none."""
        self.filter(pk__in=ids, dangling_since=None).update(dangling_since=Now())

    def of_nodes_that_came_back(self) -> ConfigQuerySet:
        """Dangling, while who lost them is heard again."""
        return self.dangling().filter(former_node__heartbeat__seen_at__gte=ago(conf.NODE_EXPIRATION_TIMEOUT / 2))

    def ids_of(self, names: Collection[str], *, exact: bool = True) -> list[int]:
        """The configs with these short IDs; exact: or digests or check IDs. Raises LookupError naming the first unknown."""
        return ids_of(self, names, exact=exact)

    def described(self, check: str | None = None) -> models.QuerySet[Any, Any]:
        """What people and programs want to know of each config, endpoint checks with the node that they belong to."""
        configs = self.filter(name=check) if check else self
        origins = Origin.objects.filter(config=OuterRef("pk")).order_by("source", "key")
        return configs.order_by("name", "pk").values(
            "digest",
            "dangling_since",
            check=F("name"),
            node=Case(When(node_name="", then=F("assignment__node__name")), default=F("node_name")),
            since=F("assignment__since"),
            reason=F("assignment__reason"),
            origin=Subquery(
                origins.values(sent=Concat("source", Value(":"), "key", output_field=models.TextField()))[:1]
            ),
            check_ids=ArraySubquery(Instance.objects.filter(config=OuterRef("pk")).order_by("pk").values("check_id")),
        )

    def flag_unscheduled(self) -> list[str]:
        """Flag what has been dangling for longer than the threshold. Returns the names of those newly flagged."""
        late = self.dangling().filter(unscheduled=False, dangling_since__lt=ago(conf.UNSCHEDULED_CHECK_THRESHOLD))
        flagged = dict(late.values_list("pk", "name"))
        # Bit by bit: whoever places one of them holds the store's lock while it waits for us.
        ids = list(flagged)
        for start in range(0, len(ids), FLAGGED_AT_ONCE):
            some = self.model.objects.filter(pk__in=ids[start : start + FLAGGED_AT_ONCE])
            some.dangling().update(unscheduled=True)
        return list(flagged.values())

    # One statement: the version and the configs must be of the same moment. As text, since bytes travel as hex, which
    # takes twice the time. Without the hearing's row we warm up. The names are selected, so that PostgreSQL doesn't count
    # them and think that a plan for just as many would be better.
    _SHARES = """
        SELECT n.name, n.config_version,
            coalesce((
                SELECT convert_from(string_agg(c.wire, ',' ORDER BY c.id), 'UTF8')
                FROM checks_assignment AS a JOIN checks_config AS c ON c.id = a.config_id
                WHERE a.node_id = n.id
            ), ''),
            CASE
                WHEN (SELECT warmup FROM nodes_hearing) IS NOT FALSE
                    THEN 'warming up: nothing is dispatched yet'
                WHEN EXISTS (
                    SELECT FROM checks_config AS d WHERE d.dangling_since IS NOT NULL AND d.former_node_id = n.id
                )
                    THEN 'the node came back, and its configs are not dispatched again yet'
                ELSE ''
            END
        FROM unnest((SELECT %s::text[])) AS t (name)
        JOIN nodes_node AS n ON n.name = t.name JOIN nodes_heartbeat AS h ON h.node_id = n.id
    """

    def shares_of(self, names: Sequence[str]) -> list[Share | None]:
        """What these nodes run, in one statement. None for each that is unknown or lost."""
        with connection.cursor() as cursor:
            cursor.execute(self._SHARES, [list(set(names))])
            shares = {name: Share(*rest) for name, *rest in cursor.fetchall()}
        return [shares.get(name) for name in names]

    def share_of(self, name: str) -> Share | None:
        """What a node runs. None when the node is unknown or lost."""
        return self.shares_of([name])[0]

    _ENDPOINTS_SHARE = """
        SELECT 0,
            coalesce((
                SELECT convert_from(string_agg(wire, ',' ORDER BY id), 'UTF8')
                FROM checks_config
                WHERE node_name <> '' AND node_name = coalesce(%s, node_name)
            ), ''),
            CASE
                WHEN (SELECT warmup FROM nodes_hearing) IS NOT FALSE
                    THEN 'warming up: nothing is dispatched yet'
                ELSE ''
            END
    """

    def endpoints_share(self, name: str | None = None) -> Share:
        """The endpoint checks of a node, or of all."""
        with connection.cursor() as cursor:
            cursor.execute(self._ENDPOINTS_SHARE, [name])
            return Share(*cursor.fetchone())

    def rewrite(self, fields: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        """Give configs other bytes in place. Rows: the fields, the first of them `id`."""
        if rows:
            rewrite("checks_config", fields, rows, also=", changed = statement_timestamp()")


class Config(models.Model):
    """A config that a source sent, patched, as the exact bytes that node agents get."""

    digest = models.CharField(max_length=16)
    name = models.CharField("check", max_length=253)
    provider = models.CharField(max_length=253, db_default="")
    original = models.JSONField()
    wire = models.BinaryField()
    scrubbed = models.BinaryField()
    text = models.TextField()
    node_name = models.CharField("endpoint of node", max_length=253, db_default="")
    # Who may not see the digest sees this: clusteragent/lib/shortids.py.
    short_id = models.CharField(max_length=16, db_default="")
    # How agents tell it from other configs, and a hash of what it says, in any order of tags: checks/dispatcher/changes.py.
    fast_digest = models.CharField(max_length=16, db_default="")
    contents = models.CharField(max_length=32, db_default="")
    # patching.fingerprint(): what made the copies that people see, and of the options that made these bytes.
    patched_with = models.CharField(max_length=64, db_default="")
    created = models.DateTimeField(db_default=Now())
    changed = models.DateTimeField(db_default=Now())
    # Set exactly while the config should have an owner and has none. Endpoint configs have neither.
    dangling_since = models.DateTimeField(null=True)
    # Dangling for longer than the threshold, and said so in the log.
    unscheduled = models.BooleanField(db_default=False)
    # Who lost it when it became dangling: that node gets it back when it returns first.
    former_node = models.ForeignKey(Node, models.SET_NULL, null=True, related_name="+", db_index=False)

    objects = ConfigQuerySet.as_manager()

    class Meta:
        ordering = ["name", "id"]
        permissions = [("view_digests", "Can see the digests and check IDs that node agents have")]
        constraints = [
            # Checked at commit: in one chunk of changes two configs may trade their bytes.
            models.UniqueConstraint(fields=["digest"], name="config_digest", deferrable=models.Deferrable.DEFERRED),
            models.CheckConstraint(
                name="endpoint_config_never_dangles",
                condition=models.Q(node_name="") | models.Q(dangling_since__isnull=True),
            ),
        ]
        indexes = [
            # dispatcher.redispatch(), the admin's filter.
            models.Index(
                fields=["dangling_since", "id"],
                name="config_dangling",
                condition=models.Q(dangling_since__isnull=False),
            ),
            # GET configs, of each node: whether something that it lost still dangles. Also asked for each node that is
            # forgotten, so its condition is no more than what is asked: that it is this node.
            models.Index(
                fields=["former_node"], name="config_of_former_node", condition=models.Q(former_node__isnull=False)
            ),
            # GET endpoints configs.
            models.Index(fields=["node_name"], name="config_of_endpoint", condition=~models.Q(node_name="")),
            models.Index(fields=["name", "id"], name="config_by_name"),  # the admin's list in its order
            models.Index(fields=["patched_with", "id"], name="config_by_patching"),  # repatching.repatch()
            models.Index(fields=["short_id"], name="config_by_short_id"),  # searches
            # What is sent, of each config: whether another says the same, or could be taken for it.
            models.Index(fields=["fast_digest"], name="config_by_fast_digest"),
            models.Index(fields=["contents"], name="config_by_contents"),
        ]

    def __str__(self) -> str:
        return f"{scrub(self.name)} {short_id(self.digest)}"

    @property
    def display_text(self) -> str:
        """What node agents get of it, without secrets."""
        return self.text if made_by_us(self.patched_with) else NOT_YET


class OriginQuerySet(models.QuerySet["Origin"]):
    def keyed(self, keys: Collection[tuple[str, str]]) -> OriginQuerySet:
        """The origins with these (source, key)."""
        by_source: dict[str, list[str]] = {}
        for source, key in keys:
            by_source.setdefault(source, []).append(key)
        wanted = models.Q(pk__in=[])
        for source, names in by_source.items():
            wanted |= models.Q(source=source, key__in=names)
        return self.filter(wanted)

    def alone(self, source: str, keys: Collection[str]) -> set[str]:
        """Those of a source's keys whose config no other origin sends than these."""
        mine = self.filter(source=source, key__in=keys)
        others = self.filter(config__in=mine.values("config")).exclude(source=source, key__in=keys)
        return set(mine.exclude(config__in=others.values("config")).values_list("key", flat=True))

    def redirect(self, rows: Sequence[Sequence[Any]]) -> None:
        """Note what origins send now. Rows: id, config's id, fingerprint, replica that read it."""
        if rows:
            with connection.cursor() as cursor:
                cursor.execute(
                    "UPDATE checks_origin AS o SET config_id = n.config_id, fingerprint = n.fingerprint,"
                    " scanned_by = n.scanned_by, scanned_at = statement_timestamp()"
                    " FROM unnest(%s::bigint[], %s::bigint[], %s::text[], %s::text[])"
                    " AS n (id, config_id, fingerprint, scanned_by) WHERE o.id = n.id",
                    [list(column) for column in zip(*rows, strict=True)],
                )

    def rewrite(self, rows: Sequence[Sequence[Any]]) -> None:
        """Store other texts of authors. Rows: id, text, its hash."""
        if rows:
            rewrite("checks_origin", ("id", "written", "written_hash"), rows)


class OriginManager(models.Manager["Origin"]):
    def get_queryset(self) -> models.QuerySet[Origin]:
        """The origins without their authors' texts, which are read one by one."""
        return super().get_queryset().defer("written")


class Origin(models.Model):
    """Who sends a config and under which stable name. A config lives while at least one origin sends it."""

    source = models.CharField(max_length=253)
    key = models.TextField()
    # The key as people see and search it.
    shown = models.TextField(db_default="")
    config = models.ForeignKey(Config, models.CASCADE, related_name="origins")
    # Hash of what this origin sent last, before it was patched, so that sending the same again changes nothing.
    fingerprint = models.CharField(max_length=64)
    # The text as its author wrote it, where there is one; of a config in shards the first one's origin has it. With its
    # hash and that of what it was sent as: a release that knows of no texts changes only what is sent.
    written = models.TextField(db_default="")
    written_hash = models.CharField(max_length=32, db_default="")
    scanned_by = models.CharField(max_length=253, db_default="")
    scanned_at = models.DateTimeField(db_default=Now())

    objects = OriginManager.from_queryset(OriginQuerySet)()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["source", "key"], name="origin_source_key")]

    def __str__(self) -> str:
        return scrub(f"{self.source}:{self.shown or self.key}")


class Instance(models.Model):
    """A check ID and the config that it belongs to."""

    config = models.ForeignKey(Config, models.CASCADE, related_name="instances")
    check_id = models.TextField()
    # Of the check ID, what people see of it: the check, and the name without its secrets; and in place of its hash this.
    shown_name = models.TextField(db_default="")
    short_id = models.CharField(max_length=16, db_default="")
    # Seconds between two of its runs.
    interval = models.FloatField(db_default=15.0)

    class Meta:
        indexes = [
            models.Index(fields=["check_id"], name="instance_check_id"),  # looked up by runner stats and operators
            models.Index(fields=["short_id"], name="instance_by_short_id"),  # searches
        ]

    def __str__(self) -> str:
        return self.told()

    def told(self, *, exact: bool = False) -> str:
        """The check ID as people see it. exact: for those who may see its hash, which is then the agents'."""
        return told_check_id(self.check_id, self.shown_name, exact=exact)
