"""Tiers of meta-embeddings: codebooks E, assignments S, and how they compose users and items."""
