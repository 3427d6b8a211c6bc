"""The line that each role logs when it starts."""

import structlog
from psycopg.conninfo import conninfo_to_dict

from clusteragent.lib import conf
from clusteragent.lib.version import VERSION

# What tells one database from another. Everything else of a URL stays out of the log: there are the user and the password.
_TOLD = "service", "host", "hostaddr", "port", "dbname"

log = structlog.get_logger()


def log_start(role: str, listens: str = "") -> None:
    """Log which role starts, of which version, on which database. listens: where, if it serves anybody."""
    url = conf.DATABASE_URL if role == "agents" else conf.DIRECT_DATABASE_URL or conf.DATABASE_URL
    parts = conninfo_to_dict(url)
    database = " ".join(f"{name}={parts[name]}" for name in _TOLD if parts.get(name)) if url else "embedded"
    where = {"listens": listens} if listens else {}
    log.info("role_starts", role=role, version=VERSION, replica=conf.REPLICA, database=database, **where)
