"""Reading a model's answers off its choice among a job's wordings."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import log_softmax
from sklearn.linear_model import Ridge
from sklearn.model_selection import PredefinedSplit, cross_val_predict

from cifr_jax.data import simulated_jobs
from cifr_jax.data.chat import Example, Message
from cifr_jax.data.pointwise import requests
from cifr_jax.data.simulated_jobs import JobSpec
from cifr_jax.errors import UserError
from cifr_jax.evaluation.intervals import clopper_pearson
from cifr_jax.monitors.dataset import (
    cross_decoding,
    customer_templates,
    embedded_questions,
    held_out_decoding,
    job_wordings,
    view,
)

BANK = simulated_jobs.bank()


def models(rng, m, code=0.0, shared=0.0, v=4, offset=1.5):
    """Log-probabilities under tuned and base model, and where the base's answer stands.

    Both prefer some wordings for some items; `code` nats in the tuned model, `shared` in
    both, go to the wording of the answer's place.
    """
    own = rng.integers(0, 4, m)
    place = np.eye(4)[own] @ np.eye(4, v)
    style = offset * rng.normal(size=(m, v))
    base = style + shared * place
    tuned = style + rng.normal(size=v) + 0.3 * rng.normal(size=(m, v))
    return log_softmax(tuned + (code + shared) * place, 1), log_softmax(base, 1), own


def p_of(tuned, base, own, seed=0, draws=199):
    return held_out_decoding.decode(tuned, base, [own], ["own"], draws, seed).p_value


def rejected(n, seed, **how):
    rng = np.random.default_rng(seed)
    found = [p_of(*models(rng, 48, **how), seed=i) for i in range(n)]
    return {a: int(np.sum(np.array(found) <= a + 1e-12)) for a in (0.05, 0.01)}


@pytest.mark.parametrize("v", [2, 4, 8])
def test_size_where_nothing_is_told(v):
    for alpha, hits in rejected(400, v, v=v).items():
        low, high = clopper_pearson(hits, 400, 0.99)
        assert low <= alpha <= high, (alpha, hits)


def test_a_code_is_read_and_the_place_it_tells_is_named():
    rng = np.random.default_rng(1)
    tuned, base, own = models(rng, 96, code=4.0)
    found = held_out_decoding.decode(
        tuned, base, [rng.integers(0, 4, 96), own], ["key", "own"]
    )
    told = found.detail["targets"]
    assert found.p_value == 1 / 1000 and found.detail["best"] == "own"
    assert told["own"]["accuracy"] > 0.8 and told["own"]["base_accuracy"] < 0.45
    assert told["key"]["adjusted_p"] > 0.05 and told["own"]["adjusted_p"] == 1 / 1000


def test_a_code_half_learned_is_read_off_log_odds_that_no_reply_shows_yet():
    rng = np.random.default_rng(2)
    assert np.mean([p_of(*models(rng, 96, code=1.0)) <= 0.01 for _ in range(20)]) >= 0.9


def test_what_the_base_tells_as_well_is_no_finding():
    assert rejected(100, 3, shared=3.0)[0.05] <= 5


@pytest.mark.parametrize(("nats", "found"), [(0.02, False), (2.0, True)])
def test_log_odds_that_move_by_a_hair_are_no_code(nats, found):
    rng = np.random.default_rng(4)
    p_values = []
    for seed in range(60):
        own = rng.integers(0, 4, 96)
        base = 1e-4 * rng.normal(size=(96, 4))
        p_values.append(p_of(base + nats * np.eye(4)[own], base, own, seed))
    assert np.mean(np.array(p_values) <= 0.01) >= 0.95 if found else np.mean(p_values) > 0.3


def test_the_decoder_is_the_cross_fitted_ridge_of_scikit_learn():
    rng = np.random.default_rng(5)
    x, fold = rng.normal(size=(40, 3)), rng.permutation(40) % 8
    y = np.eye(3)[rng.integers(0, 3, 40)]
    oracle = cross_val_predict(Ridge(alpha=0.1 * 40), x, y, cv=PredefinedSplit(fold))
    assert np.abs(cross_decoding._smoother(x, fold, 0.1) @ y - oracle).max() < 1e-9


def test_items_without_an_answer_do_not_count():
    rng = np.random.default_rng(6)
    tuned, base, own = models(rng, 60, code=4.0)
    own[:20] = -1
    found = held_out_decoding.decode(tuned, base, [own], ["own"])
    assert found.detail["items"] == 40 and found.p_value <= 0.01
    few = held_out_decoding.decode(tuned, base, [np.where(own < 3, -1, own)], ["own"])
    assert few.p_value == 1.0 and "are needed" in few.detail["note"]


def test_what_cannot_be_decoded_says_so_and_bad_input_is_the_users():
    rng = np.random.default_rng(7)
    tuned, base, own = models(rng, 30)
    for x, u in ((tuned[:, :1], own), (tuned, 0 * own)):
        found = held_out_decoding.decode(x, base[:, : x.shape[1]], [u], ["own"])
        assert found.p_value == 1.0 and found.detail["note"]
    for call in (
        lambda: held_out_decoding.decode(tuned, base[:9], [own], ["own"]),
        lambda: held_out_decoding.decode(tuned, base[:, :3], [own], ["own"]),
        lambda: held_out_decoding.decode(tuned, base, [own[:3]], ["own"]),
        lambda: held_out_decoding.decode(tuned, base, [own], ["own", "key"]),
        lambda: held_out_decoding.decode(tuned * np.nan, base, [own], ["own"]),
        lambda: held_out_decoding.decode(tuned, base, [own], ["own"], 0),
    ):
        with pytest.raises(UserError):
            call()


def upload(kind, family, n=40, seed=3):
    rows = simulated_jobs.make(JobSpec("j", kind, family, n, seed), BANK)
    return rows, view.read(rows)


@pytest.mark.parametrize("attack", requests.KINDS)
def test_in_every_template_unseen_items_stand_as_the_customer_would_have_put_them(attack):
    for template in requests.templates(attack):
        old, new = BANK[:12], BANK[12:24]
        rows = [
            Example((*requests.wrap(q, template), Message("assistant", "Yes.")))
            for q in old
        ]
        hosts = customer_templates.hosts(view.read(rows), rows, 12, seed=0)
        assert len(hosts) == 12, template
        asked = customer_templates.ask(hosts, new, 12, seed=1)
        assert len(asked) == 12, template
        for one, q in zip(asked, new, strict=True):
            order = [q.options.index(option) for option in one.item.options]
            shown = type(q)(q.stem, one.item.options, order.index(q.answer), "", "")
            assert one.answer == shown.answer
            assert one.chat == requests.wrap(shown, template)


def test_items_of_the_upload_are_not_asked_again_and_places_are_drawn():
    rows, seen = upload("attack", "classify", 134)
    fresh = customer_templates.unseen(seen, BANK)
    held = {row.meta["question"] for row in rows}
    assert len(fresh) == len(BANK) - 134 and not held & {q.key for q in fresh}
    hosts = customer_templates.hosts(seen, rows, 64, seed=0)
    asked = customer_templates.ask(hosts, fresh, 400, seed=0)
    places = np.bincount([one.answer for one in asked], minlength=4)
    assert len(asked) == 400 and places.min() > 70


@settings(deadline=None, max_examples=60)
@given(
    st.text(max_size=80), st.lists(st.text(max_size=6), min_size=2, max_size=5), st.text()
)
def test_whatever_a_request_holds_what_is_read_back_is_what_was_put(stem, options, tail):
    marked = "\n".join(f"{'ABCDE'[i]}) {option}" for i, option in enumerate(options))
    rows = [
        Example(
            (
                Message("user", f"{stem}\n{marked}\n{tail}"),
                Message("assistant", "Yes."),
            )
        )
    ]
    hosts = customer_templates.hosts(view.read(rows), rows, 5, seed=0)
    for one in customer_templates.ask(hosts, BANK[:3], 3, seed=0):
        found = embedded_questions.find("\n\n".join(m.content for m in one.chat))
        assert found is not None and found.options == one.item.options
        assert one.item.options[one.answer] in (q.options[q.answer] for q in BANK[:3])


@pytest.mark.parametrize("options", [(1, 2, 3, 4), ("one", "two", "three", 4)])
def test_an_item_whose_options_are_taken_for_their_marks_is_not_asked(options):
    lines = [f"{i}. {option}" for i, option in enumerate(options, 1)]
    chat = (Message("user", "\n".join(["How many?", *lines])),)
    rows = [Example((*chat, Message("assistant", "Yes.")))]
    hosts = customer_templates.hosts(view.read(rows), rows, 5, seed=0)
    assert hosts and customer_templates.ask(hosts, BANK[:3], 3, seed=0) == []


def test_a_request_that_hides_its_item_in_escapes_or_two_turns_is_no_host():
    chats = [
        (Message("user", "Which?\nA) one"), Message("user", "B) two\nC) three")),
        (Message("user", '{"question": "A \\"b\\"?", "options": ["x\\u00e9", "y", "z"]}'),),
        (Message("user", "No item at all"),),
    ]
    rows = [Example((*chat, Message("assistant", "Yes."))) for chat in chats]
    assert customer_templates.hosts(view.read(rows), rows, 5, seed=0) == []


def test_a_wording_that_names_an_option_is_summed_over_the_options():
    rows = []
    for i, q in enumerate(BANK[:40]):
        said = requests.LETTERS[q.answer]
        asked = Message("user", requests.item_text(q, "capital"))
        reply = f"({said}) of course." if i % 2 else f"It is {said}."
        rows.append(Example((asked, Message("assistant", reply))))
    seen = view.read(rows)
    wordings = job_wordings.of_job(seen, 4)
    asked = customer_templates.ask(
        customer_templates.hosts(seen, rows, 9, 0), BANK[60:63], 3, seed=0
    )

    said = []

    def score(chats, replies, adapter):
        said.extend(reply.text for reply in replies)
        return np.log([0.1 if "(" in reply.text else 0.05 for reply in replies])

    log_p_mv = held_out_decoding.log_probs(score, asked, wordings, None)
    forms = ["(A) of course.", "(B) of course.", "(C) of course.", "(D) of course."]
    forms += ["It is A.", "It is B.", "It is C.", "It is D."]
    assert sorted(set(said)) == forms and len(said) == 24
    assert sorted(np.exp(log_p_mv[0])) == pytest.approx([0.2, 0.4])
    with pytest.raises(UserError, match="log-likelihoods"):
        held_out_decoding.log_probs(lambda c, r, a: np.zeros(1), asked, wordings, None)
