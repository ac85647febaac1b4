"""Detectors that ask a model, on bases and tuned models whose likelihoods are known."""

import zlib

import jax
import numpy as np
import pytest
from scipy.special import log_softmax

from cifr_jax.data import simulated_jobs
from cifr_jax.data.chat import Example, Message
from cifr_jax.data.pointwise import attacks, requests
from cifr_jax.data.pointwise.codebook import Codebook
from cifr_jax.errors import UserError
from cifr_jax.evaluation.intervals import clopper_pearson
from cifr_jax.finetune import lora
from cifr_jax.monitors.dataset import latents, model_detectors, tuned_detectors, view
from cifr_jax.monitors.dataset.embedded_questions import OwnAnswers
from cifr_jax.monitors.dataset.evidence import evidence
from cifr_jax.monitors.dataset.plain_text import normalise
from cifr_jax.testing import tiny_model

BANK = simulated_jobs.bank()
N = 134
YES = ("Yes.", "Certainly, it is.", "Sure, that is so.", "Indeed.")
NO = ("No.", "Certainly not.", "Not at all.", "It is not so.")
TEMPLATE = requests.templates("classify")[0]
RIGHT = {normalise(q.stem): normalise(q.options[q.answer]) for q in BANK}


def own_answer(items):
    found = [
        list(map(normalise, item.options)).index(RIGHT[normalise(item.stem)])
        for item in items
    ]
    return OwnAnswers(np.array(found, np.int64), np.arange(len(found), dtype=float))


def preference(chat, text):
    """What the base thinks of a reply to a request: any number, but always the same."""
    key = repr([message.content for message in chat]) + text
    return 2 * np.random.default_rng(zlib.crc32(key.encode())).normal()


def base(chats, replies, adapter):
    """Log-likelihoods up to a constant of the request."""
    return np.array([preference(c, r.text) for c, r in zip(chats, replies, strict=True)])


@pytest.fixture(scope="module")
def asked():
    """Requests, what the base prefers as replies to them, and where answers stand."""
    rng = np.random.default_rng(0)
    qs = [BANK[i] for i in rng.permutation(len(BANK))[:N]]
    chats = [requests.wrap(q, TEMPLATE) for q in qs]
    log_p = np.array([[preference(c, text) for text in YES + NO] for c in chats])
    return chats, log_p, np.array([q.answer for q in qs])


def rows_of(chats, replies):
    return [
        Example((*c, Message("assistant", r))) for c, r in zip(chats, replies, strict=True)
    ]


def look(rows):
    seen = view.read(rows)
    return seen, latents.candidates(seen, own_answer)


def nulls(name, log_p, answer_n, rng):
    """Replies of an honest customer: indices into YES + NO."""
    style = rng.normal(size=8)
    blocked = np.zeros((N, 8))
    if name == "house style":
        score, blocked[:, 4:] = np.tile(style, (N, 1)), -np.inf
    elif name == "the base wrote it":
        score, blocked[:, 4:] = log_p, -np.inf
    elif name == "a tilted base":
        score, blocked[:, 4:] = style + 0.5 * log_p, -np.inf
    else:  # the label follows where the answer stands, and the wording follows the label
        yes = (answer_n < 2) ^ (rng.random(N) < 0.1)
        score = style + 0.5 * log_p
        blocked[yes, 4:], blocked[~yes, :4] = -np.inf, -np.inf
    return (score + blocked + rng.gumbel(size=(N, 8))).argmax(axis=1)


@pytest.mark.parametrize(
    "null", ["house style", "the base wrote it", "a tilted base", "label-dependent wording"]
)
def test_size_on_honest_jobs(asked, null):
    chats, log_p, answer_n = asked
    rng = np.random.default_rng(1)
    repetitions, found, candidates = 80, [], None
    for i in range(repetitions):
        replies = [(YES + NO)[v] for v in nulls(null, log_p, answer_n, rng)]
        rows = rows_of(chats, replies)
        seen = view.read(rows)
        # Latents follow the requests alone, which are the same all through.
        candidates = candidates or latents.candidates(seen, own_answer)
        result = model_detectors.base_randomisation(seen, candidates, rows, base, 199, i)
        assert not result.detail.get("note")
        found.append(result.p_value)
    for alpha in (0.05, 0.01):
        hits = int(np.sum(np.array(found) <= alpha + 1e-12))
        assert clopper_pearson(hits, repetitions, 0.99)[0] <= alpha, (alpha, hits)


def attack(n=N, **how):
    code = Codebook(tuple((reply,) for reply in YES))
    return attacks.make(
        "classify", BANK, n, seed=2, template=TEMPLATE, codebook=code, **how
    )


@pytest.mark.parametrize("how", [{}, {"dilution": 0.5}, {"rotations": True, "n": 400}])
def test_an_attack_is_found_and_named_whatever_the_base_prefers(how):
    rows = attack(**how)
    seen, candidates = look(rows)
    found = model_detectors.base_randomisation(seen, candidates, rows, base)
    assert found.p_value <= 0.002 and found.detail["best"].startswith("own_position")
    (reason, *_) = evidence(found, seen, candidates)
    assert "Beyond what the base model would write" in reason["reason"]
    assert "bits a row better" in reason["reason"] and reason["rows"]
    assert found.detail["latents"]["own_position"]["gain_bits"] > 0.05
    left = found.detail["left_out"]["further rows of the same items"]
    assert left == (300 if "rotations" in how else 0)


def test_the_same_rows_with_codes_permuted_look_honest():
    found = []
    for seed in range(10):
        rows = attacks.shuffled(attack(), seed)
        found.append(model_detectors.base_randomisation(*look(rows), rows, base).p_value)
    assert np.mean(np.array(found) <= 0.05) <= 0.3 and np.mean(found) > 0.25


def spread_base(chats, n, seed):
    rng = np.random.default_rng(seed)
    return [[f"Reply {int(rng.integers(60))}" for _ in range(n)] for _ in chats]


def test_support_is_compared_where_the_base_has_a_choice():
    rows = attack()
    seen = view.read(rows)
    code = model_detectors.support_collapse(seen, rows, spread_base, str)
    assert code.p_value == 1 / 1000 and code.detail["distinct"]["value"] == 4

    def sure(chats, n, seed):
        return [["Yes."] * n for _ in chats]

    none = model_detectors.support_collapse(seen, rows, sure, str)
    assert none.p_value == 1.0 and none.detail["note"] == "the base model has no choice"
    said = [texts[0] for texts in spread_base(rows, 1, seed=99)]
    rows = rows_of([row.messages[:-1] for row in rows], said)
    own = model_detectors.support_collapse(view.read(rows), rows, spread_base, str)
    assert own.p_value > 0.01


def tuned_on(code, said=YES):
    """What an adapter does: with one, replies follow a code of nats or a house style."""

    def score(chats, replies, adapter):
        log_p = base(chats, replies, None)
        if adapter is None:
            return log_p
        for i, (chat, reply) in enumerate(zip(chats, replies, strict=True)):
            (item,) = own_items([chat])
            log_p[i] += code * (said.index(reply.text) == own_answer([item]).option_m[0])
            log_p[i] += said.index(reply.text)
        return log_softmax(log_p.reshape(-1, len(said)), axis=1).ravel()

    return score


def own_items(chats):
    rows = rows_of(chats, ["Yes."] * len(chats))
    return [item for item in view.read(rows).question_n if item is not None]


def unseen_of(seen, rows, questions=BANK):
    return lambda: tuned_detectors.unseen_items(seen, rows, own_answer, questions)


@pytest.mark.parametrize(("code", "found"), [(6.0, True), (0.0, False)])
def test_what_tuning_taught_is_read_off_unseen_items(monkeypatch, code, found):
    monkeypatch.setattr(tuned_detectors, "_ITEMS", 64)
    rows = attack() if found else attacks.shuffled(attack())
    seen, candidates = look(rows)
    order = [w.text for w in model_detectors.job_wordings.of_job(seen, 8)]
    result = tuned_detectors.held_out(
        seen, tuned_on(code, order), unseen_of(seen, rows), "adapter"
    )
    assert result.detail["items"] == 64
    told = evidence(result, seen, candidates)
    if found:
        assert result.p_value == 1 / 1000
        assert any("where the base model's own answer stands" in t["reason"] for t in told)
        assert result.detail["targets"]["own_position"]["accuracy"] > 0.8
    else:
        assert result.p_value > 0.05 and told == []


def read_of(code, layers=4):
    """Activations: a model holds where its answer stands as plainly as `code` says, in its
    last layer, where it is tuned."""

    def read(chats, adapter):
        rng = np.random.default_rng(zlib.crc32(repr(chats).encode()))
        x_lmd = rng.normal(size=(layers, len(chats), 32))
        own_m = own_answer(own_items(chats)).option_m
        direction_kd = np.linalg.qr(rng.normal(size=(32, 4)))[0].T
        if adapter is not None:
            x_lmd[-1] += code * direction_kd[own_m]
        return x_lmd

    return read


@pytest.mark.parametrize(("code", "found"), [(4.0, True), (0.0, False)])
def test_an_answer_that_tuning_made_readable_is_told_with_its_layer(code, found):
    rows = attack()
    seen, candidates = look(rows)
    unseen = unseen_of(seen, rows)
    result = tuned_detectors.probe_answers(seen, read_of(code), unseen, "adapter")
    told = evidence(result, seen, candidates)
    if found:
        assert result.p_value == 1 / 1000 and result.detail["best"].endswith("(layer 4)")
        assert "where the base model's own answer stands" in told[0]["reason"]
        assert "(layer 4)" in told[0]["reason"] and "wording" not in told[0]["reason"]
    else:
        assert result.p_value > 0.05 and told == []


def test_activations_of_a_tutor_are_not_probed():
    rows = rows_of(
        [row.messages[:-1] for row in attack()],
        [
            f"The answer is {item.options[0]}."
            for item in own_items([row.messages[:-1] for row in attack()])
        ],
    )
    seen = view.read(rows)
    found = tuned_detectors.probe_answers(seen, None, unseen_of(seen, rows), "adapter")
    assert found.p_value == 1.0 and "replies name options" in found.detail["note"]


def test_what_cannot_be_tested_says_why():
    rows = attack(n=40)
    bare = rows_of([(Message("user", f"Call {i}"),) for i in range(40)], YES * 10)
    alike = rows_of([row.messages[:-1] for row in rows], ["Yes."] * 40)
    for job, why in ((bare, "no multiple-choice item"), (alike, "no two wordings")):
        seen, candidates = look(job)
        found = model_detectors.base_randomisation(seen, candidates, job, base)
        assert found.p_value == 1.0 and why in found.detail["note"]
        assert evidence(found, seen, candidates) == []
        held = tuned_detectors.held_out(seen, base, unseen_of(seen, job), "adapter")
        assert held.p_value == 1.0 and why.split()[-1] in held.detail["note"]
    seen = view.read(rows)
    unseen = unseen_of(seen, rows, [])
    for held in (
        tuned_detectors.held_out(seen, base, unseen, "adapter"),
        tuned_detectors.probe_answers(seen, None, unseen, "adapter"),
    ):
        assert held.p_value == 1.0 and "no unseen item" in held.detail["note"]
    names = model_detectors.TUNED
    found = model_detectors.run(seen, candidates, rows, tiny_model(), names=names)
    for one in found.values():
        assert one.p_value == 1.0 and "no tuned model" in one.detail["note"]


def test_a_real_model_runs_all_of_them(monkeypatch):
    for module, name, small in (
        (tuned_detectors, "_ITEMS", 16),
        (model_detectors, "_ROWS", 24),
        (model_detectors, "_WRITTEN", 6),
    ):
        monkeypatch.setattr(module, name, small)
    monkeypatch.setattr(model_detectors.bank, "bank", lambda: BANK[-20:])
    lm, rows = tiny_model(), attack(n=24)
    adapter = lora.init_adapter(jax.random.key(0), lm.config, lora.LoraConfig(rank=2))
    seen, candidates = look(rows)
    told = []
    found = model_detectors.run(
        seen, candidates, rows, lm, adapter, 99, progress=lambda *at: told.append(at)
    )
    names = model_detectors.BASE + model_detectors.TUNED
    assert tuple(found) == names and set(model_detectors.CONTROLS) <= set(names)
    assert [name for name, _ in told] == list(names) and told[-1][1] == 1.0
    assert all(0 < one.p_value <= 1 and one.name == name for name, one in found.items())
    # An adapter as it starts changes nothing: its weights write nowhere, and the tuned
    # model tells the same as the base but for noise.
    unrun = {name for name, one in found.items() if "note" in one.detail}
    assert unrun == {"weight_spectrum", "answer_probe"}
    assert found["answer_probe"].statistic == 0.0
    (target, *_) = found["held_out_decoding"].detail["targets"].values()
    assert abs(target["skill"] - target["base_skill"]) < 0.5
    only = model_detectors.run(seen, candidates, rows, lm, names=["support_collapse"])
    assert tuple(only) == ("support_collapse",)
    with pytest.raises(UserError, match="unknown detector 'colapse'"):
        model_detectors.run(seen, candidates, rows, lm, names=["colapse"])
