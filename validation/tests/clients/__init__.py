"""Tests of `validation.clients`."""
