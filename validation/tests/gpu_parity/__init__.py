"""Tests of `validation.gpu_parity`."""
