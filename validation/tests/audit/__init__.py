"""Tests of `validation.audit`."""
