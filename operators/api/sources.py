"""Sources that pipelines own, in the operators' API."""

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence, Sized
from contextlib import contextmanager
from threading import Condition
from typing import Any, NamedTuple, Self

from django.db.models import QuerySet
from django.http import HttpRequest
from django.shortcuts import get_object_or_404
from drf_spectacular.utils import OpenApiParameter, extend_schema, extend_schema_field
from rest_framework import serializers
from rest_framework.exceptions import AuthenticationFailed, ValidationError
from rest_framework.request import Request
from rest_framework.response import Response

from checks.explain import writing
from checks.explain.writing import NOBODY, Effect
from checks.models import Origin, Source
from checks.sources import sets
from checks.wire.lint import Notice
from checks.wire.scrub import scrub
from clusteragent.lib.database.numbers import number_of
from operators.api import desired
from operators.api.authentication import OperatorToken
from operators.api.base import Busy, Conflict, DetailViewSet, OperatorViewSet
from operators.api.configs import NoticeSerializer
from operators.api.fields import Scrubbed
from operators.api.permissions import requires

# How many sets of more than a megabyte, or of more than MANY configs, are read at the same time: each takes up to 0.3 GB and half
# a minute.
LARGE_SETS, MANY = 2, 2_000
# And of the others, which wait their turn for so many seconds: aliases let a small body say a lot, too.
SMALL_SETS, WAIT = 4, 10
# A call that waits holds a thread: of one user so many may, by however many tokens.
MOST_WAITING = 2
# So many configs are named in the answer of a dry run, each with its nodes.
MOST_FATES = 1000
_SOURCE_NAME = re.compile(r"[A-Za-z0-9_.-]{1,200}")


class Places:
    """Places for so many sets that are read at a time. Nobody has two, or waits with more than MOST_WAITING calls."""

    def __init__(self, most: int) -> None:
        self.most = most
        self._taken: set[int] = set()
        self._waiting: Counter[int] = Counter()
        self._changed = Condition()

    def take(self, user: int, wait: float) -> bool:
        """Take a place for a user; wait for it for so many seconds. Return whether there was one."""

        def is_free() -> bool:
            return len(self._taken) < self.most and user not in self._taken

        with self._changed:
            if not is_free() and self._waiting[user] < MOST_WAITING:
                self._waiting[user] += 1
                self._changed.wait_for(is_free, wait)
                self._waiting[user] -= 1
            if not is_free():
                return False
            self._taken.add(user)
            return True

    def leave(self, user: int) -> None:
        """Give the user's place to others."""
        with self._changed:
            self._taken.discard(user)
            self._changed.notify_all()


_large_sets, _small_sets = Places(LARGE_SETS), Places(SMALL_SETS)


class SourceSerializer(serializers.ModelSerializer[Source]):
    """A source that a pipeline owns."""

    name = serializers.SerializerMethodField()
    configs = serializers.IntegerField(read_only=True, help_text="How many configs it sends.")

    class Meta:
        model = Source
        fields: tuple[str, ...] = ("name", "configs", "read_at")
        read_only_fields = fields

    def get_name(self, source: Source) -> str:
        return source.name.removeprefix(sets.PREFIX)


class SourcePageSerializer(SourceSerializer):
    """A source with its revision and its warnings."""

    revision = serializers.SerializerMethodField(help_text="Identifies the current set. Send it with the next set.")

    warnings = serializers.SerializerMethodField(help_text="What the configs' authors probably did not mean.")

    class Meta(SourceSerializer.Meta):
        fields = (*SourceSerializer.Meta.fields, "revision", "warnings")
        read_only_fields = fields

    def get_revision(self, source: Source) -> str:
        return sets.revision_of(source.name)

    @extend_schema_field(NoticeSerializer(many=True))
    def get_warnings(self, source: Source) -> Any:
        return NoticeSerializer([Notice(**one) for one in source.warnings], many=True).data


class Foretold(NamedTuple):
    """What an answer tells of an effect. Names alone: serializers are circles, which keep what they refer to for a while."""

    sentences: Sequence[str]
    lost: int
    fates: Sequence[Mapping[str, str]]

    @classmethod
    def of(cls, effect: Effect) -> Self:
        """The effect in names. What would run nowhere comes first."""
        fates = sorted(effect.fates, key=lambda fate: not fate.is_lost)[:MOST_FATES]
        told = [
            {"title": one.entry.shown, "from_node": _node(one.before), "to_node": _node(one.after)} for one in fates
        ]
        return cls([scrub(one) for one in effect.sentences], effect.lost, told)


class FateSerializer(serializers.Serializer[Mapping[str, str]]):
    """What would become of a config. from_node, to_node: empty for none."""

    title = Scrubbed(help_text="How people call the config.")
    from_node = serializers.CharField()
    to_node = serializers.CharField()


class DifferenceSerializer(serializers.Serializer[sets.Difference]):
    """What a set changed, or with dry_run would change, by the names of configs. revision: the source's revision afterwards."""

    dry_run = serializers.SerializerMethodField()
    revision = serializers.CharField()
    added = serializers.ListField(child=Scrubbed())
    changed = serializers.ListField(child=Scrubbed())
    removed = serializers.ListField(child=Scrubbed())
    unchanged = serializers.ListField(child=Scrubbed())
    removals_held = serializers.BooleanField(
        help_text="Only with dry_run: whether the call would need accept_removals=1."
    )
    warnings = NoticeSerializer(many=True, help_text="What the configs' authors probably did not mean.")
    sentences = serializers.SerializerMethodField(
        help_text="Only with dry_run: what would follow, as the admin says it."
    )
    would_dangle = serializers.SerializerMethodField(
        help_text="Only with dry_run: how many configs would run nowhere, and do not so now."
    )
    fates = serializers.SerializerMethodField(
        help_text=f"Only with dry_run: which node would run what, {MOST_FATES} at most; what would run nowhere comes first."
    )

    def get_dry_run(self, difference: sets.Difference) -> bool:
        return self._foretold is not None

    def get_sentences(self, difference: sets.Difference) -> list[str]:
        return list(self._foretold.sentences) if self._foretold else []

    def get_would_dangle(self, difference: sets.Difference) -> int | None:
        return self._foretold.lost if self._foretold else None

    @extend_schema_field(FateSerializer(many=True))
    def get_fates(self, difference: sets.Difference) -> Any:
        fates: Any = self._foretold.fates if self._foretold else []
        return FateSerializer(fates, many=True).data

    @property
    def _foretold(self) -> Foretold | None:
        """What would follow; None if it was done."""
        foretold: Foretold | None = self.context.get("foretold")
        return foretold


class SourceViewSet(DetailViewSet):
    """Sources that pipelines own, each by the name after `api:`. `configs?source=api:…` lists the configs of one."""

    queryset = Source.objects.filter(name__startswith=sets.PREFIX)
    serializer_class = SourceSerializer
    detail_serializer_class = SourcePageSerializer
    ordering = lookup_field = "name"
    lookup_prefix = sets.PREFIX
    lookup_value_regex = "[^/\x00]+"
    # Enough for MOST_CONFIGS configs of 1.5 kB each.
    most_bytes = 32 * 1024 * 1024
    write_options = ("dry_run", "accept_removals")

    @classmethod
    def may_send_much(cls, request: HttpRequest) -> bool:
        """Whether the call's token belongs to a user who may write configs. It is checked before a large body is read."""
        try:
            found = OperatorToken().authenticate(Request(request))
        except AuthenticationFailed:
            return False
        return found is not None and found[0].has_perms(sets.WRITES)

    def get_queryset(self) -> QuerySet[Source]:
        return super().get_queryset().annotate(configs=number_of(Origin.objects.all(), "source", of="name"))

    def get_permissions(self) -> Sequence[Any]:
        if self.action == "update":
            return [requires(*sets.WRITES)()]
        return super().get_permissions()

    def get_object(self) -> Source:
        return get_object_or_404(self.get_queryset(), name=sets.PREFIX + self.kwargs["name"])

    def retrieve(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        response = super().retrieve(request, *args, **kwargs)
        response["ETag"] = f'"{response.data["revision"]}"'
        return response

    @extend_schema(
        request=desired.DesiredSet,
        responses=DifferenceSerializer,
        parameters=[
            desired.PutOptions,
            OpenApiParameter("If-Match", str, "header", description="Instead of revision."),
        ],
    )
    def update(self, request: Request, name: str) -> Response:
        """Replace the whole set of the source. Either all of it is stored or nothing. A new name creates a new source."""
        if not _SOURCE_NAME.fullmatch(name):
            raise ValidationError({"name": ["1 to 200 letters, digits, underscores, dots and hyphens."]})
        options = desired.PutOptions.of(request.query_params)
        source, accept = sets.PREFIX + name, options["accept_removals"]
        sets.require(source)
        with _turn(request) as is_large:
            body = desired.DesiredSet(data=request.data, context={"source": source, "is_large": is_large})
            body.is_valid(raise_exception=True)
            configs = body.validated_data["configs"]
            context: dict[str, Any] = {}
            # A proxy that compresses bodies turns the tag into a weak one.
            tag = request.headers.get("If-Match", "").removeprefix("W/").strip('"')
            revision = body.validated_data.get("revision") or tag
            try:
                if options["dry_run"]:
                    trial = sets.compare(source, configs, revision=revision, accept_removals=accept)
                    difference = trial.difference
                    effect = writing.save(source, trial.sends, trial.known, difference.removed)
                    context["foretold"] = Foretold.of(effect)
                else:
                    actor = request.user.get_username()
                    difference = sets.replace(source, configs, actor=actor, revision=revision, accept_removals=accept)
            except sets.Outdated as error:
                raise Conflict({"revision": [str(error)]}) from None
            except sets.RemovalsHeld as error:
                raise Conflict({"configs": [f"{error} Send it with ?accept_removals=1 if that is meant."]}) from None
        answer = DifferenceSerializer(difference, context=context)
        return Response(answer.data, headers={"ETag": f'"{difference.revision}"'})


def _node(name: str) -> str:
    return "" if name == NOBODY else name


def _is_large(request: Request) -> bool:
    """Whether a set takes much memory or long. Of a large body nothing is read."""
    if int(request.META.get("CONTENT_LENGTH") or 0) > OperatorViewSet.most_bytes:
        return True
    configs = request.data.get("configs") if isinstance(request.data, Mapping) else None
    return isinstance(configs, Sized) and len(configs) > MANY


@contextmanager
def _turn(request: Request) -> Iterator[bool]:
    """Hold one of the places of large sets, or of the others, and yield which. Raises Busy if none is free."""
    is_large, user = _is_large(request), request.user.pk or 0
    places, wait = (_large_sets, 0) if is_large else (_small_sets, WAIT)
    if not places.take(user, wait):
        large = "large " if is_large else ""
        raise Busy(f"{places.most} other {large}sets are being read, or one of the same user. Try again.")
    try:
        yield is_large
    finally:
        places.leave(user)
