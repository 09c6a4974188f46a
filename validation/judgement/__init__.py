"""From two streams of logits to a verdict."""
