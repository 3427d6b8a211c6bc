"""Pages of long lists, by cursor: no page counts the rows."""

from typing import Any

from django.db import DataError
from rest_framework.exceptions import NotFound, ValidationError
from rest_framework.pagination import CursorPagination
from rest_framework.request import Request


class Cursor(CursorPagination):
    """Cursor pagination with `?limit=` rows a page. The view's `ordering` is a unique field, so no row is missed or returned
    twice.
    """

    page_size = 100
    max_page_size = 1000
    page_size_query_param = "limit"
    page_size_query_description = f"Rows a page, {page_size} by default, {max_page_size} at most."

    def get_ordering(self, request: Request, queryset: Any, view: Any) -> tuple[str]:
        return (view.ordering,)

    def get_page_size(self, request: Request) -> int | None:
        """The number of rows a page. Raises ValidationError if `limit` is not a whole number above 0."""
        asked = request.query_params.get(self.page_size_query_param)
        if asked is not None and not (asked.isascii() and asked.isdecimal() and int(asked[:9]) > 0):
            raise ValidationError({self.page_size_query_param: [f"A whole number, 1 to {self.max_page_size}."]})
        return super().get_page_size(request)

    def paginate_queryset(self, queryset: Any, request: Request, view: Any = None) -> list[Any] | None:
        try:
            return super().paginate_queryset(queryset, request, view)
        except (ValueError, TypeError, DataError):
            # The position in the cursor comes from the caller; the database is the first to check it.
            raise NotFound(self.invalid_cursor_message) from None
