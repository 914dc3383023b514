"""The whole loop, as processes: `crashes` kills each part of a running market, `interrupts` stops it."""
