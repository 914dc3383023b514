"""An Ethereum chain for one machine. Read chain, journal, rpc, server, then `__main__`."""
