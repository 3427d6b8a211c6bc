"""Template filters that format numbers and headings, and the tag that names the parts of a heading."""

from datetime import UTC, datetime
from typing import Any

from django import template
from django.db.models import Model
from django.template.defaultfilters import capfirst
from django.utils.dateformat import format as date_format
from django.utils.html import format_html
from django.utils.safestring import SafeString

from clusteragent.lib import words

register = template.Library()
register.filter("grouped", words.grouped)
register.filter("grouped_count", words.grouped_count)
register.filter("percent", words.percent)
register.filter("visible", words.visible)


@register.filter
def share(part: float) -> str:
    """The CSS width of a bar, at most its frame: `42.0%`."""
    return f"{min(part, 1):.1%}"


@register.filter
def unlocalized(number: float) -> str:
    """A number without grouping, for drawings and forms."""
    return str(number)


@register.filter
def at(time: datetime, form: str) -> SafeString:
    """A time in UTC, marked so that a script can show it in another zone. form: as of Django's filter `date`."""
    time = time.astimezone(UTC)
    return format_html('<time datetime="{}">{}</time>', time.isoformat(), date_format(time, form))


@register.filter
def heading(title: Any) -> str:
    """A part of a page's heading: with a capital, unless it is the name of a row: names are case-sensitive."""
    return str(title) if isinstance(title, Model) else capfirst(title)


@register.simple_tag
def rooms(parts: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The parts of a page's heading, with the list's group and name of the sidebar instead of Django's app and model."""
    # Not before: Django looks for tags while unfold, on which the pages are built, is imported.
    from operators.pages import base

    if len(parts) < 2 or (found := base.place(str(parts[1].get("link", "")))) is None:
        return parts
    group, title = found
    return [{"title": group}, parts[1] | {"title": title}, *parts[2:]]
