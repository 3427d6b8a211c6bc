"""Migration of the database before anything uses it."""

from collections.abc import Iterator
from contextlib import contextmanager

import django.db
import psycopg
from django.contrib.auth import get_user_model
from django.core.management import call_command
from django.core.management.commands import migrate
from django.db import connection, transaction

from clusteragent.lib import conf, credentials, locks
from clusteragent.lib.locks import Lock

ADMIN = "admin"


class DatabaseError(Exception):
    """The database can't be reached or changed."""


def upgrade(verbosity: int = 0) -> None:
    """Migrate, and make the first operator, whose password is in a file of VAR. Raises DatabaseError and CredentialsError.

    A lock makes replicas that start at the same time migrate one after the other: each would create the same tables.
    verbosity: of Django's command.
    """
    connect()
    with _named(), psycopg.connect(**connection.get_connection_params(), autocommit=True) as session:
        while not locks.try_acquire(session.cursor(), Lock.MIGRATE):
            pass
        call_command(migrate.Command(), verbosity=verbosity, interactive=False)
        with transaction.atomic():
            # Not imported: the agents' port has no users, and Django loads every command there, too.
            users = get_user_model().objects
            if not users.exists():
                users.create_superuser(ADMIN, password=credentials.make_admin_password(conf.VAR))


def connect() -> None:
    """Connect to the database. Raises DatabaseError."""
    with _named():
        connection.ensure_connection()


@contextmanager
def _named() -> Iterator[None]:
    """Raise errors of the database as DatabaseError, which names the option that says where it is."""
    try:
        yield
    except (django.db.Error, psycopg.Error, locks.Pooled) as error:
        # The settings of this process name the direct one where there are two.
        direct = "CLUSTERAGENT_DIRECT_DATABASE_URL" if conf.DIRECT_DATABASE_URL else "DATABASE_URL"
        name = direct if conf.DATABASE_URL else "the embedded PostgreSQL"
        raise DatabaseError(f"{name}: {' '.join(str(error).split())}") from error
