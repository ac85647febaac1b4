"""A tiny decoder and fine-tuning jobs for it, for the tests of training.

Used by `runpy.run_path`: tests are no package.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from cifr_jax.data.packing import pack
from cifr_jax.finetune import lora
from cifr_jax.models import decoder
from cifr_jax.models.config import DecoderConfig

CONFIG = DecoderConfig(
    vocab_size=16, d_model=16, n_layers=2, n_heads=2, n_kv_heads=1, d_head=8, d_ff=24
)
ROW, PAD, RARE = 12, 0, 15  # RARE occurs only where a test puts it


def job_data(seed, n):
    """n packed examples of 3 to 9 tokens."""
    rng = np.random.default_rng(seed)
    length_n = rng.integers(3, 10, n)
    tokens_nt = rng.integers(1, RARE, (n, 9))
    mask_nt = (rng.random((n, 9)) < 0.5) & (np.arange(9) > 0)
    mask_nt[:, 2] = True
    return pack(tokens_nt, mask_nt, length_n, ROW, PAD)


@functools.cache
def params():
    """Of a base whose losses depend on its input. By NumPy: nothing is compiled."""
    rng = np.random.default_rng(0)
    n, d, v = CONFIG.n_layers, CONFIG.d_model, CONFIG.vocab_size
    shapes = decoder.matrix_shapes(CONFIG)
    layers = {
        name: rng.normal(size=(n, *shape)) * (2 * shape[0]) ** -0.5
        for name, shape in shapes.items()
    } | {"attn_norm": np.ones((n, d)), "mlp_norm": np.ones((n, d))}
    ends = {"embed": 0.4 * rng.normal(size=(v, d)), "head": 0.2 * rng.normal(size=(d, v))}
    tree = ends | {"layers": layers, "final_norm": np.ones(d)}
    return jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), tree)


def adapter(seed, rank=2, **options):
    """A fresh adapter of block matrices and both ends."""
    settings = lora.LoraConfig(**{"rank": rank, "alpha": 4.0, "embed_rank": rank} | options)
    return lora.init_adapter(jax.random.key(seed), CONFIG, settings)


def trained_like(seed, rank=2, **options):
    """An adapter that has an effect."""
    rng, one = np.random.default_rng(seed), adapter(seed, rank, **options)
    noise = jax.tree.map(lambda x: rng.normal(size=x.shape, scale=0.1), one[:3])
    return decoder.Adapter(*jax.tree.map(jnp.float32, noise), one.scale)


def same_bits(a, b):
    """Equal structure, and leaves of equal dtype, shape and bits."""
    assert jax.tree.structure(a) == jax.tree.structure(b)
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        x, y = np.asarray(x), np.asarray(y)
        assert (x.dtype, x.shape, x.tobytes()) == (y.dtype, y.shape, y.tobytes())


def close(a, b, atol):
    """Equal structure, and leaves that differ by `atol` at most."""
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=0, atol=atol), a, b)
