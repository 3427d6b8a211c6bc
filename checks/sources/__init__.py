"""Sources of configs: files, people and pipelines. Each sends the dispatcher what differs from the store."""

from checks.sources.files import FileSource
from checks.sources.guards import SyncUnderWay
from checks.sources.sync import SOURCES, Report, sync, sync_settled

__all__ = ["SOURCES", "FileSource", "Report", "SyncUnderWay", "sync", "sync_settled"]
