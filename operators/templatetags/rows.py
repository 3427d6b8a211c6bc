"""The rows of a list, as unfold shows them. What is the same in all rows is made once: this halves the time of a page."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import date, time
from functools import lru_cache
from typing import Any

from django import template
from django.contrib.admin import helpers
from django.contrib.admin.utils import lookup_field
from django.contrib.admin.views.main import ORDER_VAR, ChangeList
from django.core.exceptions import ObjectDoesNotExist
from django.db.models import DateField, ForeignKey, Model, TimeField
from django.template import Context
from django.utils.html import conditional_escape, escape, format_html
from django.utils.safestring import SafeString
from django.utils.text import capfirst
from unfold.admin import checkbox
from unfold.templatetags.unfold_list import CHECKBOX_CLASSES, LINK_CLASSES, ROW_CLASSES, result_headers
from unfold.utils import display_for_field, display_for_label, display_for_value

register = template.Library()

_CELL, _TICK, _LINK = map(" ".join, (ROW_CLASSES, CHECKBOX_CLASSES, LINK_CLASSES))
# The key of a row in the cell of its checkbox.
_KEY = "the-key"


@register.inclusion_tag("admin/list_rows.html", takes_context=True)
def list_rows(context: Context, cl: ChangeList) -> dict[str, Any]:
    """The head and the rows of a list. Not for lists that are edited in place, which we have none of."""
    headers = [
        _greatest_first(cl, str(name), one) for name, one in zip(cl.list_display, result_headers(cl), strict=True)
    ]
    return {
        "cl": cl,
        "result_headers": [_explained(cl, str(name), one) for name, one in zip(cl.list_display, headers, strict=True)],
        "num_sorted_fields": sum(header.get("sorted", False) for header in headers),
        "has_add_permission": context["has_add_permission"],
        "rows": list(_rows(cl, [conditional_escape(header["text"]) for header in headers])),
    }


def _greatest_first(cl: Any, name: str, header: dict[str, Any]) -> dict[str, Any]:
    """The head of a column. A first click on one of numbers sorts the greatest first."""
    if not header.get("sortable") or header["sorted"] or name not in cl.model_admin.greatest_first:
        return header
    others = [f"{'-' if way == 'desc' else ''}{number}" for number, way in cl.get_ordering_field_columns().items()]
    order = ".".join([f"-{cl.list_display.index(name)}", *others])
    return {**header, "url_primary": cl.get_query_string({ORDER_VAR: order})}


def _explained(cl: Any, name: str, header: dict[str, Any]) -> dict[str, Any]:
    """The head of a column; of one that its admin does not sort by, with the reason on hover."""
    why = "" if header.get("sortable") else cl.model_admin.unsorted.get(name, "")
    if not why:
        return header
    text = format_html('<span title="Not sorted by this: {}">{}</span>', why, capfirst(header["text"]))
    return {**header, "text": text}


def _rows(cl: ChangeList, labels: Sequence[str]) -> Iterator[SafeString]:
    """The cells of each row."""
    box = checkbox.render(helpers.ACTION_CHECKBOX_NAME, _KEY)
    tick = f'<td class="{_TICK}" data-label="Select record">{box}</td>'
    # What Django's add_preserved_filters says, which works it out anew for each row.
    kept = f"?{cl.preserved_filters}" if cl.preserved_filters else ""
    names = [str(name) for name in cl.list_display]
    empty = conditional_escape(cl.model_admin.get_empty_value_display())
    linked = [name for name in names if name in (cl.list_display_links or ())]
    for row in cl.result_list:
        cells = []
        for name, label in zip(names, labels, strict=True):
            if name == "action_checkbox":
                cells.append(tick.replace(_KEY, escape(row.pk)))
                continue
            text, nowrap = _shown(cl, name, row, empty)
            kind = "th" if name in linked[:1] else "td"
            known = " is-empty" if text.strip() in ("", "0", "{}", empty) else ""
            if name in linked:
                url = conditional_escape(f"{cl.url_for_result(row)}{kept}")
                text = f'<a href="{url}" class="{_LINK}" >{text}</a>'
            cells.append(f'<{kind} class="field-{name} {_CELL}{nowrap}{known}" data-label="{label}">{text}</{kind}>')
        yield SafeString("".join(cells))


def _shown(cl: ChangeList, name: str, row: Model, empty: str) -> tuple[str, str]:
    """What stands in a cell, as HTML, and the class of times. empty: what stands for nothing."""
    try:
        field, attribute, value = lookup_field(name, row, cl.model_admin)
    except ObjectDoesNotExist:
        return conditional_escape(empty), ""
    empty = getattr(attribute, "empty_value_display", empty)
    is_time = isinstance(value, date | time) or isinstance(field, DateField | TimeField | ForeignKey)
    shown: Any
    if field is None:
        colours = getattr(attribute, "label", False)
        shown = (
            _label(value, None if colours is True else colours.get(value))
            if colours
            else display_for_value(value, empty, getattr(attribute, "boolean", False))
        )
    elif isinstance(field, ForeignKey):
        shown = empty if value is None else value
    else:
        shown = display_for_field(value, field, empty)
    return conditional_escape(shown), " nowrap" if is_time else ""


@lru_cache(maxsize=1000)
def _label(value: str, colour: str | None) -> SafeString:
    """A word on a ground of this colour. There are few of them, and each is a template of its own."""
    label: Mapping[str, str] | bool = {value: colour} if colour else True
    shown: SafeString = display_for_label(value, "", label)
    return shown
