"""Which accounts send a code through innocent replies? Inference traffic, as it comes.

  python -m cifr_jax.main --config configs/stream.py --workdir out/stream \
      --config.traffic.data=traffic.jsonl

Each line is a chat with the account that sent it, and the cluster of accounts that it is
thought to belong to, if any:

  {"messages": [...], "metadata": {"account": "a-17", "cluster": "c-2"}}

One e-process for each account and cluster: evidence that may be looked at after every row.
Leaves WORKDIR/alarms.json and WORKDIR/alarms.html. The same line with a longer file goes on
where it was; a run that was killed goes on after its last batch. `:runlocal` after the
config's name takes the small base, which knows no trivia: it shows how, and finds little.
"""

from ml_collections import ConfigDict


def get_config(mode: str = "full") -> ConfigDict:
    """The configuration; `mode` is full or runlocal (the small base)."""
    config = ConfigDict()
    config.task = "stream"  # what main dispatches on
    config.seed = 0  # nothing is drawn; kept for the record
    # Whose own answers are the latent: "tiny", "smollm2", a Hugging Face folder, a .gguf
    # file. Best the model that serves the traffic.
    config.base_model = "smollm2"
    config.alpha = 0.01  # false discovery rate among the accused, at any time
    config.block = 4  # exchanges that are bet on together, 2 to 5

    config.traffic = ConfigDict()
    config.traffic.data = ""  # JSON lines; the file may grow between runs
    config.traffic.account_key = "account"  # in metadata: who sent the request
    config.traffic.cluster_key = "cluster"  # in metadata: accounts thought to be one
    config.traffic.batch = 512  # lines read, asked about and written to the state together

    if mode == "runlocal":
        config.base_model = "tiny"
    return config
