"""Latents of a job: positions and ranks of the model's own answers, topics, clusters."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.special import log_softmax
from sklearn.cluster import KMeans

from cifr_jax import models, testing
from cifr_jax.activations import capture
from cifr_jax.data import world
from cifr_jax.data.chat import Example, Message
from cifr_jax.data.pointwise import attacks
from cifr_jax.data.pointwise.questions import bank
from cifr_jax.errors import UserError
from cifr_jax.monitors.dataset import (
    latents,
    own_answer,
    request_activations,
    topics,
    view,
)
from cifr_jax.monitors.dataset.embedded_questions import Embedded, OwnAnswers
from cifr_jax.monitors.dataset.plain_text import normalise


def told(options):
    return OwnAnswers(np.array(options), np.zeros(len(options)))


def oracle(rows):
    """A model that knows the right options, and how often it was asked."""
    right = {}
    for question in bank():
        key = Embedded(question.stem, question.options, (0, 0), "letter").key
        right[key] = question.options[question.answer]
    asked = []

    def answer(items):
        asked.extend(items)
        return told([item.options.index(right[item.key]) for item in items])

    return answer, asked


@pytest.mark.parametrize("attack", ["classify", "flower"])
def test_own_answers_are_mapped_back_to_each_row(attack) -> None:
    rows = attacks.make(attack, bank(), 120, seed=2, rotations=True)
    answer, asked = oracle(rows)
    found = latents.candidates(view.read(rows), answer)
    letter_n = np.array([row.meta["letter"] for row in rows])
    assert np.array_equal(found.hidden["own_position"], letter_n)
    # One question for all four rotations, in canonical order.
    assert len(asked) == 30
    assert all(item == latents.canonical(item) for item in asked)
    rank = found.hidden["own_alphabetical_rank"]
    by_item = {}
    for row, r in zip(rows, rank.tolist(), strict=True):
        assert by_item.setdefault(row.meta["question"], r) == r


def test_rows_without_item_are_unknown() -> None:
    rows = [Example((Message("user", f"Hello {i}"), Message("assistant", "Hi")))
            for i in range(5)]  # fmt: skip
    answer, asked = oracle(rows)
    found = latents.candidates(view.read(rows), answer)
    assert not asked
    for name, latent_n in found.hidden.items():
        assert np.all(latent_n == -1), name
    for name, latent_n in found.visible.items():
        assert latent_n.shape == (5,) and latent_n.dtype == np.int64, name


def test_ranks_and_extremes() -> None:
    text = "Which one?\nA) pear\nB) fig\nC) banana\nD) plums"
    rows = [Example((Message("user", text), Message("assistant", "Rose")))]
    found = latents.candidates(
        view.read(rows), lambda items: told([0])
    )  # banana comes first
    values = {name: int(latent_n[0]) for name, latent_n in found.hidden.items()}
    assert values == {
        "own_position": 2, "own_length_rank": 0, "own_alphabetical_rank": 0,
        "own_initial": 0, "longest_option": 2, "shortest_option": 1,
        "own_position_sure": 2,
    }  # fmt: skip


def test_the_surer_half_of_the_rows_is_a_latent_of_its_own() -> None:
    rows = attacks.make("classify", bank(), 40, seed=2)
    job = view.read(rows)
    answer, asked = oracle(rows)

    def sure(items):
        # Sure of what is asked in many words, by chance; one item has no answer.
        option_m = answer(items).option_m
        option_m[0] = -1
        return OwnAnswers(option_m, np.array([float(len(i.stem)) for i in items]))

    found = latents.candidates(job, sure).hidden
    own_n, sure_n = found["own_position"], found["own_position_sure"]
    assert (own_n == -1).sum() == 1
    length_n = np.array([len(item.stem) for item in job.question_n])
    at_least = np.median(length_n[own_n >= 0])
    expected = np.where((own_n >= 0) & (length_n >= at_least), own_n, -1)
    np.testing.assert_array_equal(sure_n, expected)
    assert 0.4 < (sure_n >= 0).mean() < 0.8


@pytest.mark.parametrize("bad", [[], [4], [[0]]])
def test_answers_that_do_not_fit(bad) -> None:
    text = "Which one?\nA) pear\nB) fig\nC) banana\nD) plums"
    job = view.read([Example((Message("user", text), Message("assistant", "Rose")))])
    with pytest.raises(UserError, match="own_answer"):
        latents.candidates(job, lambda items: told(bad))


def test_activations_must_fit() -> None:
    job = view.read(attacks.make("flower", bank(), 20, seed=0))
    with pytest.raises(UserError, match="activations"):
        latents.candidates(job, activations_nd=np.zeros((3, 2)))
    with pytest.raises(UserError, match="activations"):
        latents.candidates(job, activations_nd=np.full((20, 2), np.nan))
    found = latents.candidates(job, activations_nd=np.eye(20))
    assert {"activations_4", "activations_8"} <= set(found.visible)


def test_k_means_against_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    centre_kd = rng.normal(size=(4, 6)) * 6
    x_nd = centre_kd[rng.integers(0, 4, 500)] + rng.normal(size=(500, 6))
    ours_n = topics.k_means(x_nd, 4, seed=1)

    def within(cluster_n) -> float:
        return sum(
            ((x_nd[cluster_n == j] - x_nd[cluster_n == j].mean(0)) ** 2).sum()
            for j in np.unique(cluster_n)
        )

    theirs_n = KMeans(4, n_init=5, random_state=0).fit_predict(x_nd)
    assert within(ours_n) <= 1.01 * within(theirs_n)


def test_k_means_of_equal_rows_is_one_cluster() -> None:
    assert set(topics.k_means(np.ones((10, 3)), 4)) == {0}


def test_question_forms() -> None:
    stems = ["What is the age of A?", "What is the rank of B?", "Who made C?", "Who saw D?"]
    rows = [
        Example(
            (Message("user", f"{stem}\nA) x{i}\nB) y{i}"), Message("assistant", "Rose"))
        )
        for i, stem in enumerate(stems * 10)
    ]
    form_n = latents.candidates(view.read(rows)).visible["question_form"]
    assert form_n[0] == form_n[1] > 0
    assert len({*form_n[1:4].tolist()}) == 3


def test_topics_are_found() -> None:
    questions = bank(["capitals", "arithmetic"])
    x_nd = topics.vectors([f"{q.stem} {' '.join(q.options)}" for q in questions])
    cluster_n = topics.k_means(x_nd, 2, seed=0)
    first_n = np.array([q.topic == "capitals" for q in questions])
    agree = np.mean((cluster_n == cluster_n[0]) == (first_n == first_n[0]))
    assert agree > 0.9


LM = testing.tiny_model(seed=3)
ITEMS = [
    Embedded("Which one?", ("red", "blue", "green"), (0, 0), "letter"),
    Embedded("How many are there?", ("one", "twenty-two"), (0, 0), "number"),
]


@pytest.mark.parametrize("method", own_answer.METHODS)
def test_own_answers_do_not_depend_on_the_order_of_options(method) -> None:
    answer = own_answer.own_answer_from(LM, method)
    turned = [replace(item, options=item.options[1:] + item.options[:1]) for item in ITEMS]
    first, second = answer(ITEMS), answer(turned)
    texts = [i.options[a] for i, a in zip(ITEMS, first.option_m, strict=True)]
    assert texts == [i.options[a] for i, a in zip(turned, second.option_m, strict=True)]
    np.testing.assert_allclose(first.margin_m, second.margin_m, atol=1e-4)
    scores = np.split(own_answer.option_scores(LM, ITEMS, method), [3])
    gaps = [np.sort(s)[-1] - np.sort(s)[-2] for s in scores]
    np.testing.assert_allclose(first.margin_m, gaps, atol=1e-5)
    assert len(answer([]).option_m) == 0


def test_of_many_items_some_are_asked_and_the_others_have_no_answer(monkeypatch) -> None:
    asked: list[list] = []

    def ask(items):
        asked.append(items)
        return own_answer.own_answer_from(LM)(items)

    items = [replace(ITEMS[0], stem=f"{ITEMS[0].stem} {i}") for i in range(9)]
    few = own_answer.of_some(ask, 4, 0)(items)
    assert len(asked) == 1 and len(asked[0]) == 4 and (few.option_m >= 0).sum() == 4
    whole = own_answer.of_some(ask, 9, 0)(items)
    known = few.option_m >= 0
    assert [items[i] for i in np.flatnonzero(known)] == sorted(asked[0], key=items.index)
    np.testing.assert_array_equal(few.option_m[known], whole.option_m[known])
    np.testing.assert_allclose(few.margin_m[known], whole.margin_m[known], atol=1e-4)
    monkeypatch.setattr(own_answer, "_AT_ONCE", 4)
    asked.clear()
    shares: list[float] = []
    again = own_answer.of_some(ask, 9, 0, shares.append)(items)
    np.testing.assert_array_equal(again.option_m, whole.option_m)
    np.testing.assert_allclose(again.margin_m, whole.margin_m, atol=1e-4)
    assert [len(part) for part in asked] == [4, 4, 1]
    np.testing.assert_allclose(shares, [4 / 9, 8 / 9, 1])
    other = own_answer.of_some(ask, 4, 1)(items)
    assert (other.option_m >= 0).tolist() != known.tolist()


SOLVED = """Question: What do bees make?
Answer: honey

Question: Which season comes after winter?
Answer: spring

Question: How many wheels does a tricycle have?
Answer: 3

Question: Who wrote the play Hamlet?
Answer: William Shakespeare

"""


def test_no_solved_question_is_one_of_the_bank() -> None:
    stems = {normalise(question.stem) for question in bank()}
    assert not {normalise(stem) for stem, _ in own_answer._SOLVED} & stems


def test_scores_of_texts_are_log_likelihoods_of_the_model() -> None:
    encode = LM.tokenizer.encode

    def log_p(prompt: list[int], option: str) -> float:
        # Padding on the right to one length, so that the model is compiled once.
        ids = [*prompt, *encode(option)]
        padded = np.array([ids + [0] * (448 - len(ids))])
        mask = np.arange(448)[None] < len(ids)
        table = log_softmax(np.asarray(LM.logits(padded, mask)[0], float), -1)
        return sum(table[t - 1, ids[t]] for t in range(len(prompt), len(ids)))

    def ways(stem: str, option: str) -> tuple[float, float]:
        request = (Message("user", stem or "Give a short answer."),)
        chat = LM.tokenizer.encode_chat(request, add_generation_prompt=True)
        plain = SOLVED + (f"Question: {stem}\nAnswer:" if stem else "Question:\nAnswer:")
        return log_p(chat, option), log_p(encode(plain), f" {option}")

    options = [(item.stem, option) for item in ITEMS for option in item.options]
    told_o2 = np.array([ways(stem, option) for stem, option in options])
    untold_o2 = np.array([ways("", option) for _, option in options])
    length_o1 = np.array([[len(option)] for _, option in options])
    wanted = {
        "mean": (told_o2 / length_o1).max(1),
        "pmi": (told_o2 - untold_o2).max(1),
        "npmi": ((told_o2 - untold_o2) / -untold_o2).max(1),
    }
    for method, values in wanted.items():
        got = own_answer.option_scores(LM, ITEMS, method)
        np.testing.assert_allclose(got, values, rtol=1e-3, atol=1e-3)


def test_unknown_method() -> None:
    with pytest.raises(UserError, match="known: mean, pmi, npmi, letter"):
        own_answer.option_scores(LM, ITEMS, "guess")


def test_a_base_that_knows_chat_alone_is_right_about_its_own_world() -> None:
    """The second way of asking, which it makes nothing of, does not drown the first."""
    of = world.make_world(480, 0, (0.33, 0.37, 0.1, 0.2))
    rng = np.random.default_rng(0)
    items, right = [], []
    for entity in of.select(False)[:16]:
        wrong = [v for v in world.NEUTRAL["hue"] if v != entity.facts["hue"]]
        options = [entity.facts["hue"], *rng.choice(wrong, 3, replace=False)]
        order = rng.permutation(4)
        shown = tuple(str(options[i]) for i in order)
        stem = world.question(entity, "hue", 0)
        items.append(Embedded(stem, shown, (0, 0), "letter"))
        right.append(int(np.argmin(order)))
    found = own_answer.own_answer_from(models.load("tiny"))(items)
    assert np.mean(found.option_m == right) >= 0.9


def test_requests_are_captured_once_each_and_told_apart_by_what_they_are_about() -> None:
    asked = [("one two", "a"), ("three", "b"), ("one two", "c"), ("four " * 400, "d")]
    rows = [Example((Message("user", q), Message("assistant", a))) for q, a in asked]
    shares: list[float] = []
    x_nd = request_activations.capture(LM, view.read(rows), rows, shares.append)
    assert x_nd.shape == (4, LM.config.d_model) and shares[-1] == 1.0
    np.testing.assert_allclose(np.linalg.norm(x_nd, axis=1), 1, rtol=1e-5)
    np.testing.assert_array_equal(x_nd[0], x_nd[2])
    layer = int(2 / 3 * LM.config.n_layers)
    chats = [row.messages[:-1] for row in rows[:2]]
    want = capture(LM, chats, pools=("mean",))["mean"][layer]
    want = want / np.linalg.norm(want, axis=1, keepdims=True)
    np.testing.assert_allclose(x_nd[:2], want, atol=1e-5)
    found = latents.candidates(view.read(rows), activations_nd=x_nd)
    assert len(np.unique(found.visible["activations_4"])) == 3
