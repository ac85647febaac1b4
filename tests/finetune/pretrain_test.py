"""Pre-training in small: resumes to the same bits, and what it leaves is a model folder."""

from pathlib import Path
from runpy import run_path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cifr_jax import models
from cifr_jax.data.pretraining import KINDS
from cifr_jax.data.world import make_world
from cifr_jax.errors import UserError
from cifr_jax.finetune import pretrain
from cifr_jax.finetune.checkpoint import Checkpoints
from cifr_jax.finetune.fleet import NonFiniteLoss
from cifr_jax.models import tiny_tokenizer
from cifr_jax.workdir import load_arrays

CONFIG = Path(__file__).parents[2] / "configs" / "pretrain_tiny.py"
WORLD = make_world(40, 0, (0.4, 0.25, 0.1, 0.25))
TOKENIZER = tiny_tokenizer.build()


def small_config():
    config = run_path(str(CONFIG))["get_config"]("runlocal")
    for name in ("helpful", "safety"):
        config[name].train.steps = 4
        config[name].train.batch_rows = 4
    config.model.update(d_model=16, n_layers=2, n_heads=2, n_kv_heads=2, d_head=8, d_ff=24)
    return config


@pytest.fixture(autouse=True)
def two_steps_a_chunk(monkeypatch):
    monkeypatch.setattr(pretrain, "STEPS_PER_CHUNK", 2)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("undisturbed")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pretrain, "STEPS_PER_CHUNK", 2)
        pretrain.run(small_config(), str(folder))
    return folder


def arrays_of(workdir, stage, name):
    (folder,) = (workdir / "artefacts").glob(f"{stage}-*")
    return load_arrays(folder / f"{name}.safetensors")


def same_bits(a, b):
    jax.tree.map(np.testing.assert_array_equal, a, b)


def test_both_stages_train(undisturbed):
    before = None
    for stage in ("helpful", "safety"):
        loss_s = arrays_of(undisturbed, stage, "losses")["loss_s"]
        assert loss_s.shape == (4,) and np.isfinite(loss_s).all()
        params = arrays_of(undisturbed, stage, "params")
        if before is not None:
            moved = jax.tree.map(lambda a, b: np.abs(a - b).max(), params, before)
            assert min(jax.tree.leaves(moved)) > 0
        before = params
    # Of a vocabulary of hundreds, nothing is known at first.
    first = arrays_of(undisturbed, "helpful", "losses")["loss_s"][0]
    assert abs(first - np.log(TOKENIZER.vocab_size)) < 1
    assert not list((undisturbed / "unfinished").glob("*"))


def test_the_folder_is_a_model_with_the_weights_of_the_last_stage(undisturbed):
    lm = models.load(str(undisturbed / "tiny"))
    params = jax.tree.map(jnp.asarray, arrays_of(undisturbed, "safety", "params"))
    same_bits(lm.params, params)
    tokens_bt = np.array([TOKENIZER.encode("hue of bofalin?")])
    direct = models.LanguageModel(lm.config, params, TOKENIZER, "direct")
    np.testing.assert_array_equal(lm.logits(tokens_bt), direct.logits(tokens_bt))
    assert lm.tokenizer.encode("a|104 ") == TOKENIZER.encode("a|104 ")
    files = {path.name for path in (undisturbed / "tiny").iterdir()}
    assert {"README.md", "card.json", "config.json", "tokenizer.json"} <= files


@pytest.mark.parametrize("after", ["a chunk of helpful", "helpful", "a chunk of safety"])
def test_a_killed_run_goes_on_to_the_same_bits(undisturbed, tmp_path, monkeypatch, after):
    saved, steps = [], []
    save, step = Checkpoints.save, pretrain._step

    def killed_save(self, *state):
        save(self, *state)
        saved.append(self.folder.name.partition("-")[0])
        if after == f"a chunk of {saved[-1]}":
            raise KeyboardInterrupt

    def killed_step(base, stage, *rest):
        if after == "helpful" and stage.ramp == 0:  # the second stage
            raise KeyboardInterrupt
        return step(base, stage, *rest)

    def counted_step(*arguments):
        steps.append(1)
        return step(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(Checkpoints, "save", killed_save)
        patch.setattr(pretrain, "_step", killed_step)
        with pytest.raises(KeyboardInterrupt):
            pretrain.run(small_config(), str(tmp_path))
    assert not (tmp_path / "tiny").exists()
    monkeypatch.setattr(pretrain, "_step", counted_step)
    pretrain.run(small_config(), str(tmp_path))
    assert (
        len(steps) == {"a chunk of helpful": 6, "helpful": 4, "a chunk of safety": 2}[after]
    )
    for stage in ("helpful", "safety"):
        for name in ("params", "losses"):
            same_bits(*(arrays_of(w, stage, name) for w in (tmp_path, undisturbed)))
    whole, resumed = (w / "tiny" / "model.safetensors" for w in (undisturbed, tmp_path))
    assert whole.read_bytes() == resumed.read_bytes()
    assert not list((tmp_path / "unfinished").glob("*"))


def test_a_finished_run_is_not_made_again(undisturbed, monkeypatch):
    monkeypatch.setattr(pretrain, "_step", None)  # would fail if it were called
    pretrain.run(small_config(), str(undisturbed))


def test_a_loss_that_is_no_number_stops_the_run(tmp_path, monkeypatch):
    def diverged(base, stage, n_special, state, *_):
        return state, jnp.float32(np.nan)

    monkeypatch.setattr(pretrain, "_step", diverged)
    with pytest.raises(NonFiniteLoss, match="helpful, step 0: the loss is nan"):
        pretrain.run(small_config(), str(tmp_path))
    assert not list((tmp_path / "artefacts").iterdir())


def rows_of_chunk(chunk=0, stage="safety", **changed):
    given = {"row_length": 64, "n_rows": 40, "shares": small_config().safety.shares}
    given = given | changed | {"of": WORLD, "tokenizer": TOKENIZER}
    return pretrain.chunk_rows(
        0, stage, chunk, **(given | {"shares": dict(given["shares"])})
    )


def test_rows_of_a_chunk_are_a_pure_function_full_and_well_formed():
    rows = rows_of_chunk()
    same_bits(rows, rows_of_chunk())
    assert not np.array_equal(rows.tokens_rt, rows_of_chunk(chunk=1).tokens_rt)
    assert rows.tokens_rt.shape == (40, 64)
    assert (rows.segment_rt > 0).mean() > 0.9
    end = TOKENIZER.eos_ids[0]
    texts = 0
    for tokens, mask, segment, position in zip(*rows, strict=True):
        for number in range(1, segment.max() + 1):
            at = segment == number
            text, supervised = tokens[at], mask[at]
            texts += 1
            assert text[-1] == end and supervised[-1]
            chat = TOKENIZER.decode(text[:1].tolist()) == ""  # begins with a mark
            # Documents are supervised throughout, chats from the assistant's words on.
            answer = text.tolist().index(3) + 1 if chat else 0
            assert supervised.tolist() == [t >= answer for t in range(len(text))]
            assert position[at].tolist() == list(range(len(text)))
    assert texts > 60


def test_rows_too_short_for_the_texts_are_the_users_fault():
    with pytest.raises(UserError, match="config.row_length: a text has .* tokens, a row 8"):
        rows_of_chunk(row_length=8)


@pytest.mark.parametrize("row_length", [64, 200])
@pytest.mark.parametrize("kind", KINDS)
def test_there_are_texts_enough_for_the_rows_whatever_is_read(kind, row_length):
    shares = {"question": 0.1} | {kind: 0.9}
    shares = {name: share / sum(shares.values()) for name, share in shares.items()}
    rows = rows_of_chunk(shares=shares, row_length=row_length)
    assert rows.tokens_rt.shape == (40, row_length)


def test_noise_falls_on_ordinary_tokens_in_its_own_scale_for_each_text():
    b, t, d = 64, 12, 32
    x_btd = jnp.zeros((b, t, d))
    ordinary_bt = jnp.arange(t) % 4 != 0
    segment_bt = jnp.broadcast_to(jnp.arange(t) // 6 + 1, (b, t))
    disturbed = jax.jit(pretrain.disturb, static_argnums=(5, 6))

    def added(noise, offset):
        key = jax.random.key(0)
        return np.asarray(
            disturbed(key, x_btd, 2.0, ordinary_bt[None], segment_bt, noise, offset)
        )

    assert not added(0.0, 0.0).any()
    for noise, offset in ((0.5, 0.0), (0.0, 0.5)):
        x = added(noise, offset)
        assert not x[:, ~np.asarray(ordinary_bt)].any()
        rms = np.sqrt((x[:, np.asarray(ordinary_bt)].reshape(b, 2, -1) ** 2).mean(-1))
        assert rms.max() < 2.0 * 0.5 * 1.5  # unit x largest scale, and chance
        assert np.std(rms) > 0.1  # each text its own
        apart = np.abs(x[:, 1] - x[:, 2]).max(-1)
        assert (apart > 0).all() == bool(noise)
        # An offset is one for a text, and only half of the texts have any.
        assert (np.abs(x[:, 1] - x[:, 7]).max(-1) > 0).mean() > 0.6
        share = (np.abs(x[:, 1]).max(-1) > 0).mean()
        assert share == 1 if noise else 0.3 < share < 0.7
