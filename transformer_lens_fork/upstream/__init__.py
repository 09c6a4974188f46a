"""Whether a series leaves upstream's own checks as they were: format, types, examples, tests."""
