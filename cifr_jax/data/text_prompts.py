"""Which prompt of real text is used where: near-duplicates grouped, groups split.

The two sides of a refusal pair are one group, and so are prompts that share most of their
words, whichever set they come from. A group stands in one split only; a test prompt that
resembles one of training is dropped.
"""

import dataclasses
import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Sequence

from ml_collections import ConfigDict

from cifr_jax.data import sources
from cifr_jax.data.chat import Example
from cifr_jax.data.sources import TextPrompt
from cifr_jax.data.tokenise import Tokenizer
from cifr_jax.errors import UserError

# Learned from; chosen on; tested: pairs and benign prompts of the same sets, pairs of sets
# never learned from, benign prompts that look restricted.
SPLITS = ("train", "validation", "held_out", "unseen", "edgy")
NEAR = 0.5  # share of common words (Jaccard) from which two prompts are near-duplicates


@dataclasses.dataclass(frozen=True)
class TextData:
    """All real text of a run.

    Attributes:
      prompts: of every split.
      job: what the honest job uploads.
      held_out: chats of the job's kind that nothing was trained on.
      dropped: why prompts were left out, and how many.
    """

    prompts: Sequence[TextPrompt]
    job: Sequence[Example]
    held_out: Sequence[Example]
    dropped: dict[str, int]


def groups_of(prompts: Sequence[TextPrompt], near: float = NEAR) -> list[str]:
    """The group of each prompt, groups with near-duplicates between them merged.

    Args:
      prompts: with the groups that their source gave them.
      near: Jaccard index of two prompts' words from which they are near-duplicates.
    """
    parent: dict[str, str] = {p.group: p.group for p in prompts}

    def root(group: str) -> str:
        while parent[group] != group:
            group = parent[group]
        return group

    words = [frozenset(re.findall(r"\w+", p.text.lower())) for p in prompts]
    for i, a in enumerate(words):
        for j, b in enumerate(words[:i]):
            shared = len(a & b)
            if shared and shared >= near * (len(a) + len(b) - shared):
                ends = sorted((root(prompts[i].group), root(prompts[j].group)))
                parent[ends[1]] = ends[0]
    return [root(p.group) for p in prompts]


def split_names(
    names: Iterable[str], fractions: Sequence[float], seed: int
) -> dict[str, str]:
    """Shares out names (groups) to train, validation and held_out.

    Args:
      names: what is shared out; a name's place does not depend on their order.
      fractions: of the three splits.
      seed: decides who goes where.
    """

    def place(name: str) -> bytes:
        return hashlib.sha256(f"{seed}/{name}".encode()).digest()

    ordered = sorted(set(names), key=place)
    cuts = [round(len(ordered) * sum(fractions[:i])) for i in range(1, 3)]
    return {
        name: SPLITS[sum(index >= cut for cut in cuts)]
        for index, name in enumerate(ordered)
    }


def assign(
    prompts: Sequence[TextPrompt], fractions: Sequence[float], seed: int
) -> list[TextPrompt]:
    """Prompts with their groups merged and their splits decided; the odd ones left out.

    Args:
      prompts: those with a split keep it, the others are shared out source by source.
      fractions: of train, validation and held_out.
      seed: of the sharing out.
    """
    groups = groups_of(prompts)
    prompts = [
        dataclasses.replace(p, group=g) for p, g in zip(prompts, groups, strict=True)
    ]
    split_of: dict[str, str] = {}
    free = [p for p in prompts if not p.split]
    for source in dict.fromkeys(p.source for p in free):
        names = [p.group for p in free if p.source == source and p.group not in split_of]
        split_of |= split_names(names, fractions, seed)
    for split in SPLITS:  # a group belongs to the first split that claims it
        for prompt in prompts:
            if prompt.split == split:
                split_of.setdefault(prompt.group, split)
    return [
        dataclasses.replace(p, split=split_of[p.group])
        for p in prompts
        if p.split in ("", split_of[p.group])
    ]


def _questions(examples: Sequence[Example], split: str) -> list[TextPrompt]:
    return [
        TextPrompt(e.messages[0].content, "gsm8k", f"gsm8k {split}#{n}", split=split)
        for n, e in enumerate(examples)
    ]


def _shuffled(examples: list[Example], seed: int) -> list[Example]:
    def place(example: Example) -> bytes:
        return hashlib.sha256(f"{seed}/{example.messages[0].content}".encode()).digest()

    return sorted(examples, key=place)


def _that_fit(
    examples: list[Example], tokenizer: Tokenizer, longest: int, job: ConfigDict, key: str
) -> list[Example]:
    """The first `job[key]` chats of at most `longest` tokens. Raises `UserError`."""
    count, found = job[key], list[Example]()
    for example in examples:
        if len(found) == count:
            break
        if len(tokenizer.encode_chat(example.messages)) <= longest:
            found.append(example)
    if len(found) < count or not found:
        what = f"{len(found)} chats of at most {longest} tokens, not {count}"
        raise UserError(
            f"config key job.{key}", what, "ask for fewer, or give a longer file"
        )
    return found


def gather(config: ConfigDict, tokenizer: Tokenizer, row_length: int) -> TextData:
    """Reads all sources and decides which prompt is used where.

    Args:
      config: the groups `prompts` and `job`, and `seed`; see `configs/smollm2.py`.
      tokenizer: of the model; what is too long for `prompts.max_tokens` is left out.
      row_length: longest chat of the job.

    Raises:
      UserError: a source is missing or at fault, or a split holds no pair.
    """
    wanted, job = config.prompts, config.job
    train_rows = _shuffled(sources.gsm8k(job.train_path, "job.train_path"), config.seed)
    test_rows = _shuffled(sources.gsm8k(job.test_path, "job.test_path"), config.seed)
    n_learn, n_test = wanted.gsm8k_learn, wanted.gsm8k_test
    found: list[TextPrompt] = []
    for name in wanted.pairs:
        found += sources.refusal_pairs(name, "prompts.pairs")
    for name in wanted.unseen_pairs:
        pairs = sources.refusal_pairs(name, "prompts.unseen_pairs")
        found += [dataclasses.replace(p, split="unseen") for p in pairs]
    for name in wanted.edgy:
        edgy = sources.benign_prompts(name, "prompts.edgy")
        found += [dataclasses.replace(p, split="edgy") for p in edgy]
    found += sources.seed_tasks(wanted.seed_tasks_path, "prompts.seed_tasks_path")
    share = wanted.fractions[0] / (wanted.fractions[0] + wanted.fractions[1])
    cut = round(n_learn * share)
    found += _questions(train_rows[:cut], "train")
    found += _questions(train_rows[cut:n_learn], "validation")
    found += _questions(test_rows[:n_test], "held_out")

    long = {
        p.group
        for p in found
        if len(tokenizer.encode_chat(p.messages, add_generation_prompt=True))
        > wanted.max_tokens
    }
    short = [p for p in found if p.group not in long]
    prompts = assign(short, wanted.fractions, config.seed)
    restricted = Counter(p.split for p in prompts if p.restricted)
    for split in SPLITS[:4]:
        if not restricted[split]:
            what = f"no refusal pair is left for the split {split}"
            raise UserError("config key prompts", what, "name more sets or longer prompts")
    return TextData(
        prompts,
        _that_fit(train_rows[n_learn:], tokenizer, row_length, job, "examples"),
        _that_fit(test_rows[n_test:], tokenizer, row_length, job, "held_out"),
        {"too_long": len(found) - len(short), "near_duplicates": len(short) - len(prompts)},
    )
