"""What node agents get, as bytes: YAML, patching, digests, check IDs, shards, and the copy without secrets. Pure."""
