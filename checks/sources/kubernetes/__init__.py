"""Kubernetes as a source of configs: what people annotate on Services, and what they declare."""
