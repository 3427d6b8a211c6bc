"""Labels in forms, lists and pages."""

import json
import re
from collections.abc import Mapping
from typing import Any

from django import forms
from django.core.exceptions import ValidationError
from unfold.decorators import display
from unfold.widgets import UnfoldAdminTextInputWidget

from clusteragent.lib.words import cut

# A label that holds one of these is written as JSON: as a rule a comma was forgotten.
_ODD = re.compile(r"[,=;{}\[\]\s]")
MOST_SHOWN = 60


class LabelsField(forms.Field):
    """Labels as pins take them: `zone=a, disk=ssd`. They may also be written as JSON, as the operators' API takes them."""

    widget = UnfoldAdminTextInputWidget

    def __init__(self, **options: Any) -> None:
        known = {name: options[name] for name in ("label", "required", "initial") if name in options}
        super().__init__(**known, help_text="With commas between: zone=a, disk=ssd. Or JSON.")

    def prepare_value(self, value: Any) -> Any:
        return written(value) if isinstance(value, Mapping) else value

    def to_python(self, value: Any) -> dict[str, Any]:
        """The labels. Raises ValidationError."""
        text = value if isinstance(value, str) else written(value or {})
        if not text.strip():
            return {}
        return _of_json(text) if text.lstrip().startswith("{") else _of_pairs(text)

    def has_changed(self, initial: Any, data: Any) -> bool:
        try:
            return self.to_python(data) != (initial or {})
        except ValidationError:
            return True


def labels_column(field: str, title: str = "") -> Any:
    """A column, or a line of a page, that shows a row's labels; empty without any."""

    @display(description=title or field, ordering=field)
    def column(self: Any, row: Any) -> str:
        """The labels as forms take them."""
        labels = getattr(row, field)
        return written(labels) if labels else ""

    return column


def written(labels: Mapping[str, Any]) -> str:
    """The labels as forms take them: `zone=a, disk=ssd`; as JSON where that would be read otherwise."""
    words = [*labels, *labels.values()]
    if not all(isinstance(word, str) and word and not _ODD.search(word) for word in words):
        return json.dumps(labels, ensure_ascii=False)
    return ", ".join(f"{name}={value}" for name, value in labels.items())


def _of_json(text: str) -> dict[str, Any]:
    try:
        labels: dict[str, Any] = json.loads(text)
    except (ValueError, RecursionError):
        raise ValidationError('It is no JSON: write zone=a, or {"zone": "a"}.') from None
    return labels


def _of_pairs(text: str) -> dict[str, Any]:
    labels = {}
    for pair in filter(None, map(str.strip, text.split(","))):
        name, _, value = map(str.strip, pair.partition("="))
        if not (name and value) or _ODD.search(name + value):
            raise ValidationError(f"{cut(pair, MOST_SHOWN)} is no label: write zone=a, with commas between labels.")
        if name in labels:
            raise ValidationError(f"The label {name} is there twice.")
        labels[name] = value
    return labels
