"""Tests of `validation.reporting`."""
