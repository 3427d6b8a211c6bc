"""AutoConf: sends the dispatcher what config sources have."""

from checks.autoconf.files import FileSource
from checks.autoconf.source import ConfigSource, PassedOver, Problem
from checks.autoconf.sync import SOURCES, Report, SyncUnderWay, sync, sync_settled

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
