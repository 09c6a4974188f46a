"""Tests of the long-context studies."""
