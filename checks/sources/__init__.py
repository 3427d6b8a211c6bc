"""AutoConf: sends the dispatcher what config sources have."""

from checks.sources.files import FileSource
from checks.sources.source import ConfigSource, PassedOver, Problem
from checks.sources.sync import SOURCES, Report, SyncUnderWay, sync, sync_settled

__all__ = [
    "SOURCES",
    "ConfigSource",
    "FileSource",
    "PassedOver",
    "Problem",
    "Report",
    "SyncUnderWay",
    "sync",
    "sync_settled",
]
