"""What outlives a request: Redis, its keys and scripts, records, and blobs."""
