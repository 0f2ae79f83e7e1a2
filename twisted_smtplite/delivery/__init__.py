"""Deliveries: one file per backend, never importing each other; the `registry` that finds them; what they build on (`base`, `durable`)."""
