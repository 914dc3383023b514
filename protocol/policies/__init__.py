"""Policies on the wire: manifests, patches between versions, and which groups made which version."""
