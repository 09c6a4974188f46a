"""Tests of `validation.models`."""
