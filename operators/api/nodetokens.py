"""Node tokens in the operators' API."""

from typing import Any

from django.core.exceptions import ValidationError as Invalid
from drf_spectacular.utils import extend_schema
from rest_framework import serializers, status
from rest_framework.decorators import action
from rest_framework.exceptions import NotFound, ValidationError
from rest_framework.request import Request
from rest_framework.response import Response

from checks.explain.forecasts import Forecast
from checks.wire.scrub import scrub
from clusteragent.lib import conf
from clusteragent.lib.database.rehearsal import rehearsal
from nodes import tokens
from nodes.models import NodeToken, SharedTokenUse
from nodes.models.tokens import KEY
from operators.api.base import Conflict, DetailViewSet
from operators.api.fields import Strict, Until
from operators.api.filters import AuthorFilter
from operators.api.previews import ForecastWish


class NodeTokenSerializer(Strict, serializers.ModelSerializer[NodeToken]):
    """A node token, without its secret."""

    expires = Until(source="expires_at", help_text="A time, or a span such as 90d; null: it holds until it is revoked.")
    last_used = serializers.DateTimeField(
        source="last_used_at", read_only=True, help_text="Null: never. Written once a minute."
    )

    class Meta:
        model = NodeToken
        fields: tuple[str, ...] = (
            "key", "note", "pattern", "kubernetes_pattern", "networks", "expires", "author", "time", "last_used"
        )  # fmt: skip
        read_only_fields = ("key", "author", "time")

    def to_representation(self, instance: NodeToken) -> dict[str, Any]:
        return super().to_representation(instance) | {"note": scrub(instance.note)}


class NewNodeTokenSerializer(NodeTokenSerializer):
    """A node token that was just made."""

    token = serializers.CharField(read_only=True, help_text="What node agents send. It is never answered again.")

    without_stats = serializers.ListField(
        child=serializers.CharField(),
        read_only=True,
        help_text="The runners that tell stats by the shared token, and are not asked by it any more.",
    )

    class Meta(NodeTokenSerializer.Meta):
        fields = (*NodeTokenSerializer.Meta.fields, "token", "without_stats")


class SharedTokenUseSerializer(serializers.ModelSerializer[SharedTokenUse]):
    """A name for which the shared token was shown in the last five minutes."""

    last_used = serializers.DateTimeField(source="last_used_at", read_only=True)

    class Meta:
        model = SharedTokenUse
        fields = ("name", "address", "last_used")
        read_only_fields = fields


class SharedTokenSerializer(serializers.Serializer[Any]):
    """The token that opens all names."""

    accepted = serializers.BooleanField(help_text="Whether it opens anything: CLUSTERAGENT_SHARED_TOKEN.")
    sentence = serializers.CharField(help_text="The same, and who uses it, in a line for people.")
    used_by = SharedTokenUseSerializer(many=True, help_text="Known once there are node tokens.")


class NodeTokenViewSet(DetailViewSet):
    """Node tokens, each by how it begins. Each opens the agents' port for the nodes of a pool alone."""

    queryset = NodeToken.objects.all()
    serializer_class = NodeTokenSerializer
    filterset_class = AuthorFilter
    lookup_field = "key"
    lookup_value_regex = "[^/\x00]+"
    own_options = {"create": ("dry_run",), "destroy": ("dry_run",)}

    def get_object(self) -> NodeToken:
        found = self.get_queryset().filter(key=self.kwargs["key"]).first()
        if found is None:
            raise NotFound(f"No node token begins with {self.kwargs['key'][:KEY]}.")
        return found

    @extend_schema(request=NodeTokenSerializer, responses={201: NewNodeTokenSerializer}, parameters=[ForecastWish])
    def create(self, request: Request) -> Response:
        """Make a token. The answer is the only one that has it. 409 if there are too many.

        A dry run answers what it would open.
        """
        body = self.get_serializer(data=request.data)
        body.is_valid(raise_exception=True)
        row: Any = NodeToken(author=request.user.get_username(), **body.validated_data)
        try:
            told = self.forecast_or_act("detail", lambda: _foreseen(row), lambda: _make(row))
        except tokens.TooMany as error:
            raise Conflict(error.message) from None
        except Invalid as error:
            raise ValidationError(_by_field(error)) from None
        return told or Response(NewNodeTokenSerializer(row).data, status=status.HTTP_201_CREATED)

    @extend_schema(parameters=[ForecastWish])
    def destroy(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """Revoke the token: it opens nothing from two seconds later on. A dry run answers what would follow."""
        row = self.get_object()
        follows = Forecast(f"revoke {tokens.named(row)}", [tokens.consequence(row)])
        told = self.forecast_or_act("key", lambda: follows, lambda: tokens.revoke([row]))
        return told or Response(status=status.HTTP_204_NO_CONTENT)

    @extend_schema(responses=SharedTokenSerializer, filters=False)
    @action(detail=False, methods=["get"], pagination_class=None)
    def shared(self, request: Request) -> Response:
        """The shared token of all names: whether it is accepted, and for which names it was shown lately."""
        accepted = conf.SHARED_TOKEN_OPENS
        uses = SharedTokenUse.objects.lately().order_by("name") if accepted else SharedTokenUse.objects.none()
        shared = {"accepted": accepted, "sentence": SharedTokenUse.objects.sentence(), "used_by": uses}
        return Response(SharedTokenSerializer(shared).data)


def _make(row: Any) -> None:
    row.token = tokens.make(row)
    row.refresh_from_db()


def _foreseen(row: NodeToken) -> Forecast:
    """What making this token would do. Raises what making it raises."""
    with rehearsal():
        tokens.make(row)
    lost = tokens.stats_lost(row.without_stats)
    return Forecast(f"make a node token of {row.note}", [f"It would open {row.opened()}.", *filter(None, [lost])])


def _by_field(error: Invalid) -> dict[str, list[str]]:
    """What is wrong, by the names of the API's fields."""
    return {{"expires_at": "expires"}.get(name, name): said for name, said in error.message_dict.items()}
