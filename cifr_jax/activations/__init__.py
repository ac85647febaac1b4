"""Activations of prompts: jitted capture, pooled on the device."""

from cifr_jax.activations.capture import POOLS, capture, capture_tokens

__all__ = ["POOLS", "capture", "capture_tokens"]
