"""Template filters that format numbers and headings."""

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
