"""The operators' API, below /api/operator/v1/."""
