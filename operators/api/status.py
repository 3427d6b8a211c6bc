"""How the cluster is, in the operators' API."""

from typing import Any

from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from checks.explain.alerts import Word
from checks.models import Config
from operators.api.base import OperatorViewSet
from operators.api.permissions import requires
from operators.pages import now
from operators.pages.base import SEES


class NeedSerializer(serializers.Serializer[Any]):
    """What needs somebody. `kind` is one of those in the documentation of metrics; `since` is when it was found if no more is
    known; `link` is a page of the admin.
    """

    kind = serializers.CharField()
    subject = serializers.CharField()
    count = serializers.IntegerField()
    cause = serializers.CharField()
    since = serializers.DateTimeField()
    link = serializers.CharField()


class RoomSerializer(serializers.Serializer[Any]):
    """The loss that would be the worst: of what, the mean load of the others after it, and how many configs find no node."""

    lost = serializers.CharField()
    reach = serializers.FloatField(allow_null=True)
    homeless = serializers.IntegerField()
    sentence = serializers.CharField()


class StatusSerializer(serializers.Serializer[Any]):
    """How the cluster is."""

    state = serializers.ChoiceField([str(word) for word in Word])
    sentence = serializers.CharField()
    headroom = RoomSerializer(allow_null=True)
    needs = NeedSerializer(many=True)


class StatusViewSet(OperatorViewSet):
    """How the cluster is, as the admin's first page says it."""

    queryset = Config.objects.none()
    serializer_class = StatusSerializer
    pagination_class: Any = None
    permission_classes = [requires(*SEES)]

    @extend_schema(responses=StatusSerializer)
    def list(self, request: Request) -> Response:
        """The word for the cluster, the first page's sentence, and what needs somebody."""
        return Response(now.latest().document)
