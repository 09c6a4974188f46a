"""Turns PyPI's sdist of TransformerLens and our patches into a reviewable git tree, and back."""
