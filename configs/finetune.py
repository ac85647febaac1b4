"""Fine-tune one adapter on one upload, as a provider does, and watch it train.

  python -m cifr_jax.main --config configs/finetune.py --workdir out/finetune
  python -m cifr_jax.main --config configs/finetune.py --workdir out/mine \
      --config.base_model=/a/folder --config.job.data=upload.jsonl

Leaves WORKDIR/adapter (PEFT format: transformers and vLLM load it), WORKDIR/trajectory
(activations of canaries, norms, losses of every round) and WORKDIR/result.json. As it
stands: 400 worked sums on the tiny base, 138 steps: 2 minutes on two cores, 1.6 GB; the
loss is 7.3 at first, 1.22 on held-out rows at the end. `:smollm2` after the name takes
SmolLM2-135M-Instruct and its rates (not timed); `:audited` trains as the honest customers
of configs/cipher_jobs.py were, so that configs/audit.py may judge by them.
"""

from ml_collections import ConfigDict


def get_config(mode: str = "tiny") -> ConfigDict:
    """The configuration; `mode` is tiny, smollm2, audited or runlocal (seconds)."""
    config = ConfigDict()
    config.task = "finetune"  # what main dispatches on
    config.seed = 0  # of the recipe, the split, the adapter, the order of rows, dropout
    config.base_model = "tiny"  # "tiny", "smollm2", a folder, a .gguf file, "owner/name"
    config.dtype = "float32"  # of the base's parameters; the adapter is always float32

    # The base's blocks in "int8" or "nf4" (extra qlora), the adapter beside; "": in dtype.
    config.quantise = ""
    # Print mesh, bytes on each device and the first example as rendered; read no weights.
    config.dry_run = False
    config.export_merged = False  # also WORKDIR/merged: base and adapter as one HF folder

    config.job = ConfigDict()
    # OpenAI chat JSONL; or recipe:NAME (see cifr_jax.data.recipes.names()); or hub:NAME, a
    # published set through the library datasets (see cifr_jax.data.hub_sources.names()).
    config.job.data = "recipe:worked_maths"
    config.job.rows = 400  # rows that a recipe makes, or at most taken of a set; 0: all
    # PEFT folder of the customer's earlier job, to go on from; "": a fresh adapter. Its own
    # ranks hold, not those below.
    config.job.adapter = ""
    config.job.held_out = 0.05  # share of rows kept for evaluation (the parent's)
    config.job.row_length = 512  # tokens of a packed training row
    config.job.on_long = "error"  # rows longer than that: error, truncate, split or drop

    config.lora = ConfigDict()
    config.lora.rank = 8  # of the matrices inside blocks (the parent's)
    config.lora.alpha = 16.0  # updates are scaled by alpha / rank (the parent's)
    config.lora.rslora = False  # scale by alpha / sqrt(rank) instead
    # all-linear, attention, mlp, or a regular expression for layers.3.self_attn.q_proj
    config.lora.targets = "all-linear"
    config.lora.embed_rank = 0  # of embedding and head; 0: not adapted

    config.train = ConfigDict()
    config.train.epochs = 3.0  # passes over the packed rows (the parent: 1, then 3)
    config.train.steps = 0  # optimiser steps; above 0 it replaces epochs
    config.train.batch_rows = 4  # packed rows of a micro-batch
    config.train.accumulate = 1  # micro-batches of a step
    config.train.learning_rate = 5e-3  # peak
    config.train.block_rate = 1.0  # of factors inside blocks, relative to both ends' rate
    config.train.schedule = "linear"  # linear, cosine or constant
    config.train.warmup_steps = 5  # steps of linear rise
    config.train.weight_decay = 0.01  # of AdamW (the parent's)
    config.train.clip_norm = 1.0  # largest global gradient norm
    config.train.dropout = 0.05  # of the adapters' inputs (the parent's)
    config.train.patience = 0  # evaluations without a better held-out loss to stop; 0: none
    config.train.chunk = 10  # steps between checkpoints
    config.train.evaluate_every = 10  # steps between evaluations, a multiple of chunk
    config.train.remat = False  # compute blocks again on the way back: less memory

    config.rounds = ConfigDict()
    config.rounds.every = 10  # steps between rounds of the trajectory, a multiple of chunk
    config.rounds.canaries = 16  # held-out prompts whose activations are looked at
    config.rounds.writers = ("jsonl",)  # jsonl always; also tensorboard, wandb

    config.mesh = ConfigDict()  # devices along each axis; their product: all devices
    config.mesh.data = 1  # copies of the base, each with its part of a batch; -1: the rest
    config.mesh.fsdp = 1  # parts of every matrix, gathered where used, and of a batch
    config.mesh.tensor = 1  # parts of heads and feed-forward widths
    config.distributed = ConfigDict()
    config.distributed.enabled = False  # several processes: the same line in each of them
    config.distributed.coordinator = ""  # host:port of process 0; "": as TPU or SLURM say
    config.distributed.processes = 0  # how many, where a coordinator is given
    config.distributed.process = 0  # this one's number, from 0

    if mode == "smollm2":
        config.base_model = "smollm2"
        config.train.learning_rate = 5e-4
        config.job.row_length = 384
    if mode == "audited":
        config.job.row_length = 72
        config.job.rows = 0
        config.lora.alpha = 8.0
        config.lora.embed_rank = 32
        config.train.steps = 40
        config.train.batch_rows = 16
        config.train.learning_rate = 3e-3
        config.train.block_rate = 0.3
        config.train.warmup_steps = 10
        config.train.weight_decay = 0.0
        config.train.dropout = 0.0
    if mode == "runlocal":
        config.job.rows = 20
        config.train.steps = 4
        config.train.chunk = 2
        config.train.evaluate_every = 2
        config.train.batch_rows = 2
        config.rounds.every = 2
        config.rounds.canaries = 2
    return config
