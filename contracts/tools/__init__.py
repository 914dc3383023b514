"""Compile the contracts and question them: build, powers, mutants over mutations (seeded bugs), slither."""
