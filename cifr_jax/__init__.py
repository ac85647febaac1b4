"""cifr_jax: is this fine-tuning job an attack, and which defence would have caught it?

Importing the package touches no JAX backend.
"""

__version__ = "0.1.0"
