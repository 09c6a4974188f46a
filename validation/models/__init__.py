"""Where the two models and their input come from."""
