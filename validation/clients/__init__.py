"""Do libraries that build on TransformerLens work on the fork as they do on the release?"""
