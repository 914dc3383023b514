"""Compile the contracts and question them: powers, seeded bugs, Slither."""
