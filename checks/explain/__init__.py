"""Explains the map: why a config is where it is, whether it runs there, what happened to it, and the alerts. Read-only."""
