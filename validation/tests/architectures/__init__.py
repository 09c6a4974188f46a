"""Tests of `validation.architectures`."""
