"""Pages of lists that may be long: from one row to the next, without counting."""

from typing import Any

from django.db import DataError
from rest_framework.exceptions import NotFound, ValidationError
from rest_framework.pagination import CursorPagination
from rest_framework.request import Request


class Cursor(CursorPagination):
    """`?limit=` rows a page. The view's `ordering` is a unique field, so that no row is missed or told twice."""

    page_size = 100
    max_page_size = 1000
    page_size_query_param = "limit"
    page_size_query_description = f"Rows a page, {page_size} unless told otherwise, {max_page_size} at most."

    def get_ordering(self, request: Request, queryset: Any, view: Any) -> tuple[str]:
        return (view.ordering,)

    def get_page_size(self, request: Request) -> int | None:
        """Raises ValidationError for a limit that is no number of rows: to be given others than were asked for is odd."""
        asked = request.query_params.get(self.page_size_query_param)
        if asked is not None and not (asked.isascii() and asked.isdecimal() and int(asked[:9]) > 0):
            raise ValidationError({self.page_size_query_param: [f"A whole number, 1 to {self.max_page_size}."]})
        return super().get_page_size(request)

    def paginate_queryset(self, queryset: Any, request: Request, view: Any = None) -> list[Any] | None:
        try:
            return super().paginate_queryset(queryset, request, view)
        except (ValueError, TypeError, DataError):
            # Its position is the caller's word, and nobody looked at it before the database did.
            raise NotFound(self.invalid_cursor_message) from None
