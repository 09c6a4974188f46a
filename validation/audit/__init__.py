"""Every release of TransformerLens, judged by the same harness on the same checkpoint."""
