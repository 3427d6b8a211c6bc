"""The models of this package."""

from acts.models.acts import Act

__all__ = ["Act"]
