"""Detectors whose unit is a whole fine-tuning job, not a sample."""
