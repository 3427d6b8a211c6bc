"""The fields that the API's serializers share. No answer holds a secret: texts that people or programs chose are scrubbed."""

from collections.abc import Collection, Iterable, Mapping
from datetime import datetime
from typing import Any

from django.http import QueryDict
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers
from rest_framework.exceptions import ValidationError

from checks.wire.scrub import scrub
from clusteragent.lib import deadlines
from clusteragent.lib.shortids import short_id
from clusteragent.lib.spelling import nearest
from nodes.models import NodeType
from operators.roles import sees_digests

NODE_STATES = ("alive", "silent", "lost")

# An error names this many unknown keys at most, and this many characters of each.
_MOST_KEYS = 20
_LONGEST_KEY = 100


def refuse_unknown(given: Iterable[str], known: Collection[str], offered: Collection[str]) -> None:
    """Raise ValidationError for each given key that is not known. The message names those of `offered`.

    A misspelt key would otherwise be ignored, and its sender would believe that it had an effect.
    """
    names = sorted(offered)
    advice = f" Known are {', '.join(names)}." if names else ""
    problems = {}
    for key in [key[:_LONGEST_KEY] for key in given if key not in known][:_MOST_KEYS]:
        meant = nearest(key, names)
        problems[key] = ["Unknown name." + (f" Did you mean {meant}?" if meant else advice)]
    if problems:
        raise ValidationError(problems)


class Options(serializers.Serializer[Any]):
    """Query parameters. One that is given twice, or without a value, is refused: the library would take it for not given."""

    @classmethod
    def of(cls, given: QueryDict) -> dict[str, Any]:
        """Return the values of a call's parameters. Raises ValidationError."""
        if twice := sorted(name for name, values in given.lists() if name in cls().fields and len(values) > 1):
            raise ValidationError({name: ["Give it once."] for name in twice})
        options = cls(data=given.dict())
        options.is_valid(raise_exception=True)
        found: dict[str, Any] = options.validated_data
        return found


class Strict(serializers.Serializer[Any]):
    """A serializer that refuses keys for which it has no field. Read-only fields may be sent back; they are ignored."""

    def to_internal_value(self, data: Any) -> Any:
        if isinstance(data, Mapping):
            refuse_unknown(data, self.fields, [name for name, field in self.fields.items() if not field.read_only])
        return super().to_internal_value(data)


class Scrubbed(serializers.CharField):
    """A read-only text without its secrets."""

    def __init__(self, **options: Any) -> None:
        super().__init__(read_only=True, **options)

    def to_representation(self, value: Any) -> str:
        return scrub(str(value))


class Digest(serializers.CharField):
    """A config's digest, by which node agents know it. Null for callers without the permission to see digests."""

    def __init__(self, **options: Any) -> None:
        super().__init__(read_only=True, allow_null=True, **options)

    def to_representation(self, value: Any) -> Any:
        return str(value) if sees_digests(self.context["request"].user) else None


class ShortID(serializers.CharField):
    """A config's short ID, which is made from its digest and which every caller may see."""

    def __init__(self, **options: Any) -> None:
        super().__init__(read_only=True, source="digest", **options)

    def to_representation(self, value: Any) -> str:
        return short_id(str(value))


class NodeTypeField(serializers.ChoiceField):
    """A node's type, by its name in lower case."""

    def __init__(self, **options: Any) -> None:
        super().__init__(choices=[type_.name.lower() for type_ in NodeType], **options)

    def to_representation(self, value: Any) -> str:
        return NodeType(value).name.lower()

    def to_internal_value(self, data: Any) -> Any:
        return NodeType[super().to_internal_value(data).upper()]


class Note(serializers.CharField):
    """An author's note to the other operators, of at most 10 000 characters."""

    def __init__(self, **options: Any) -> None:
        super().__init__(required=False, allow_blank=True, max_length=10_000, **options)

    def to_representation(self, value: Any) -> str:
        return scrub(str(value))


# Answers have a time in any case.
_UNTIL: dict[str, Any] = {
    "anyOf": [
        {"type": "string", "format": "date-time"},
        {"type": "string", "pattern": deadlines.SPAN, "example": "10m"},
    ]
}


@extend_schema_field(_UNTIL)
class Until(serializers.DateTimeField):
    """When an order ends, in the future: a time, or a span such as "10m"; null if it ends only when someone ends it."""

    def __init__(self, **options: Any) -> None:
        super().__init__(required=False, allow_null=True, **options)

    def to_internal_value(self, value: Any) -> datetime:
        try:
            return super().to_internal_value(deadlines.parse(value) if isinstance(value, str) else value)
        except (ValueError, OverflowError) as error:
            raise ValidationError(str(error)) from None


class Labels(serializers.DictField):
    """Labels as {name: value}, such as {"zone": "a"}. Names and values have at most 253 characters."""

    child = serializers.CharField(max_length=253)

    def to_internal_value(self, data: Any) -> Any:
        labels = super().to_internal_value(data)
        if not all(name.isprintable() and value.isprintable() and len(name) <= 253 for name, value in labels.items()):
            raise ValidationError("A label's name and value have at most 253 printable characters.")
        return labels
