"""The relay: a delivery that keeps messages safe on disk and sends them on, again and again if need be, until each recipient has an outcome."""
