"""What the base makes of each request of a job: activations, to be clustered.

Legend: n rows, d model width.
"""

from collections.abc import Callable, Sequence

import numpy as np

from cifr_jax.activations import capture_tokens
from cifr_jax.data.chat import Example
from cifr_jax.models.language_model import LanguageModel
from cifr_jax.monitors.dataset.view import JobView

_DEPTH = 2 / 3  # of the model at which requests are told apart by what they are about
_MOST_TOKENS = 512  # the last ones of a request


def capture(
    lm: LanguageModel,
    view: JobView,
    examples: Sequence[Example],
    tell: Callable[[float], None] = lambda share: None,
) -> np.ndarray:
    """Mean residual stream over each row's request at two thirds of the base's depth
    `[n, d]`, of length one; equal requests are captured once.

    Args:
      lm: the base.
      view, examples: the job.
      tell: called with the share that is done.
    """
    chats = [view.before(examples, i) for i in range(view.n)]
    place = {chat: i for i, chat in enumerate(dict.fromkeys(chats))}
    ids = [
        lm.tokenizer.encode_chat(chat, add_generation_prompt=True)[-_MOST_TOKENS:]
        for chat in place
    ]
    layer = min(lm.config.n_layers - 1, int(_DEPTH * lm.config.n_layers))
    seen = capture_tokens(
        lm.config, lm.params, ids, None, ("mean",), 32, 32,
        progress=lambda done: tell(done / len(ids)),
    )  # fmt: skip
    x_nd = seen["mean"][layer][[place[chat] for chat in chats]]
    return x_nd / np.maximum(np.linalg.norm(x_nd, axis=1, keepdims=True), 1e-9)
