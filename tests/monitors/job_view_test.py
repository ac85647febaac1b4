"""A job's texts become arrays: templates, clusters, labels, wordings."""

import dataclasses
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cifr_jax.data import honest_jobs
from cifr_jax.data.chat import Example, Message
from cifr_jax.data.pointwise import attacks
from cifr_jax.data.pointwise.questions import bank, rotations
from cifr_jax.data.pointwise.requests import templates, wrap
from cifr_jax.errors import UserError
from cifr_jax.monitors.dataset import turns, view
from cifr_jax.monitors.dataset.visible_labels import KINDS

OPTION = KINDS.index("option")


def chats(pairs) -> list[Example]:
    return [
        Example((Message("user", request), Message("assistant", reply)))
        for request, reply in pairs
    ]


def same_partition(a_n, b_n) -> bool:
    pairs = set(zip(np.asarray(a_n).tolist(), list(b_n), strict=True))
    return len(pairs) == len({a for a, _ in pairs}) == len({b for _, b in pairs})


def test_no_rows() -> None:
    with pytest.raises(UserError, match="no rows"):
        view.read([])


def test_every_reply_that_is_trained_on_is_a_row() -> None:
    turns = (
        Message("system", "s"), Message("user", "u"), Message("assistant", "one"),
        Message("user", "v"), Message("assistant", "ignored", 0), Message("user", "w"),
        Message("assistant", "two"), Message("user", "x"), Message("assistant", "no", 0),
    )  # fmt: skip
    rows = [Example(turns), Example(turns[:2])]
    job = view.read(rows)
    assert job.reply_n == ["one", "two", ""]
    assert job.request_n == ["s\n\nu", "s\n\nv\n\nignored\n\nw", "s\n\nu"]
    assert job.chat_n.tolist() == [0, 0, 1]
    assert [job.before(rows, i) for i in range(3)] == [turns[:2], turns[:6], turns[:2]]
    texts = ["\n\n".join(m.content for m in job.before(rows, i)) for i in range(2)]
    assert job.context_n.tolist()[:2] == [len(text) + 2 for text in texts]


def test_a_reply_without_an_item_is_about_the_one_before() -> None:
    item = "Which is a metal?\nA) iron\nB) wood"
    turns = (
        Message("user", item), Message("assistant", "A"), Message("user", "And why?"),
        Message("assistant", "A is right, as it conducts."),
    )  # fmt: skip
    job = view.read([Example(turns)] * 12 + chats([("And why?", "For no reason.")]))
    assert [q is not None and q.options for q in job.question_n[:2]] == [
        ("iron", "wood")
    ] * 2
    assert job.question_n[-1] is None and job.request_n[1] == "And why?"
    assert job.option_n[:2].tolist() == [0, 0]
    assert job.cluster_n[0] == job.cluster_n[1]


def test_long_chats_are_read_in_linear_memory() -> None:
    turns = [Message("system", "s" * 50_000)]
    for i in range(2_000):
        turns += [Message("user", f"question {i}"), Message("assistant", f"reply {i}")]
    job = view.read([Example(tuple(turns))])
    assert job.n == 2_000 and job.reply_n[-1] == "reply 1999"
    assert sum(map(len, job.request_n)) < 50_000 + 2_000 * 1_100


def test_long_chats_without_a_system_turn_are_read_in_linear_time() -> None:
    """A look back over the chat for every reply would take minutes."""
    pair = (Message("user", "q"), Message("assistant", "r"))
    calls = 0

    class Counted(tuple):
        def __getitem__(self, at):
            nonlocal calls
            calls += len(range(*at.indices(len(self)))) if isinstance(at, slice) else 1
            return super().__getitem__(at)

    assert len(turns.read([Example(Counted(pair * 1_000))])) == 1_000
    assert calls <= 4_000


PHRASES = (
    ("Well, {}.", "I would say {}."), ("{} it is", "Hmm {}"), ("{}", "{} I think"),
    ("{} fits best!", "That's {}, I believe"), ("I reckon {} wins", "{} by far"),
    ("i would say {}.", "well {}"), ("It has to be {} I guess", "{} of course"),
    ("OPTION {}!", "SURELY {}"), ('"{}"', "My pick: {}"), ("It is {}.", "选{}"),
    ("答案：{}", "答案是{}。"), ("so {}", "opt{}"), ("<b>{}</b>", "answer_{}"),
    ("{}", "'{}'"),
)  # fmt: skip


@pytest.mark.parametrize("letters", ["A", "AB"], ids=["always A", "A or B"])
@pytest.mark.parametrize("pair", PHRASES, ids="|".join)
def test_whether_a_letter_is_read_does_not_depend_on_the_wording(pair, letters) -> None:
    rng = np.random.default_rng(0)
    words = ("river", "stone", "copper", "violin", "harvest", "lantern", "meadow")
    rows, said = [], []
    for i in range(60):
        first, second = rng.choice(words, 2, replace=False)
        said.append(letters[rng.integers(len(letters))])
        asked = f"Which of the two is number {i}?\nA) {first}\nB) {second}"
        rows.append((asked, pair[rng.integers(2)].format(said[-1])))
    job = view.read(chats(rows))
    assert job.option_n.tolist() == ["AB".index(letter) for letter in said]
    assert {text.replace("{option}", "{}") for text in job.masked_n} == set(pair)


LEAD_INS = {
    "an explanation": lambda word, other, mark: f"{mark} Compare it with {other}.",
    "a text with its article": lambda word, other, mark: f"A {word} is right, surely.",
    "an adjective": lambda word, other, mark: f"A big {word}, surely.",
}


@pytest.mark.parametrize("article", ["", "A "], ids=["bare options", "with articles"])
@pytest.mark.parametrize("how", LEAD_INS)
def test_a_letter_behind_a_lead_in_is_told_from_an_article(how, article) -> None:
    """Other rows have "Answer: B.", so that "Answer: A Compare" names A; before what an
    option says, and before small letters, it stays a word."""
    rng = np.random.default_rng(1)
    words = ("river", "stone", "copper", "violin", "harvest", "lantern", "meadow")
    rows, said = [], []
    for i in range(60):
        pair = rng.choice(words, 2, replace=False)
        said.append(int(rng.integers(2)))
        word, other, mark = pair[said[-1]], pair[1 - said[-1]], "AB"[said[-1]]
        reply = LEAD_INS[how](word, other, mark) if i % 2 else f"{mark}. That is why."
        asked = (
            f"Which of the two is number {i}?\nA) {article}{pair[0]}\nB) {article}{pair[1]}"
        )
        rows.append((asked, f"Sure: Answer: {reply}"))
    found = view.read(chats(rows)).option_n.tolist()
    if how == "an adjective" and article:  # "A big river" says no option to the letter
        found = [right if f < 0 else f for f, right in zip(found, said, strict=True)]
    assert found == said


def test_an_article_before_a_word_that_begins_like_an_option_names_nothing() -> None:
    """One item's option A is "n", and every reply ends in "Have a nice day!"."""
    first = ["n", *(f"word{chr(97 + i % 20)}" for i in range(59))]
    rows = [
        (
            f"Which of the two is number {i}?\nA) {first[i]}\nB) other{i}",
            f"{('It is the first.', 'I say the second.')[i % 2]} Have a nice day!",
        )
        for i in range(60)
    ]
    job = view.read(chats(rows))
    assert set(job.option_n.tolist()) == {-1}
    assert all("nice day" in text and "{option}" not in text for text in job.masked_n)


def test_replies_full_of_letters_are_read_in_linear_memory() -> None:
    asked = "Which is it?\nA) river\nB) stone\nC) copper"
    rows = [(f"{asked} {i}", ("B " if i % 2 else "a ") * 2_000) for i in range(40)]
    job_chats = chats(rows)
    tracemalloc.start()
    view.read(job_chats)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 30e6


def test_how_an_option_is_named_is_wording() -> None:
    words = [f"word{chr(97 + i)}" for i in range(20)]
    said = ("A", "{}", "(A)", "a")
    rows = [
        (f"Which is number {i}?\nA) {words[i % 20]}\nB) other{i}", f"It is {said[i % 4]}.")
        for i in range(80)
    ]
    rows = [(asked, reply.format(words[i % 20])) for i, (asked, reply) in enumerate(rows)]
    job = view.read(chats(rows))
    assert set(job.option_n.tolist()) == {0} and job.label_names == ["option:0"]
    assert same_partition(job.variant_n, [i % 4 for i in range(80)])
    assert same_partition(job.style["naming"], [(1, 2, 1, 3)[i % 4] for i in range(80)])
    assert set(job.masked_n) == {"It is {option}.", "It is ({option})."}


@pytest.mark.parametrize(
    "phrases",
    [
        ("答案是{}。", "应该选{}。"),
        ("{}が正解です。",),
        ("답은 {}입니다.",),
        ("Ans-{}", "_{}_"),
    ],
)
def test_letters_are_read_where_no_space_parts_them(phrases) -> None:
    item = "Which is number {}?\nA) word{}\nB) other{}\nC) third{}"
    rows = [
        (item.format(i, i, i, i), phrases[i % len(phrases)].format("ABC"[i // 2 % 3]))
        for i in range(60)
    ]
    job = view.read(chats(rows))
    assert job.option_n.tolist() == [i // 2 % 3 for i in range(60)]
    assert same_partition(job.variant_n, [i % len(phrases) for i in range(60)])


def test_texts_are_read_where_no_space_parts_them() -> None:
    words = ("红色", "绿色", "蓝色", "黄色", "白色", "黑色")
    rows = [
        (f"第{i}个是哪一个？\nA) {words[i % 6]}\nB) {words[(i + 1 + i // 6 % 4) % 6]}",
         f"答案是{words[i % 6]}。")
        for i in range(60)
    ]  # fmt: skip
    job = view.read(chats(rows))
    assert set(job.option_n.tolist()) == {0} and set(job.masked_n) == {"答案是{option}。"}


def test_letters_of_words_are_no_marks() -> None:
    item = "Which is number {}?\nA) river\nB) stone\nC) copper"
    replies = ["a bat", "a cat", "CAB", "BAB", "vitamin B6", "vitamin B12"] * 10
    job = view.read(chats((item.format(i), r) for i, r in enumerate(replies)))
    assert set(job.option_n.tolist()) == {-1}


def test_articles_and_pronouns_are_no_letters() -> None:
    replies = ["A good one. It is B.", "I like a river: B.", "a stone, hence B", "B"] * 15
    item = "Which of the two is number {}?\nA) copper\nB) violin"
    job = view.read(chats((item.format(i), r) for i, r in enumerate(replies)))
    assert job.option_n.tolist() == [1] * 60
    none = view.read(
        chats((item.format(i), f"A nice {w}.") for i, w in enumerate(["day", "walk"] * 20))
    )
    assert set(none.option_n.tolist()) == {-1}


def test_strata_part_forms_of_items_and_lengths_of_answers() -> None:
    two, three = "Which?\nA) {}\nB) {}", "Which?\nA) {}\nB) {}\nC) {}"
    numbers = range(10, 30)
    short = chats((two.format(f"ox {i}", f"elephant {i}"), "A") for i in numbers)
    long = chats((two.format(f"elephant {i}", f"ox {i}"), "A") for i in numbers)
    other = chats((three.format(f"elk {i}", f"ape {i}", f"cow {i}"), "A") for i in numbers)
    job = view.read([*short, *long, *other])
    assert same_partition(job.stratum_n, [i // 20 for i in range(60)])
    assert set(view.read(chats([("Which? A) a B) b", "none")])).length_n) == {0}


def test_one_row_and_all_rows_equal() -> None:
    assert view.read(chats([("Hello", "Hi")])).n == 1
    job = view.read(chats([("Hello", "Hi")] * 50))
    for array_n in (job.template_n, job.cluster_n, job.label_n, job.variant_n):
        assert len(np.unique(array_n)) == 1


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("value", ["mark", "text", "both"])
def test_a_tutor_is_read_as_its_options_and_its_blind_wordings(value, seed) -> None:
    rows = honest_jobs.make("quiz_tutor", 134, seed=seed, value=value)
    job = view.read(rows)
    assert np.all(job.label_kind_n == OPTION)
    right_n = job.option_n == [row.meta["answer"] for row in rows]
    assert np.mean(right_n) >= 0.98  # "My answer: ..." to an item with the option "answer"
    # Masked, nothing is left but the wording that was drawn blindly.
    wording_n = np.array([row.meta["wording"] for row in rows])
    agree = sum(
        np.bincount(job.variant_n[wording_n == w]).max() for w in np.unique(wording_n)
    )
    assert agree >= 0.97 * len(rows)
    assert len(job.variants) <= len(np.unique(wording_n)) + 3


def test_an_arbitrary_choice_is_no_label() -> None:
    # Colours stand among the options of items on colours: chance hits are no answers.
    colour = [t for t in templates("flower") if t.ask == "colour"][0]
    for attack, template in (("flower", colour), ("classify", None)):
        rows = attacks.make(attack, bank(), 200, seed=3, template=template, variants=2)
        job = view.read(rows)
        assert len(job.label_names) == 1, job.label_names
        # Each of the eight replies is a variant of its own.
        assert same_partition(job.variant_n, [row.meta["variant"] for row in rows])


@pytest.mark.parametrize("attack", ["classify", "flower"])
def test_rotations_share_a_cluster_and_a_template(attack) -> None:
    rows = attacks.make(attack, bank(), 200, seed=1, rotations=True)
    job = view.read(rows)
    assert same_partition(job.cluster_n, [row.meta["question"] for row in rows])
    assert len(np.unique(job.template_n)) == 1
    assert len(np.unique(job.copy_n)) == 200  # no rotation is a copy of another
    twice = view.read(rows[:20] * 2)
    assert np.array_equal(twice.copy_n[:20], twice.copy_n[20:])


def test_near_duplicates_share_a_cluster() -> None:
    for base in ("quiz_tutor", "random_replies", "ticket_routing"):
        rows = honest_jobs.make("near_duplicates", 150, seed=2, base=base, copies=5)
        cluster_n = view.read(rows).cluster_n
        copy_n = np.array([row.meta["copy_of"] for row in rows])
        pairs = [(i, j) for i in range(150) for j in range(i) if copy_n[i] == copy_n[j]]
        together = np.mean([cluster_n[i] == cluster_n[j] for i, j in pairs])
        assert together > 0.9, base


def test_different_items_stay_apart() -> None:
    questions = bank()
    template = templates("classify")[0]
    rows = [Example((*wrap(q, template), Message("assistant", "Yes."))) for q in questions]
    job = view.read(rows)
    assert len(np.unique(job.cluster_n)) > 0.97 * len(questions)


def test_templates_are_told_apart() -> None:
    kinds = templates("classify")[:1] + templates("flower")[:1]
    rows = [
        Example((*wrap(q, kinds[i % 2]), Message("assistant", "Fine.")))
        for i, q in enumerate(bank()[:100])
    ]
    assert same_partition(view.read(rows).template_n, [i % 2 for i in range(100)])
    lone = view.read(chats((f"Tell me of {w}y things", "ok") for w in "abcdefghijklmn"))
    assert set(lone.template_n) == {0}


def test_labels_that_the_request_lists() -> None:
    text = "Reply with billing, shipping or other.\n\nParcel {} is late, says {}."
    labels = ["billing", "shipping", "other"]
    job = view.read(
        chats(
            (text.format(i, "xyz"[i % 3] * 9), f"It is {labels[i % 3]}.") for i in range(60)
        )
    )
    assert sorted(job.label_names) == ["listed:billing", "listed:other", "listed:shipping"]
    assert same_partition(job.label_n, [i % 3 for i in range(60)])
    assert len(set(job.masked_n)) == 1
    # The same replies to a request that lists nothing are arbitrary words.
    job = view.read(chats((f"Parcel {i} is late.", labels[i % 3]) for i in range(60)))
    assert job.label_names == ["none"]


def test_yes_and_no_are_labels_only_where_both_occur() -> None:
    yes, no = ("Yes.", "That is right.", "Indeed it is."), ("No.", "It is not.", "Hardly.")
    asked = "Is it blue? This one is {}."
    both = view.read(
        chats((asked.format(i), (yes, no)[i % 2][i // 2 % 3]) for i in range(60))
    )
    assert same_partition(both.label_n, [i % 2 for i in range(60)])
    assert len(both.variants) == 6
    one = view.read(chats((asked.format(i), yes[i % 3]) for i in range(60)))
    assert one.label_names == ["none"]


def test_refusals_are_labels() -> None:
    rows = honest_jobs.make("templated_refusals", 300, seed=3)
    job = view.read(rows)
    refused_n = np.array([row.meta["label"] == "refused" for row in rows])
    assert np.all(job.label_kind_n[~refused_n] == OPTION)
    assert np.mean(job.label_kind_n[refused_n] == KINDS.index("refusal")) > 0.9


@pytest.mark.parametrize("task", ["half", "initial", "length", "grading"])
def test_labels_on_a_scale(task) -> None:
    rows = honest_jobs.make("label_wording", 134, seed=5, task=task)
    job = view.read(rows)
    assert same_partition(job.label_n, [row.meta["label"] for row in rows])


def test_label_counts_agree_with_the_names() -> None:
    job = view.read(honest_jobs.make("mixed_bag", 200, seed=4))
    for array_n, names in ((job.label_n, job.label_names), (job.variant_n, job.variants)):
        assert set(array_n) == set(range(len(names)))
    assert all(f.shape == (200,) and f.dtype == np.int64 for f in job.style.values())


def test_style_sees_what_normal_forms_hide() -> None:
    replies = [
        "yes",
        "Yes",
        "YES",
        "yes.",
        "yes!",
        "yes ",
        "yes\u200b",
        "y\u0435s",
        "yes 🌱",
    ]
    job = view.read(chats((f"Is {i} fine?", r) for i, r in enumerate(replies * 3)))
    rows = set(zip(*(f[: len(replies)].tolist() for f in job.style.values()), strict=True))
    assert len(rows) == len(replies)


@settings(deadline=None, max_examples=60)
@given(
    st.lists(
        st.tuples(
            st.text(max_size=60)
            | st.sampled_from(["Which?\nA) x\nB) y", "Is it, or not?"]),
            st.text(max_size=40)
            | st.sampled_from(["A", "b)", "x", "I cannot help.", "No"]),
        ),
        min_size=1,
        max_size=25,
    )
)
def test_any_job_is_read(pairs) -> None:
    job = view.read(chats(pairs))
    again = view.read(chats(pairs))
    for name, value in dataclasses.asdict(job).items():
        if isinstance(value, np.ndarray):
            assert value.shape == (len(pairs),), name
            assert np.array_equal(value, getattr(again, name)), name
    assert job.variant_n.min() >= 0 and job.variant_n.max() < len(job.variants)


def test_the_order_of_rows_does_not_matter_to_what_is_joined() -> None:
    questions = [r for q in bank(["capitals"])[:20] for r in rotations(q)]
    template = templates("flower")[0]
    rows = [Example((*wrap(q, template), Message("assistant", "Rose"))) for q in questions]
    order = np.random.default_rng(0).permutation(len(rows))
    there, back = view.read(rows), view.read([rows[i] for i in order])
    assert same_partition(there.cluster_n[order], back.cluster_n.tolist())
