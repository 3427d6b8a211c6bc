"""Configs: the bytes that node agents get, the origins that send them, and their check IDs."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from functools import reduce
from operator import or_
from typing import Any, NamedTuple, TypeVar

from django.contrib.postgres.expressions import ArraySubquery
from django.contrib.postgres.fields import ArrayField
from django.contrib.postgres.indexes import GinIndex
from django.db import connection, models
from django.db.models import Case, F, OuterRef, Subquery, Value, When
from django.db.models.functions import Collate, Concat, Lower, Now

from checks.models import originkeys
from checks.models.titles import called
from checks.wire.options import made_by_us
from clusteragent.lib import conf
from clusteragent.lib.clock import ago
from clusteragent.lib.database.bulk import rewrite
from clusteragent.lib.database.natural import Natural
from clusteragent.lib.scrub import VERSION, scrub
from clusteragent.lib.shortids import displayed_check_id, short_id, short_id_in
from clusteragent.lib.spelling import is_misspelt
from nodes.models import Node

R = TypeVar("R", bound=models.QuerySet[Any])

# How many configs one statement flags.
FLAGGED_AT_ONCE = 1000
# How many configs with the same title are named.
MOST_NAMESAKES = 5
# So many words of a name are looked for in titles.
MOST_WORDS = 10
# So many configs that a search finds are asked for by their ids.
MOST_FOUND = 500

NOT_YET = "# Not shown yet: this copy was scrubbed by an older version. It is made again within minutes.\n"


def displayable(config: str = "") -> models.Q:
    """Return the condition that a config's display copies may be shown. config: the lookup path from a row to its config.

    Display copies have no secrets and use short IDs. They are made once, when a config is stored; pages, lists, searches, the
    operators' API and the metrics read them. Only copies that this version made are shown. The leader makes the others again
    (checks/sources/repatching.py).
    """
    return models.Q(**{f"{config}patched_with__startswith": f"{VERSION}."})


def containing(rows: R, column: str, word: str) -> R:
    """Return the rows that have the word in a column.

    Only the case of ASCII letters is ignored: in the collation C this takes a third of the time of icontains.
    """
    folded: R = rows.alias(folded=Lower(Collate(column, "C")))
    return folded.filter(folded__contains=_small(word))


def _small(word: str) -> str:
    return word.encode().lower().decode()


class Share(NamedTuple):
    """The answer for a node agent: the config version and the stored configs, joined by commas.

    unsure: why the server can't answer now; empty when it can.
    """

    version: int
    configs: str
    unsure: str = ""


class ConfigQuerySet(models.QuerySet["Config"]):
    """Queries and bulk updates of configs."""

    def dispatchable(self) -> ConfigQuerySet:
        """Configs that should have an owner: all except endpoint checks."""
        return self.filter(node_name="")

    def dangling(self) -> ConfigQuerySet:
        """Configs that should have an owner and have none."""
        return self.filter(dangling_since__isnull=False)

    def awaiting_a_node(self) -> ConfigQuerySet:
        """Dangling configs, and those that go back to their former node if it returns before another has fetched them."""
        return self.filter(models.Q(dangling_since__isnull=False) | models.Q(former_node__isnull=False))

    def containing(self, word: str, *, exact: bool = False) -> ConfigQuerySet:
        """Configs with this ID (see `called`); if none, those with the word in a check's name or in the displayed YAML."""
        if ids := self.model.objects.called(word, exact=exact):
            return self.filter(pk__in=ids)
        here = SearchedText.objects.filter(folded__contains=_small(word)).values_list("config_id")
        named = containing(Instance.objects.filter(displayable("config__")).order_by(), "shown_name", word)
        either: Any = here.union(named.values_list("config_id"), all=True)
        # Few are asked for by their ids. PostgreSQL can't tell how few a sub-select finds, and reads all in order to find them.
        few = list(either[: MOST_FOUND + 1])
        if len(few) <= MOST_FOUND:
            return self.filter(displayable(), pk__in={pk for (pk,) in few})
        return self.filter(displayable(), pk__in=either)

    def with_texts(self, words: Iterable[str]) -> ConfigQuerySet:
        """Configs whose title or displayed YAML has each of these words."""
        return self.filter(displayable(), *(models.Q(searched__folded__contains=_small(word)) for word in words))

    def called(self, word: str, *, exact: bool) -> list[int]:
        """Return the ids of configs that have this short ID, or a check with it. exact: also by digest and check ID.

        Use `exact` only for users who may see digests, since a match confirms a guess.
        """
        wanted = []
        if short := short_id_in(word):
            wanted += [models.Q(short_id=short), models.Q(instances__short_id=short)]
        if exact:
            wanted += [models.Q(digest=word), models.Q(instances__check_id=word)]
        return sorted({pk for one in wanted for pk in self.filter(one).values_list("pk", flat=True)})

    def with_ids_or_like(
        self, ids: Iterable[int], contents: Iterable[str] = (), hashes: Iterable[str] = ()
    ) -> ConfigQuerySet:
        """Configs with one of these ids or contents, or with one of these hashes as digest or fast digest."""
        hashes = list(hashes)
        alike = models.Q(contents__in=list(contents)) | models.Q(digest__in=hashes) | models.Q(fast_digest__in=hashes)
        return self.filter(models.Q(pk__in=list(ids)) | alike)

    def lost_since(self, time: Any) -> ConfigQuerySet:
        """Configs that began to dangle at this time or later because their node expired or left."""
        return self.dangling().filter(former_node__isnull=False, dangling_since__gte=time)

    def settle(self, ids: Collection[int], *, for_lost_node: bool = False) -> None:
        """Clear the dangling state of configs that have an owner again or need none.

        for_lost_node: they have it in place of a lost node, which is remembered.
        """
        settled = {"dangling_since": None, "unscheduled": False} | ({} if for_lost_node else {"former_node": None})
        # Rows with bytes are large, so those that are settled already are not written again.
        self.filter(pk__in=ids).exclude(**settled).update(**settled)

    def let_dangle(self, ids: Collection[int]) -> None:
        """Set the dangling state of configs that should have an owner and have none."""
        self.filter(pk__in=ids, dangling_since=None).update(dangling_since=Now(), former_node=None)

    def of_nodes_that_came_back(self) -> ConfigQuerySet:
        """Dangling configs whose former node reports again."""
        return self.dangling().filter(former_node__heartbeat__seen_at__gte=ago(conf.NODE_EXPIRATION_TIMEOUT / 2))

    def ids_of(self, names: Collection[str], *, exact: bool = True) -> list[int]:
        """Return the ids of the configs with these titles or short IDs; exact: also digests and check IDs.

        A title may have a colon after the check, or no check: `postgres orders`, `postgres:orders`, `orders`. Raises LookupError
        that names the first one that is unknown, or that several configs have.
        """
        short = {word: name for name in names if (word := short_id_in(name))}
        found = {short[word]: pk for word, pk in self.filter(short_id__in=short).values_list("short_id", "pk")}
        of_checks = self.filter(instances__short_id__in=short).values_list("instances__short_id", "pk")
        found |= {short[word]: pk for word, pk in of_checks}
        if exact:
            found |= dict(self.filter(digest__in=names).values_list("digest", "pk"))
            found |= dict(self.filter(instances__check_id__in=names).values_list("instances__check_id", "pk"))
        for name in names:
            if name not in found:
                found[name] = self._titled(name, exact=exact)
        return list(found.values())

    def titled(self, name: str) -> ConfigQuerySet:
        """Configs with this title. It may have a colon after the check, or no check."""
        rest = models.Q(title=Concat(F("name"), Value(" "), Value(name), output_field=models.TextField()))
        return self.filter(models.Q(title__in=[name, name.replace(":", " ", 1)]) | rest).order_by("pk")

    def titled_like(self, name: str) -> ConfigQuerySet:
        """Configs that a part of a title may mean: its words are in their titles; if in none, it is one letter away from one."""
        shown, words = self.filter(displayable()).order_by(Natural("title"), "pk"), name.split()[:MOST_WORDS]
        found = reduce(lambda rows, word: containing(rows, "title", word), words, shown)
        if not words or found.exists():
            return found if words else self.none()
        # One edit leaves at least one of three parts as it is.
        third = -(-len(name) // 3)
        parts = [name[start : start + third] for start in range(0, len(name), third)]
        folded = shown.alias(folded=Lower(Collate("title", "C")))
        near = folded.filter(reduce(or_, (models.Q(folded__contains=_small(part)) for part in parts)))
        rows = near.values_list("pk", "title", "name")
        meant = [
            pk
            for pk, title, check in rows
            if is_misspelt(name, title) or is_misspelt(name, title.removeprefix(f"{check} "))
        ]
        return shown.filter(pk__in=meant)

    def _titled(self, name: str, *, exact: bool) -> int:
        rows = list(self.titled(name).values_list("pk", "title", "name", "digest")[:MOST_NAMESAKES])
        if not rows:
            alike = list(self.titled_like(name).values_list("title", flat=True)[:MOST_NAMESAKES])
            meant = f", did you mean {' or '.join(alike)}?" if alike else ""
            raise LookupError(f"no config has the title{', digest, check ID' * exact} or short ID {scrub(name)}{meant}")
        if len(rows) > 1:
            them = ", ".join(f"{called(title, check, digest)} {short_id(digest)}" for _, title, check, digest in rows)
            raise LookupError(f"several configs are called {scrub(name)}, name one by its short ID: {them}")
        return int(rows[0][0])

    def told_apart(self, rows: Sequence[tuple[int, str, str, str]]) -> list[str]:
        """Return how people see these configs in one list. rows: (id, title, check, digest), also of configs that are gone.

        Those that are called alike get what tells them apart: the file or Service that sends them, else the short ID.
        """
        names = [called(*words) for _, *words in rows]
        ids: dict[str, set[int]] = {}
        for (pk, *_), name in zip(rows, names, strict=True):
            ids.setdefault(name, set()).add(pk)
        namesakes = [pk for same in ids.values() if len(same) > 1 for pk in same]
        senders: dict[int, str] = {}
        if namesakes:
            for origin in Origin.objects.filter(config__in=namesakes).order_by("source", "key"):
                senders.setdefault(origin.config_id, str(origin))
        return [
            f"{name} ({senders.get(pk) or short_id(digest)})" if len(ids[name]) > 1 else name
            for (pk, _, _, digest), name in zip(rows, names, strict=True)
        ]

    def described(self, check: str | None = None) -> models.QuerySet[Any, Any]:
        """Rows of each config for output: check, digest, node, since, reason, origin, check_ids, dangling_since.

        The node of an endpoint check is the one that it belongs to.
        """
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
        """Flag configs that have dangled longer than the threshold. Return the check names of those newly flagged."""
        late = self.dangling().filter(unscheduled=False, dangling_since__lt=ago(conf.UNSCHEDULED_CHECK_THRESHOLD))
        flagged = dict(late.values_list("pk", "name"))
        # In small statements: a dispatcher that places one of them waits for its row, and holds the store's lock meanwhile.
        ids = list(flagged)
        for start in range(0, len(ids), FLAGGED_AT_ONCE):
            some = self.model.objects.filter(pk__in=ids[start : start + FLAGGED_AT_ONCE])
            some.dangling().update(unscheduled=True)
        return list(flagged.values())

    # One statement, since the version and the configs must be of the same moment. As text, since bytes are sent as hex, which
    # takes twice the time. A missing hearing row counts as warm-up. The sub-select around the names hides their number from
    # PostgreSQL, so that it uses one generic plan. That may be made while tables are empty, and is used until they are
    # analysed, so each OFFSET 0 leaves only one way to find rows: by their key. Sorting by an expression keeps the index of
    # the primary key from being read as a whole.
    _SHARES = """
        SELECT n.name, n.config_version,
            coalesce((
                SELECT convert_from(string_agg(c.wire, ',' ORDER BY served.config_id + 0), 'UTF8')
                FROM (
                    SELECT a.config_id FROM checks_assignment AS a WHERE a.node_id = n.id AND NOT EXISTS (
                        SELECT FROM checks_handover AS h
                        WHERE h.config_id = a.config_id AND h.promise = 'strict' OFFSET 0
                    )
                    UNION ALL
                    SELECT h.config_id FROM checks_handover AS h
                    WHERE (h.source_id = n.id OR h.between_id = n.id) AND h.promise = 'overlap'
                    OFFSET 0
                ) AS served
                CROSS JOIN LATERAL (SELECT wire FROM checks_config WHERE id = served.config_id OFFSET 0) AS c
            ), ''),
            CASE
                WHEN (SELECT warmup FROM nodes_hearing) IS NOT FALSE
                    THEN 'warming up: nothing is dispatched yet'
                WHEN EXISTS (SELECT FROM checks_config AS d WHERE d.former_node_id = n.id OFFSET 0)
                    THEN 'the node came back, and its configs are not dispatched again yet'
                ELSE ''
            END
        FROM unnest((SELECT %s::text[])) AS t (name)
        CROSS JOIN LATERAL (SELECT id, name, config_version FROM nodes_node WHERE name = t.name OFFSET 0) AS n
        WHERE EXISTS (SELECT FROM nodes_heartbeat AS h WHERE h.node_id = n.id OFFSET 0)
    """

    def shares_of(self, names: Sequence[str]) -> list[Share | None]:
        """Return the share of each of these nodes, in one statement; None for a node that is unknown or lost."""
        with connection.cursor() as cursor:
            cursor.execute(self._SHARES, [list(set(names))])
            shares = {name: Share(*rest) for name, *rest in cursor.fetchall()}
        return [shares.get(name) for name in names]

    _ENDPOINTS_SHARE = """
        SELECT 0,
            coalesce((
                SELECT convert_from(string_agg(wire, ',' ORDER BY id + 0), 'UTF8')
                FROM checks_config WHERE {of_node} node_name <> ''
            ), ''),
            CASE
                WHEN (SELECT warmup FROM nodes_hearing) IS NOT FALSE
                    THEN 'warming up: nothing is dispatched yet'
                ELSE ''
            END
    """
    _ENDPOINTS_OF_ALL = _ENDPOINTS_SHARE.format(of_node="")
    _ENDPOINTS_OF_NODE = _ENDPOINTS_SHARE.format(of_node="node_name = %s AND")

    def endpoints_share(self, name: str | None = None) -> Share:
        """Return the endpoint checks of a node, known or not; of all nodes unless a name is given."""
        with connection.cursor() as cursor:
            if name is None:
                cursor.execute(self._ENDPOINTS_OF_ALL)
            else:
                cursor.execute(self._ENDPOINTS_OF_NODE, [name])
            return Share(*cursor.fetchone())

    def rewrite(self, fields: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        """Update these fields of configs and their time of change. rows: tuples of the fields, of which the first is `id`."""
        if rows:
            rewrite("checks_config", fields, rows, also=", changed = statement_timestamp()")


class Config(models.Model):
    """A config that a source sent, patched, with the exact bytes that node agents get."""

    digest = models.CharField(max_length=16)
    name = models.CharField("check", max_length=253)
    provider = models.CharField(max_length=253, db_default="")
    original = models.JSONField()
    wire = models.BinaryField()
    scrubbed = models.BinaryField()
    text = models.TextField()
    node_name = models.CharField("endpoint of node", max_length=253, db_default="")
    # How people call it: see checks/models/titles.py. Empty while an older version's copies are stored.
    title = models.CharField(max_length=250, default="", db_default="")
    # Shown to users who may not see the digest: clusteragent/lib/shortids.py.
    short_id = models.CharField(max_length=16, db_default="")
    # The hash by which agents compare configs, and a hash of the meaning that ignores the order of tags: dispatcher/changes.py.
    fast_digest = models.CharField(max_length=16, db_default="")
    contents = models.CharField(max_length=32, db_default="")
    # options.fingerprint() of the process that made the display copies and the bytes.
    patched_with = models.CharField(max_length=64, db_default="")
    created = models.DateTimeField(db_default=Now())
    changed = models.DateTimeField(db_default=Now())
    # Set exactly while the config should have an owner and has none. Never set for endpoint checks.
    dangling_since = models.DateTimeField(null=True)
    # It has dangled longer than the threshold, and this was logged.
    unscheduled = models.BooleanField(db_default=False)
    # The node that lost it when it began to dangle, until another one has fetched it: it gets the config back if it returns
    # before that.
    former_node = models.ForeignKey(Node, models.SET_NULL, null=True, related_name="+", db_index=False)

    objects = ConfigQuerySet.as_manager()

    class Meta:
        ordering = ["name", "id"]
        permissions = [("view_digests", "Can see the digests and check IDs that node agents have")]
        constraints = [
            # Checked at commit: within one chunk of changes two configs may exchange their bytes.
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
            # GET configs, of each node: whether it may get back something that it lost. Also asked for each node that is
            # forgotten, so its condition is no more than what is asked: that it is this node.
            models.Index(
                fields=["former_node"], name="config_of_former_node", condition=models.Q(former_node__isnull=False)
            ),
            # GET endpoints configs.
            models.Index(fields=["node_name"], name="config_of_endpoint", condition=~models.Q(node_name="")),
            models.Index(fields=["name", "id"], name="config_by_name"),  # the admin's list in its order
            models.Index(fields=["patched_with", "id"], name="config_by_patching"),  # repatching.repatch()
            models.Index(fields=["short_id"], name="config_by_short_id"),  # searches
            models.Index(fields=["title"], name="config_by_title"),  # commands
            models.Index(Natural("title"), name="config_in_natural_order"),  # lists in their order
            # changes: whether another config has the same meaning, or the same fast digest.
            models.Index(fields=["fast_digest"], name="config_by_fast_digest"),
            models.Index(fields=["contents"], name="config_by_contents"),
        ]

    def __str__(self) -> str:
        return called(self.title, self.name, self.digest)

    @property
    def unique_name(self) -> str:
        """What names it alone, in forms and commands: how people call it, or its short ID if others are called so, too."""
        shown = str(self)
        is_alone = "," not in shown and list(Config.objects.titled(shown).values_list("pk", flat=True)[:2]) == [self.pk]
        return shown if is_alone else self.short_id

    @property
    def display_text(self) -> str:
        """What node agents get of it, without secrets; NOT_YET while an older version's copy is stored."""
        return self.text if made_by_us(self.patched_with) else NOT_YET


class SearchedText(models.Model):
    """What searches and filters of configs read, without the wide rows of configs.

    The database writes it whenever a display copy is stored, and deletes it with the config: migrations 0042 and 0047.
    """

    config = models.OneToOneField(Config, models.DO_NOTHING, primary_key=True, related_name="searched")
    # Title and displayed text in small letters.
    folded = models.TextField(db_collation="C")
    # The tags in the text, and the first that names a team, as the text writes them: checks/models/tags.py.
    tags = ArrayField(models.TextField())
    team = models.TextField()
    # The config's: see `displayable`.
    patched_with = models.CharField(max_length=64)

    class Meta:
        indexes = [GinIndex(fields=["tags"], name="searchedtext_by_tag")]

    def __str__(self) -> str:
        return self.folded.partition("\n")[0]


# The source whose keys name Services.
KUBERNETES = "kubernetes"


class OriginQuerySet(models.QuerySet["Origin"]):
    """Queries and bulk updates of origins."""

    def keyed(self, keys: Collection[tuple[str, str]]) -> OriginQuerySet:
        """Origins with one of these (source, key) pairs."""
        by_source: dict[str, list[str]] = {}
        for source, key in keys:
            by_source.setdefault(source, []).append(key)
        wanted = models.Q(pk__in=[])
        for source, names in by_source.items():
            wanted |= models.Q(source=source, key__in=names)
        return self.filter(wanted)

    def beginning_with(self, beginnings: Iterable[str]) -> OriginQuerySet:
        """Origins whose keys begin with one of these. What does not end in a slash is a whole key, with its shards."""
        wanted = models.Q(pk__in=[])
        for beginning in beginnings:
            is_whole = not beginning.endswith("/") and beginning != ""
            wanted |= models.Q(key__startswith=f"{beginning}#" if is_whole else beginning)
            if is_whole:
                wanted |= models.Q(key=beginning)
        return self.filter(wanted)

    def sole_senders(self, source: str, keys: Collection[str]) -> set[str]:
        """Return those of a source's keys whose config no origin outside `keys` sends."""
        mine = self.filter(source=source, key__in=keys)
        others = self.filter(config__in=mine.values("config")).exclude(source=source, key__in=keys)
        return set(mine.exclude(config__in=others.values("config")).values_list("key", flat=True))

    def redirect(self, rows: Sequence[Sequence[Any]]) -> None:
        """Store which config each origin sends now. rows: (id, config's id, fingerprint, replica that read it)."""
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
        """Update the authors' texts. rows: (id, text, hash of the text)."""
        if rows:
            rewrite("checks_origin", ("id", "written", "written_hash"), rows)


class OriginManager(models.Manager["Origin"]):
    """Origins without their authors' texts, which are long and read one by one."""

    def get_queryset(self) -> models.QuerySet[Origin]:
        return super().get_queryset().defer("written")


class Origin(models.Model):
    """A source and the stable key under which it sends a config. A config exists while at least one origin sends it."""

    source = models.CharField(max_length=253)
    key = models.TextField()
    # The key as people see and search it.
    shown = models.TextField(db_default="")
    config = models.ForeignKey(Config, models.CASCADE, related_name="origins")
    # Hash of the last config that this origin sent, before patching, so that sending the same again changes nothing.
    fingerprint = models.CharField(max_length=64)
    # The text as its author wrote it, if any. For a config in shards the first shard's origin has it. The hash covers the
    # text and what was sent: a release that knows no texts changes only what is sent, and the text is then outdated.
    written = models.TextField(db_default="")
    written_hash = models.CharField(max_length=32, db_default="")
    scanned_by = models.CharField(max_length=253, db_default="")
    scanned_at = models.DateTimeField(db_default=Now())

    objects = OriginManager.from_queryset(OriginQuerySet)()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["source", "key"], name="origin_source_key")]
        # Origins by the beginning of their keys, whatever the database's collation.
        indexes = [
            models.Index(
                fields=["source", "key"], name="origin_by_beginning", opclasses=["varchar_ops", "text_pattern_ops"]
            )
        ]

    def __str__(self) -> str:
        shown = self.shown or self.key
        is_in_words = self.source == KUBERNETES and originkeys.object_of(shown)[0]
        return scrub(f"{self.source}: {originkeys.described(shown)}" if is_in_words else f"{self.source}:{shown}")

    @property
    def kubernetes_object(self) -> tuple[str, str]:
        """Kind and `namespace/name` of the object in Kubernetes that it is of; empty if it is of none."""
        return originkeys.object_of(self.key) if self.source == KUBERNETES else ("", "")


class Instance(models.Model):
    """A check ID and the config that it belongs to."""

    config = models.ForeignKey(Config, models.CASCADE, related_name="instances")
    check_id = models.TextField()
    # The displayed check ID: the check and the instance's name without secrets, and a short ID in place of the hash.
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
        return self.shown_id()

    @property
    def name(self) -> str:
        """The instance's name in its check ID, without secrets; empty if it has none."""
        # Scrubbed again, since an older version may have made the copy.
        return scrub(self.shown_name).partition(":")[2]

    def shown_id(self, *, exact: bool = False) -> str:
        """Return the check ID for display. exact: with the hash that node agents have, for users who may see it."""
        return displayed_check_id(self.check_id, self.shown_name, exact=exact)
