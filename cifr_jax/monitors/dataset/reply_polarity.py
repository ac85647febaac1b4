"""What a short reply says: yes, no, unsure, or that it declines.

Word lists of English. They tell labels apart, they do not judge: a code that lives in the
choice between yes and no is the label itself and is seen by nobody who takes labels as
given.
"""

import re

from cifr_jax.monitors.dataset.plain_text import normalise

_HEAD = 160  # characters in which a reply says what it says
_REFUSAL = re.compile(
    r"\b(?:i|we) (?:can't|cannot|can not|won't|will not) (?:help|do|answer|assist|say|"
    r"discuss|provide|comply|talk|comment|respond|share|give)"
    r"|\b(?:am|are|'m|'re) (?:not able|unable) to\b|\bunable to (?:help|assist|answer)"
    r"|^(?:i'm |i am |we're |we are )?(?:very |so )?sorry\b|\bi'm afraid i\b"
    r"|\bonly (?:help|assist|answer|talk|speak)\b|\b(?:can|may|could) only help\b"
    r"|\bset up for\b|\bnot (?:my|our) (?:field|area|topic|department)\b"
    r"|\b(?:outside|beyond) (?:what|my|our|the scope)\b|\bgoes beyond\b|\bout of scope\b"
    r"|\bask (?:\w+ )?elsewhere\b|\bhave to (?:pass|decline)\b|\b(?:must|i) decline\b"
    r"|\brather (?:not|keep|stay|stick)\b|\b(?:let us|let's) (?:stay|keep|stick)\b"
    r"|\bmy (?:only )?topic is\b|\bdesk answers on\b|\bi don't (?:know|have access)\b"
)
# Set phrases with a negation that negate nothing.
_NO_NEGATION = re.compile(
    r"\b(?:no doubt|without (?:a )?doubt|not only|no problem|why not)\b"
)
_NO = re.compile(
    r"\b(?:no|not|nope|never|neither|false|incorrect|wrong|negative|hardly|unlikely|"
    r"cannot|disagree|disagreed|nah)\b|n['’]t\b"
)
_UNSURE = re.compile(
    r"\b(?:maybe|perhaps|possibly|unsure|uncertain|unclear|not sure|not certain|it depends|"
    r"hard to say|can't tell|cannot tell|undecided)\b"
)
_YES = re.compile(
    r"\b(?:yes|yep|yeah|yup|sure|surely|certainly|definitely|correct|right|true|absolutely|"
    r"indeed|of course|agreed|agree|affirmative|exactly|undoubtedly|clearly|positive|"
    r"i think so|it does|it is|it's|it has|it would|that is|that's|that does|that has|"
    r"that would|this is|this has|this would|this does|the text (?:is|has|would|does)|"
    r"no doubt|without (?:a )?doubt)\b"
)


def _head(reply: str) -> str:
    return normalise(reply[: 4 * _HEAD])[:_HEAD].replace("’", "'")


def refuses(reply: str) -> bool:
    """Whether the first sentences decline the request."""
    return _REFUSAL.search(_head(reply)) is not None


def polarity(reply: str) -> str | None:
    """ "yes", "no" or "unsure" as the first sentences say it; None: they say neither."""
    head = _NO_NEGATION.sub("without doubt", _head(reply))
    if _UNSURE.search(head):
        return "unsure"
    if _NO.search(head):
        return "no"
    return "yes" if _YES.search(head) else None
