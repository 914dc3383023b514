"""Compile the contracts and question them: build, mutants over mutations (seeded bugs), slither."""
