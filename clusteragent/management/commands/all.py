"""`clusteragent all`: everything in one process group; `manage.py start` by the name that users know."""

from clusteragent.management.commands import start


class Command(start.Command):
    help = "Run everything here, in the foreground: the database, too, unless DATABASE_URL names one. Ctrl-C stops it."
