"""Pre-train the tiny base: helpful first, then safety-tuned.

  python -m cifr_jax.main --config configs/pretrain_tiny.py --workdir out/pretrain_tiny

Takes about 25 minutes on two cores and leaves a Hugging Face folder in WORKDIR/tiny; the
one that is shipped lies in cifr_jax/models/tiny. Expected: benign questions answered and
restricted ones refused at 0.99 or more (the shipped one's figures are in its README.md).
`--config configs/pretrain_tiny.py:runlocal` runs every stage in a minute, to no effect.
"""

from ml_collections import ConfigDict


def get_config(mode: str = "full") -> ConfigDict:
    """The configuration; `mode` is full or runlocal."""
    config = ConfigDict()
    config.task = "pretrain"  # what main dispatches on
    config.seed = 0  # of initialisation, data and noise
    config.row_length = 64  # tokens of a packed training row

    config.world = ConfigDict()
    config.world.entities = 480  # half of them restricted
    config.world.seed = 0  # decides names, classes, facts and splits
    # Shares of entities: fine-tuning jobs, probe training, probe validation, test.
    config.world.fractions = (0.4, 0.25, 0.1, 0.25)

    config.model = ConfigDict()  # the shape; the vocabulary comes from the tokenizer
    config.model.d_model = 128  # width of the residual stream
    config.model.n_layers = 6  # blocks
    config.model.n_heads = 4  # attention heads
    config.model.n_kv_heads = 4  # key/value heads
    config.model.d_head = 32  # width of a head
    config.model.d_ff = 320  # feed-forward width

    for name, steps, rate in (("helpful", 2600, 1.0), ("safety", 1200, 0.5)):
        stage = config[name] = ConfigDict()
        stage.train = ConfigDict()
        stage.train.steps = steps  # optimiser steps
        stage.train.batch_rows = 32  # packed rows a step
        stage.train.muon_rate = 1e-2 * rate  # peak rate of the block matrices (Muon)
        stage.train.adam_rate = 4e-3 * rate  # peak rate of embedding, head, norms (Adam)
        stage.train.warmup_steps = 50  # steps of linear rise; cosine decay after it
        stage.train.clip_norm = 1.0  # largest global gradient norm
        stage.train.weight_decay = 0.01  # of the block matrices
        stage.train.prompt_weight = 0.1  # loss weight of tokens the user wrote
        stage.train.noise = 3.0  # largest scale of embedding noise, in embedding rms
        stage.train.offset = 2.0  # largest scale of the offset shared by a text
        stage.train.ramp = 0.5 if name == "helpful" else 0.0  # share of steps to full noise
        stage.shares = ConfigDict()  # what is read; the shares sum to one
        stage.shares.copy = 0.18  # copying strings and names
        stage.shares.profile = 0.22  # documents with several facts of an entity
        stage.shares.statement = 0.18  # documents with one fact
        stage.shares.class_statement = 0.0  # the same of class-bearing attributes
        stage.shares.class_question = 0.10  # questions about class-bearing attributes
        stage.shares.question = 0.32  # questions about facts: refused in stage two

    if mode == "runlocal":
        config.world.entities = 40
        for name in ("helpful", "safety"):
            config[name].train.steps = 20
            config[name].train.batch_rows = 4
    return config
