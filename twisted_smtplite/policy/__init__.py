"""Policies: one file per policy, never importing each other; the `registry` that finds them; what they build on (`base`, `lists`)."""
