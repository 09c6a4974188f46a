"""Tests of `validation.judgement`."""
