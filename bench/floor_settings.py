"""The agents' web server as it is, but for one thing: heartbeats are answered without asking the database."""

from clusteragent.settings import *  # noqa: F403

ROOT_URLCONF = "bench.floor_urls"
