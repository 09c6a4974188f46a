"""Tests of `validation.studies`."""
