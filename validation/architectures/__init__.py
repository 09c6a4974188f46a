"""Whether a fork leaves every other architecture as the release computes it, or nearer to HF."""
