"""Mutants of the fork's patched functions, against the tests that the patches add."""
