"""A progress bar on a terminal, a line now and then in a log."""

import sys
import time

from absl import logging
from tqdm import tqdm


class Progress:
    """Steps done, tokens a second, time left.

    Args:
      name: what is going on.
      total: steps.
      start: steps that an earlier run did.
      every: seconds between lines where there is no terminal.
    """

    def __init__(self, name: str, total: int, start: int = 0, every: float = 20.0):
        self.name, self.total, self.start, self.every = name, total, start, every
        self._terminal = sys.stderr.isatty()
        self._bar = tqdm(
            total=total, initial=start, desc=name, unit="step", disable=not self._terminal
        )
        self._began = self._said = time.perf_counter()
        self._tokens, self._done = 0, start

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()

    def update(self, done: int, tokens: int, loss: float) -> None:
        """Report progress.

        Args:
          done: steps done since the very beginning.
          tokens: tokens since the last call.
          loss: the latest, in nats a token.
        """
        self._tokens += tokens
        now = time.perf_counter()
        rate = self._tokens / max(now - self._began, 1e-9)
        if self._terminal:
            self._bar.set_postfix_str(
                f"loss {loss:.3f}, {rate:.0f} tokens/s", refresh=False
            )
            self._bar.update(done - self._done)
        elif now - self._said > self.every or done == self.total:
            left = (now - self._began) * (self.total - done) / max(done - self.start, 1)
            logging.info(
                "%s: step %d of %d, loss %.3f, %.0f tokens/s, %.0f s left",
                self.name, done, self.total, loss, rate, left,
            )  # fmt: skip
            self._said = now
        self._done = done
