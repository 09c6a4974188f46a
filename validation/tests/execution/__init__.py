"""Tests of `validation.execution`."""
