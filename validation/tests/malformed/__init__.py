"""Over 700 malformed inputs: each is one sentence and status 2, or a repaired resume."""
