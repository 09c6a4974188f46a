"""Tests of `validation.mutation`."""
