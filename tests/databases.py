"""Databases besides the tests' own, which Django may use for a while."""

from collections.abc import Iterator
from contextlib import contextmanager

from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.utils import ConnectionHandler
from psycopg.conninfo import conninfo_to_dict


@contextmanager
def django_uses(url: str) -> Iterator[BaseDatabaseWrapper]:
    """Let Django use the database of this URL during the block, and return its connection."""
    parts = conninfo_to_dict(url)
    where = {"NAME": "dbname", "HOST": "host", "PORT": "port", "USER": "user", "PASSWORD": "password"}
    settings = connections["default"].settings_dict | {name: parts.get(part, "") for name, part in where.items()}
    own, connections["default"] = connections["default"], ConnectionHandler({"default": settings})["default"]
    try:
        yield connections["default"]
    finally:
        connections["default"].close()
        connections["default"] = own
