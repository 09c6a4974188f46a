"""Tests of the harness, with right and with deliberately wrong input."""
