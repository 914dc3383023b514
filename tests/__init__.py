"""Mirrors the packages; see `CONTRIBUTING.md`."""
