"""The commands at the market and at the ledger."""
