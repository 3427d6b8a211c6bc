"""The bytes that node agents get: YAML, patching, digests, check IDs, shards, and the copies without secrets. Pure."""
