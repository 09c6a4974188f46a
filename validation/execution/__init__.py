"""Runs cases: one model in memory at a time, each in a process of its own."""
