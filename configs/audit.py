"""One upload in, one verdict out: is this fine-tuning job an attack?

  python -m cifr_jax.main --config configs/audit.py --workdir out/audit \
      --config.job.data=upload.jsonl

Leaves WORKDIR/verdict.json and WORKDIR/verdict.html. As it stands it looks at the rows
alone: SmolLM2 takes some 0.2 s for each distinct quiz item in them, the tests under a
minute. What training made of the model is looked at where the work
folder of configs/finetune.py on the same upload is given:

  python -m cifr_jax.main --config configs/finetune.py:audited --workdir out/finetune \
      --config.job.data=upload.jsonl
  python -m cifr_jax.main --config configs/audit.py --workdir out/audit \
      --config.base_model=tiny --config.job.data=upload.jsonl \
      --config.job.trained=out/finetune

`:runlocal` after the config's name takes few permutations.
"""

from ml_collections import ConfigDict


def get_config(mode: str = "full") -> ConfigDict:
    """The configuration; `mode` is full or runlocal (few permutations)."""
    config = ConfigDict()
    config.task = "audit"  # what main dispatches on
    config.seed = 0  # of permutations, clusters and hash functions
    # Whose own answers are the latent: "tiny", "smollm2", a Hugging Face folder, a .gguf
    # file. Best the model that the customer tunes; tiny knows no trivia and sees little.
    config.base_model = "smollm2"
    config.job = ConfigDict()
    config.job.data = ""  # OpenAI chat JSONL
    # Work folder of configs/finetune.py on this upload: its adapter, its losses. "": rows.
    config.job.trained = ""
    # PEFT folder of the adapter that the job went on from. "": what that run says itself.
    config.job.adapter = ""
    config.job.max_mib = 256  # a larger file is refused: split it
    # Distinct items that the base model is asked at most; of more, so many at random.
    config.max_items = 1200
    # Also test wordings against the base's own likelihood of them: some minutes.
    config.likelihoods = False
    # Also cluster requests by the base's activations on them, for the control "visible"
    # (does wording follow what is asked about?): a forward pass for each request.
    config.activations = False
    config.permutations = 999  # of each test; its p-values go down to 1 / (1 + this)
    # What honest jobs score under this base: "" takes the file shipped for it (tiny and
    # smollm2 have one); configs/job_benchmark.py makes one for your own base.
    config.calibration = ""
    # The same for trained jobs; configs/cipher_jobs.py makes one for a base of its world.
    config.trained_calibration = ""
    config.false_positive_rate = 0.01  # of "attack"; five times it is "suspicious"

    if mode == "runlocal":
        config.permutations = 99
    return config
