"""What replay costs beside generating, and what it holds. Read `cost.py`, `draw.py`, then `memory.py`."""
