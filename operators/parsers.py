"""Bodies of the operators' API."""

from collections.abc import Mapping
from typing import IO, Any

from rest_framework.exceptions import APIException, ParseError
from rest_framework.parsers import JSONParser

# Some ten thousand configs.
MOST_BYTES = 32 * 1024 * 1024


class TooLarge(APIException):
    status_code = 413
    default_detail = f"The body has more than {MOST_BYTES} bytes."


class BoundedJSONParser(JSONParser):
    """JSON of a bounded length and depth."""

    def parse(
        self, stream: IO[Any], media_type: str | None = None, parser_context: Mapping[str, Any] | None = None
    ) -> Any:
        request = (parser_context or {})["request"]
        if int(request.META.get("CONTENT_LENGTH") or 0) > MOST_BYTES:
            raise TooLarge
        try:
            return super().parse(stream, media_type, parser_context)
        except RecursionError:
            raise ParseError("JSON parse error - too deep") from None
