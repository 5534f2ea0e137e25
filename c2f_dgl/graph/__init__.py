"""The heterograph: built, linked to tiers, partitioned, propagated over."""
