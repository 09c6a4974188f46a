"""Tests of `transformer_lens_fork`, one module for each module."""
