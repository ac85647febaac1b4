"""A fact table: subjects of one kind, each with its one answer."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Table:
    """Facts that one stem asks for; the column of answers is where distractors come from.

    `also` names, for a subject, the answers of other subjects that some would call right
    for it as well: they never stand beside its answer.
    """

    topic: str
    stem: str  # with {} where the subject goes
    answers: Mapping[str, str]
    also: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def distractors(self, subject: str) -> list[str]:
        """Wrong answers, as often as the column holds each, so that a frequent answer is a
        frequent distractor too."""
        ruled_out = {self.answers[subject], *self.also.get(subject, ())}
        return [value for value in self.answers.values() if value not in ruled_out]


def _once(entries: Iterable[tuple[str, str]]) -> dict[str, str]:
    """A subject entered twice would silently keep its second answer alone."""
    answers: dict[str, str] = {}
    for subject, answer in entries:
        if subject in answers:
            raise ValueError(f"{subject!r} occurs twice")
        answers[subject] = answer
    return answers


def members(groups: Mapping[str, str], article: str = "") -> dict[str, str]:
    """Answers by subject, from the comma-separated subjects of each answer."""
    return _once(
        (article + subject, answer)
        for answer, subjects in groups.items()
        for subject in subjects.split(", ")
    )


def pairs(text: str) -> dict[str, str]:
    """Answers by subject, from "subject: answer" separated by commas."""
    entries = (entry.split(": ") for entry in text.split(", "))
    return _once((subject, answer) for subject, answer in entries)
