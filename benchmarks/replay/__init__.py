"""What replay costs beside generating, and what it holds. Read `cost.py`, then `memory.py`."""
