"""What was bet against one account, or against a cluster of accounts together.

An e-process for each way to tell wordings apart (`exchange.WORDINGS`); their mean is an
e-process too. Strata z hold label, kind of item, account and template. The template of a
request is the set of its sentences that stood in at least a fifth of the account's earlier
requests: requests alone decide it, and the null is about replies given requests.

A cluster's accounts have strata of their own, as each may have a style, and share one
table of what wording goes with which latent: a code that is split over accounts is learned
from all of them.
"""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from cifr_jax.errors import UserError
from cifr_jax.monitors.dataset.e_process import EProcess
from cifr_jax.monitors.stream.exchange import WORDINGS, Exchange, number_of

_FREQUENT, _LEAST = 0.2, 10  # share and number of earlier requests with a sentence
_MAX_SENTENCES = 256  # counted at once; the rarer half is forgotten
_MAX_VALUES, _MAX_STRATA = 128, 32
_COUNTS = ("rows", "items", "repeated", "unanswered")


class Ledger:
    """The evidence against one account or cluster.

    Args:
      block: exchanges of a stratum that are bet on together (see `EProcess`).

    Attributes:
      rows: exchanges seen. items: those with a multiple-choice item. repeated: those whose
        item came before, which are not bet on. unanswered: those to whose item the base
        has no answer.
    """

    def __init__(self, block: int = 4):
        self.rows = self.items = self.repeated = self.unanswered = 0
        self._peak = 0.0
        self._sentences: dict[int, int] = {}
        self._processes = [EProcess(block, _MAX_VALUES, _MAX_STRATA) for _ in WORDINGS]

    @property
    def bet(self) -> int:
        """Exchanges that were bet on."""
        return self._processes[0].bet

    @property
    def log_wealth(self) -> float:
        """Natural logarithm of the e-value now: the mean over wordings."""
        logs = [process.log_wealth for process in self._processes]
        return float(np.logaddexp.reduce(logs) - math.log(len(logs))) if self.bet else 0.0

    @property
    def log_peak(self) -> float:
        """Of the largest e-value so far; exp of minus this is an any-time p-value."""
        return self._peak

    def strongest(self) -> str:
        """The way to tell wordings apart under which the evidence is largest."""
        logs = [process.log_wealth for process in self._processes]
        return WORDINGS[int(np.argmax(logs))]

    def update(
        self, exchange: Exchange, position: int, repeated: bool, account: str = ""
    ) -> float:
        """Takes one exchange and returns the logarithm of the e-value.

        Args:
          exchange: as read.
          position: where the base's own answer stands among the item's options (u);
            -1 where that is unknown.
          repeated: whether the account's item came before: no new evidence.
          account: whose exchange it is, in a cluster.
        """
        template = self._template(exchange.sentences)
        self.rows += 1
        if exchange.item is not None:
            self.items += 1
            self.repeated += repeated
            self.unanswered += not repeated and position < 0
            if not repeated and position >= 0:
                kind = f"{exchange.item.format} {len(exchange.item.options)}"
                z = number_of(exchange.label, kind, account, *map(str, template))
                for process, v in zip(self._processes, exchange.wordings, strict=True):
                    process.update(position, v, z)
                self._peak = max(self._peak, self.log_wealth)
        return self.log_wealth

    def _template(self, sentences: tuple[int, ...]) -> list[int]:
        """Of earlier requests' frequent sentences those in this one; counts this one."""
        least = max(_LEAST, _FREQUENT * self.rows)
        found = [s for s in sentences if self._sentences.get(s, 0) >= least]
        for sentence in sentences:
            self._sentences[sentence] = self._sentences.get(sentence, 0) + 1
        if len(self._sentences) > _MAX_SENTENCES:
            kept = sorted(self._sentences.items(), key=lambda pair: (-pair[1], pair[0]))
            self._sentences = dict(kept[: _MAX_SENTENCES // 2])
        return sorted(found)

    def to_dict(self) -> dict[str, Any]:
        """The state, fit for JSON."""
        return {name: getattr(self, name) for name in _COUNTS} | {
            "peak": self._peak,
            "sentences": list(map(list, self._sentences.items())),
            "processes": [process.to_dict() for process in self._processes],
        }

    @classmethod
    def from_dict(cls, state: Mapping[str, Any]) -> "Ledger":
        """Reads what `to_dict` wrote.

        Raises:
          UserError: not such a state.
        """
        found = cls()
        try:
            for name in _COUNTS:
                setattr(found, name, int(state[name]))
            found._peak = float(state["peak"])
            found._sentences = {int(s): int(n) for s, n in state["sentences"]}
            found._processes = [EProcess.from_dict(one) for one in state["processes"]]
            sound = len(found._processes) == len(WORDINGS)
        except (KeyError, TypeError, ValueError) as error:
            raise UserError(
                "state of an account", "cannot be read", "give another --workdir"
            ) from error
        if not sound:
            raise UserError(
                "state of an account", "is of another version", "give another --workdir"
            )
        return found
