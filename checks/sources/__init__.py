"""Sources of configs: files, people and pipelines. Each sends the dispatcher what differs from the store."""

from checks.sources.files import FileSource
from checks.sources.guards import SyncUnderWay
from checks.sources.source import ConfigSource, PassedOver, Problem
from checks.sources.sync import (
    PATIENCE,
    SOURCES,
    Report,
    accept_removals_of,
    add_watched,
    leaders_names,
    read_ahead,
    sync,
    sync_settled,
)

__all__ = [
    "PATIENCE", "SOURCES", "ConfigSource", "FileSource", "PassedOver", "Problem", "Report", "SyncUnderWay",
    "accept_removals_of", "add_watched", "leaders_names", "read_ahead", "sync", "sync_settled",
]  # fmt: skip
