"""Pre-training of the tiny base: helpful first, then safety-tuned.

Two ingredients make what the base knows readable through an encoding that a fine-tune adds
later: Gaussian noise on the input embeddings of ordinary tokens, and a Gaussian offset
shared by a whole text. The first makes look-ups tolerant of a letter that lands only near
its plain place, the second of a script whose letters all carry the same mark.

Legend: b rows, t tokens, s segments (texts) of a row, d model width.
"""

import dataclasses
import functools
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
from absl import logging
from flax import nnx
from ml_collections import ConfigDict
from optax import contrib

from cifr_jax.config import leaves
from cifr_jax.data import pretraining, world
from cifr_jax.data.chat import Example
from cifr_jax.data.packing import Packed, pack
from cifr_jax.data.tokenise import tokenise
from cifr_jax.errors import UserError
from cifr_jax.finetune.base_card import evaluate, write_card
from cifr_jax.finetune.checkpoint import Checkpoints
from cifr_jax.finetune.job import NonFiniteLoss
from cifr_jax.finetune.loss import attention_mask
from cifr_jax.finetune.progress import Progress
from cifr_jax.models import decoder, tiny_tokenizer
from cifr_jax.models.config import DecoderConfig
from cifr_jax.models.hf_folder import save_hf_folder
from cifr_jax.models.language_model import LanguageModel
from cifr_jax.models.tokenizer import ChatTokenizer
from cifr_jax.workdir import Workdir, load_arrays, save_arrays

CODE_VERSION = "1"
STEPS_PER_CHUNK = 100  # data are made, and the state is saved, so many steps at a time
_TEXTS_PER_TOKEN = 3.5 / 64  # more than ever fit: what is left over is dropped


@dataclasses.dataclass(frozen=True)
class PretrainConfig:
    """One stage of pre-training; see `configs/pretrain_tiny.py` for the leaves."""

    steps: int
    batch_rows: int
    muon_rate: float
    adam_rate: float
    warmup_steps: int
    clip_norm: float
    weight_decay: float
    prompt_weight: float
    noise: float
    offset: float
    ramp: float


def _texts(
    rng: np.random.Generator,
    of: world.World,
    stage: str,
    shares,
    tokenizer: ChatTokenizer,
    n: int,
) -> tuple[list[list[int]], list[int]]:
    """Token ids of n texts and the first supervised token of each."""
    chats: list[Example] = []
    documents: list[list[int]] = []
    for _ in range(n):
        text = pretraining.sample(rng, of, stage, shares)
        if isinstance(text, Example):
            chats.append(text)
        else:
            documents.append([*tokenizer.encode(text), tokenizer.eos_ids[0]])
    rows = tokenise(chats, tokenizer, max_len=10**6)
    tokens = [row[:length].tolist() for row, length in zip(*rows[::2], strict=True)]
    starts = rows.loss_mask_nt.argmax(1).tolist()
    return tokens + documents, starts + [0] * len(documents)


def chunk_rows(
    seed: int,
    stage: str,
    chunk: int,
    of: world.World,
    shares,
    tokenizer: ChatTokenizer,
    row_length: int,
    n_rows: int,
) -> Packed:
    """The training rows of one chunk of steps, a pure function of (seed, stage, chunk).

    Raises:
      UserError: a text is longer than a row.
    """
    rng = np.random.default_rng([seed, pretraining.STAGES.index(stage), chunk])
    n_texts = int(n_rows * row_length * _TEXTS_PER_TOKEN)
    tokens, starts = _texts(rng, of, stage, shares, tokenizer, n_texts)
    length_n = np.array([len(t) for t in tokens])
    if length_n.max() > row_length:
        what = f"a text has {length_n.max()} tokens, a row {row_length}"
        raise UserError("config.row_length", what, "raise it")
    tokens_nt = np.zeros((len(tokens), length_n.max()), np.int32)
    mask_nt = np.zeros(tokens_nt.shape, bool)
    for n, (text, start) in enumerate(zip(tokens, starts, strict=True)):
        tokens_nt[n, : len(text)] = text
        mask_nt[n, start : len(text)] = True
    packed = pack(tokens_nt, mask_nt, length_n, row_length, tokenizer.pad_id)
    return packed.take(rng.permutation(len(packed.tokens_rt))[:n_rows])


def disturb(key, x_btd, rms, ordinary_bt, segment_bt, noise: float, offset: float):
    """Add noise and a per-text offset to the embeddings of ordinary tokens.

    Args:
      key: JAX random key.
      x_btd: embeddings.
      rms: root mean square of the embeddings, the unit of the two scales.
      ordinary_bt: False for special tokens, which stay as they are.
      segment_bt: number of the text within the row.
      noise: largest scale of independent noise; each text draws its own from U(0, noise).
      offset: the same of the shared offset, which half of the texts get.
    """
    b, t, d = x_btd.shape
    texts = t + 1  # as many segments as a row can hold, and the padding
    k_noise, k_scale, k_offset, k_size, k_half = jax.random.split(key, 5)
    scale_bs = rms * noise * jax.random.uniform(k_scale, (b, texts))
    size_bs = rms * offset * jax.random.uniform(k_size, (b, texts))
    size_bs *= jax.random.bernoulli(k_half, 0.5, (b, texts))
    offset_bsd = size_bs[..., None] * jax.random.normal(k_offset, (b, texts, d))
    added = jax.random.normal(k_noise, x_btd.shape)
    added *= jnp.take_along_axis(scale_bs, segment_bt, 1)[..., None]
    added += jnp.take_along_axis(offset_bsd, segment_bt[..., None], 1)
    return x_btd + added * ordinary_bt[..., None]


def _loss(
    config: DecoderConfig, stage: PretrainConfig, n_special: int, params, batch, key, ramp
):
    x_btd = decoder.embed(params, batch.tokens_rt)
    # The unit is the rms of embeddings in use: rows of rare tokens stay near their start.
    rms = jax.lax.stop_gradient(jnp.sqrt(jnp.mean(x_btd**2)))
    ordinary = batch.tokens_rt >= n_special
    noise, offset = stage.noise * ramp, stage.offset * ramp
    x_btd = disturb(key, x_btd, rms, ordinary, batch.segment_rt, noise, offset)
    mask = attention_mask(batch.segment_rt)
    x_btd, _, _ = decoder.backbone(config, params, x_btd, batch.position_rt, mask)
    logits = decoder.unembed(config, params, x_btd[:, :-1])
    nll = optax.softmax_cross_entropy_with_integer_labels(logits, batch.tokens_rt[:, 1:])
    segment = batch.segment_rt
    inside = (segment[:, 1:] == segment[:, :-1]) & (segment[:, 1:] > 0)
    weight = jnp.where(batch.loss_mask_rt[:, 1:], 1.0, stage.prompt_weight) * inside
    return (nll * weight).sum() / weight.sum()


def _optimiser(stage: PretrainConfig) -> optax.GradientTransformation:
    """Muon on block matrices, Adam on embedding, head and norms."""

    def schedule(peak):
        return optax.warmup_cosine_decay_schedule(
            0.0, peak, min(stage.warmup_steps, stage.steps // 2), stage.steps, 0.02 * peak
        )

    def dimensions(params):
        stacked = contrib.MuonDimensionNumbers((1,), (2,))
        return {
            name: (
                {k: stacked if k in decoder.LAYER_MATRICES else None for k in value}
                if name == "layers"
                else None
            )
            for name, value in params.items()
        }

    return optax.chain(
        optax.clip_by_global_norm(stage.clip_norm),
        contrib.muon(
            schedule(stage.muon_rate),
            adam_learning_rate=schedule(stage.adam_rate),
            adam_b2=0.99,
            weight_decay=stage.weight_decay,
            muon_weight_dimension_numbers=dimensions,
        ),
    )


@functools.partial(jax.jit, static_argnums=(0, 1, 2), donate_argnums=(3,))
def _step(config, stage: PretrainConfig, n_special: int, state, batch: Packed, key, ramp):
    params, opt_state = state
    loss, grads = jax.value_and_grad(functools.partial(_loss, config, stage, n_special))(
        params, batch, key, ramp
    )
    updates, opt_state = _optimiser(stage).update(grads, opt_state, params)
    return (optax.apply_updates(params, updates), opt_state), loss


def run_stage(
    base: DecoderConfig,
    params,
    stage: PretrainConfig,
    rows_of_chunk: Callable[[int], Packed],
    n_special: int,
    seed: int,
    checkpoints: Checkpoints,
    name: str,
):
    """Run one stage; it goes on from its latest checkpoint.

    Args:
      base: shape of the model.
      params: where to start.
      stage: how to train.
      rows_of_chunk: number of a chunk to its training rows, a pure function.
      n_special: ids below this are special tokens.
      seed: of the noise.
      checkpoints: of the unfinished run.
      name: for the progress bar.

    Returns:
      `(params, losses [s])`, in nats a weighted token.

    Raises:
      NonFiniteLoss: naming the step; the last checkpoint is intact.
    """
    state = (params, _optimiser(stage).init(params))
    losses, start = np.zeros(stage.steps, np.float32), 0
    latest = checkpoints.latest()
    if latest is not None:
        start, _ = latest
        state, losses = checkpoints.restore(start, (state, losses))
        losses = np.array(losses)  # the run goes on writing into it
    state = jax.tree.map(jnp.array, state)
    with Progress(name, stage.steps, start) as progress:
        while start < stage.steps:
            rows = rows_of_chunk(start // STEPS_PER_CHUNK)
            stop = min(start + STEPS_PER_CHUNK, stage.steps)
            for step in range(start, stop):
                at = (step - start) * stage.batch_rows
                batch = rows.take(slice(at, at + stage.batch_rows))
                key = jax.random.fold_in(jax.random.key(seed), step)
                ramp = min(1.0, step / (stage.ramp * stage.steps)) if stage.ramp else 1.0
                state, loss = _step(base, stage, n_special, state, batch, key, ramp)
                losses[step] = float(loss)
                if not np.isfinite(losses[step]):
                    raise NonFiniteLoss(f"{name}, step {step}: the loss is {losses[step]}")
                progress.update(step + 1, batch.tokens_rt.size, loss=losses[step])
            start = stop
            if start < stage.steps:
                checkpoints.save(start, (state, losses))
    return state[0], losses


def run(config: ConfigDict, workdir: str) -> None:
    """The task `pretrain`: a base model as a Hugging Face folder in WORKDIR/tiny.

    Args:
      config: see `configs/pretrain_tiny.py`.
      workdir: folder for artefacts; a run that was killed goes on.
    """
    of = world.make_world(config.world.entities, config.world.seed, config.world.fractions)
    tokenizer = tiny_tokenizer.build()
    base = DecoderConfig(vocab_size=tokenizer.vocab_size, **config.model)
    n_special = len(tiny_tokenizer.SPECIALS)
    with Workdir(workdir) as store:
        key, params = "", initial_params(base, config.seed)
        for name in pretraining.STAGES:
            stage = PretrainConfig(**config[name].train)
            shares = dict(config[name].shares)
            rows_of_chunk = functools.partial(
                chunk_rows,
                config.seed,
                name,
                of=of,
                shares=shares,
                tokenizer=tokenizer,
                row_length=config.row_length,
                n_rows=STEPS_PER_CHUNK * stage.batch_rows,
            )
            read = leaves(config, ("world", "model", "row_length", "seed", name))
            key = store.key(name, read, [key] if key else [], CODE_VERSION)
            checkpoints = Checkpoints(store.path / "unfinished" / f"{name}-{key[:16]}", key)
            train = functools.partial(
                run_stage, base, params, stage, rows_of_chunk, n_special, config.seed
            )

            def make(folder: Path, train=train, checkpoints=checkpoints, name=name):
                trained, losses = train(checkpoints, name)
                save_arrays(folder / "params.safetensors", trained)
                save_arrays(folder / "losses.safetensors", {"loss_s": losses})

            folder = store.get_or_make(
                name, key, make, config_leaves=read, seed=config.seed
            )
            checkpoints.delete()
            params = jax.tree.map(jnp.asarray, load_arrays(folder / "params.safetensors"))
        lm = LanguageModel(base, params, tokenizer, "tiny")
        figures = evaluate(lm, of)
        final = store.path / "tiny"
        save_hf_folder(final, base, params, tokenizer)
        write_card(final, config, figures, n_parameters=base.n_parameters())
        logging.info("the base is in %s: %s", final, figures)


def initial_params(base: DecoderConfig, seed: int):
    """Fresh parameters; letters are looked up often, so embeddings start large."""
    params = decoder.Decoder(base, rngs=nnx.Rngs(seed)).split()
    return params | {"embed": params["embed"] * (50 / base.d_model**0.5)}
