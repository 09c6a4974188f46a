"""Every Llama 3.x size on the GPUs that are there: what `tox -e gpu-parity` runs."""
