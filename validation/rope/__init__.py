"""The mathematics of rotary position embedding: what can go wrong with it."""
