"""The table of docs/parity.md: the decoder beside transformers, family by family.

  python -m benchmarks.parity_table [--models 8] [--families llama] [--out docs/parity.md]

Random tiny models with every switchable feature of their family (`testing_families`), three
texts of 28, 17 and 5 tokens. Needs the extra `parity`. About three seconds a model.
"""

import argparse
import math
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.measure import torch_or_error, versions
from cifr_jax.files import write_bytes_atomic
from cifr_jax.models.families.registry import FAMILIES

HEAD = """# Parity with transformers

Made by `python -m benchmarks.parity_table --models {models}` with {versions}.

Largest absolute differences over {models} random tiny models a family, whose configs have
every switchable feature of the family: one to all key/value heads, heads that are not width
over heads, tied ends or not, biases, windows and original contexts shorter than the texts,
every kind of rotation that the family uses. transformers computes each text alone, in its
plain attention. Logits are of order one; the largest is in the last column.

fp32: `alone`, `right` and `left` are logits against transformers, without padding and with
padding on either side; `cached` is our decoding token by token against our forward pass
(with LongRoPE, in models whose original context holds the texts: longer caches are
refused); `layer` is the residual stream after any block, relative to its largest value.

bf16: `both` is ours against transformers in bf16; `ours` and `theirs` are the distances of
each from transformers in fp32.

| family | layer | alone | right | left | cached | bf16 both | ours | theirs | largest |
|---|---|---|---|---|---|---|---|---|---|
"""
COLUMNS = (
    ("layer", "alone", "right", "left", "cached")
    + ("coarse", "ours_coarse", "theirs_coarse", "largest")
)  # fmt: skip


def row(family: str, models: int) -> str:
    """One line of the table."""
    import jax

    from benchmarks.parity_reference import Differences, compare

    found: list[Differences] = []
    for seed in range(models):
        found.append(compare(family, seed))
        print(f"{family}, model {seed + 1} of {models}", file=sys.stderr)
    jax.clear_caches()
    cells = [FAMILIES[family].architecture.removesuffix("ForCausalLM")]
    for name in COLUMNS:
        values = [getattr(one, name) for one in found if getattr(one, name) is not None]
        worst = max(values, default=math.nan)
        cells.append(f"{worst:.1f}" if name == "largest" else f"{worst:.1e}")
    return f"| {' | '.join(cells)} |"


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, and write the page."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--models", type=int, default=8)
    parser.add_argument("--families", nargs="+", choices=FAMILIES, default=list(FAMILIES))
    parser.add_argument("--out", type=Path)
    chosen = parser.parse_args(arguments)
    torch_or_error()
    named = ", ".join(
        f"{k} {v}" for k, v in versions(("jax", "torch", "transformers")).items()
    )
    page = HEAD.format(models=chosen.models, versions=named)
    page += "".join(row(family, chosen.models) + "\n" for family in chosen.families)
    if chosen.out is None:
        print(page, end="")
    else:
        chosen.out.parent.mkdir(parents=True, exist_ok=True)
        write_bytes_atomic(chosen.out, page.encode())


if __name__ == "__main__":
    main()
