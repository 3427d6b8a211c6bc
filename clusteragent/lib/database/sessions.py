"""Sessions of our processes, as the database knows them."""

from datetime import datetime

from django.db import connection

from clusteragent.lib.processes import SESSIONS

# Not the ORM: it has no model of what the server tells of its sessions.
_OLDEST = """
    SELECT min(backend_start) FROM pg_stat_activity
    WHERE datname = current_database() AND starts_with(application_name, %s) AND pid <> pg_backend_pid()
"""


def oldest() -> datetime | None:
    """Return when the oldest of our other sessions began; None while there is no other."""
    with connection.cursor() as cursor:
        cursor.execute(_OLDEST, [SESSIONS])
        found: datetime | None = cursor.fetchone()[0]
    return found
