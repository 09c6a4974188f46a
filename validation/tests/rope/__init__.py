"""Tests of `validation.rope`."""
