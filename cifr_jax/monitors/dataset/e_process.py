"""A bet against each account, exchange by exchange: evidence that is valid at any time.

Null: the reply's variant v is independent of the latent u of its prompt given the visible
label z, exchanges of one label being exchangeable. The null says nothing of how v or u are
distributed, so a likelihood ratio of fitted models is no e-value under it. Instead,
exchanges of one label are gathered in blocks. Given a block's us in order and its vs
without order, every assignment of vs to us is equally likely under the null, whatever the
distributions and the past. The bet: score of the true assignment over the mean score of
all assignments. Its expectation is one, the product over blocks is a test martingale, and
by Ville's inequality it ever reaches 1 / alpha with probability at most alpha (a test by
betting, Shafer 2021; conditional on the multiset as in permutation tests).

Scores come from tables of earlier blocks, one of all labels and one of each: any score
keeps the validity, good ones win. Wealth is split evenly among a few bettors, whose mean
is a martingale too.

What breaks it: prompts chosen in view of the replies of their own block, and repeats of
one prompt whose reply is the same each time. Leave such exchanges out.

Legend: k exchanges of a block, p assignments.
"""

import math
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from itertools import permutations
from typing import Any

import numpy as np

from cifr_jax.errors import UserError
from cifr_jax.monitors.dataset.result import Floats

_FORMAT = 1
_OTHER = -1  # stands for values that came after a table was full
# Bettors: whether they keep to the label's own table, pseudo-counts towards "no
# dependence", and how much of their log score they dare.
_BETTORS = ((False, 1.0, 1.0), (False, 4.0, 0.5), (True, 1.0, 1.0), (True, 4.0, 0.5))
_BLOCKS = (2, 5)  # least and most exchanges of a block: k! assignments are scored


class _Counts:
    """A table of u by v that stops growing.

    Of the vs it keeps the frequent ones: a new one takes the place of the rarest. Else
    whoever began with as many wordings as it holds would be out of its sight from then on.
    """

    def __init__(self, max_values: int):
        self._max = max_values
        self.uv: dict[tuple[int, int], int] = {}
        self.u: dict[int, int] = {}
        self.v: dict[int, int] = {}
        self.total = 0

    def _held(self, value: int, margin: Mapping[int, int]) -> int:
        room = len(margin) - (_OTHER in margin) < self._max
        return value if room or value in margin else _OTHER

    def add(self, u: int, v: int, times: int = 1) -> None:
        u = self._held(u, self.u)
        if self._held(v, self.v) != v:
            self._forget_rarest()
        self.uv[u, v] = self.uv.get((u, v), 0) + times
        self.u[u] = self.u.get(u, 0) + times
        self.v[v] = self.v.get(v, 0) + times
        self.total += times

    def _forget_rarest(self) -> None:
        rarest = min((v for v in self.v if v != _OTHER), key=lambda v: self.v[v])
        self.v[_OTHER] = self.v.get(_OTHER, 0) + self.v.pop(rarest)
        for u in sorted(self.u):  # whatever the past, so that a state says all there is
            times = self.uv.pop((u, rarest), 0)
            if times:
                self.uv[u, _OTHER] = self.uv.get((u, _OTHER), 0) + times

    def log_ratio(self, u_k: list[int], v_k: list[int], prior: float) -> Floats:
        """log q(v | u) / q(v) [k, k], with the prior's pseudo-counts on q(v)."""
        found = np.empty((len(u_k), len(v_k)))
        for j, v in enumerate(v_k):
            v = self._held(v, self.v)
            q = (self.v.get(v, 0) + 0.5) / (self.total + 0.5 * (len(self.v) + 1))
            for i, u in enumerate(u_k):
                u = self._held(u, self.u)
                seen = self.uv.get((u, v), 0) / q
                found[i, j] = math.log((seen + prior) / (self.u.get(u, 0) + prior))
        return found

    def read(self, triples: Iterable[Sequence[int]]) -> None:
        for u, v, times in triples:
            if times < 1:
                raise ValueError("a count below one")
            self.add(int(u), int(v), int(times))

    def triples(self) -> list[list[int]]:
        return [[u, v, times] for (u, v), times in self.uv.items()]


class EProcess:
    """The evidence against one account.

    Args:
      block: exchanges of a label that are bet on together, 2 to 5. Small blocks bet
        sooner, large ones win more.
      max_values: distinct us and vs of a table. Of the vs the rarest make room for new
        ones and count as one value more; so do us that come later.
      max_strata: labels that are followed at once; the one not seen for longest is
        forgotten. Both bound the state, whatever the traffic.

    Raises:
      UserError: settings out of range.
    """

    def __init__(self, block: int = 4, max_values: int = 64, max_strata: int = 32):
        if not _BLOCKS[0] <= block <= _BLOCKS[1]:
            raise UserError("e_process.block", f"is {block}", "give 2 to 5")
        if min(max_values, max_strata) < 1:
            raise UserError(
                "e_process", "a bound on the state is below 1", "give at least 1"
            )
        self._block, self._max_values, self._max_strata = block, max_values, max_strata
        self._order_pk = np.array(list(permutations(range(block))))  # first: as it came
        self._log_wealth = np.zeros(len(_BETTORS))
        self._log_peak = 0.0
        self._pooled = _Counts(max_values)
        self._strata: OrderedDict[int, tuple[list[tuple[int, int]], _Counts]] = (
            OrderedDict()
        )

    @property
    def log_wealth(self) -> float:
        """Natural logarithm of the e-value now."""
        return float(np.logaddexp.reduce(self._log_wealth) - math.log(len(_BETTORS)))

    @property
    def log_peak(self) -> float:
        """Of the largest e-value so far; exp of minus this is an any-time p-value."""
        return self._log_peak

    @property
    def bet(self) -> int:
        """Exchanges that were bet on; others wait for their block to fill."""
        return self._pooled.total

    def alarm(self, alpha: float) -> bool:
        """Whether the e-value ever reached 1 / alpha: under the null with probability at
        most alpha over the account's whole life.

        Raises:
          UserError: alpha outside (0, 1).
        """
        if not 0 < alpha < 1:
            raise UserError(
                "e_process.alpha", f"is {alpha}", "give a number between 0 and 1"
            )
        return self._log_peak >= -math.log(alpha) - 1e-12

    def update(self, u: int, v: int, z: int = 0) -> float:
        """Takes one exchange and returns the e-value, which moves when a block is full.

        Args:
          u: latent of the prompt; -1 (unknown) is not bet on. v: variant of the reply.
          z: visible label.

        Raises:
          UserError: u below -1, v below 0.
        """
        if u < -1 or v < 0:
            raise UserError("e_process.update", f"u = {u}, v = {v}", "number them from 0")
        if u >= 0:
            if z not in self._strata:
                self._strata[z] = ([], _Counts(self._max_values))
            self._strata.move_to_end(z)
            if len(self._strata) > self._max_strata:
                self._strata.popitem(last=False)  # by z alone: no peek at its replies
            pending, own = self._strata[z]
            pending.append((int(u), int(v)))
            if len(pending) == self._block:
                self._bet(pending, own)
                pending.clear()
        return math.exp(min(self.log_wealth, 700.0))

    def _bet(self, pending: list[tuple[int, int]], own: _Counts) -> None:
        u_k, v_k = [u for u, _ in pending], [v for _, v in pending]
        for index, (local, prior, daring) in enumerate(_BETTORS):
            score_kk = (own if local else self._pooled).log_ratio(u_k, v_k, prior)
            log_p = daring * score_kk[np.arange(self._block), self._order_pk].sum(axis=1)
            mean = np.logaddexp.reduce(log_p) - math.log(log_p.size)
            self._log_wealth[index] += log_p[0] - mean
        self._log_peak = max(self._log_peak, self.log_wealth)
        # Only now: a bet must not know the assignment that it is about.
        for table in (self._pooled, own):
            for u, v in pending:
                table.add(u, v)

    def to_dict(self) -> dict[str, Any]:
        """The state, fit for JSON."""
        return {
            "format": _FORMAT,
            "block": self._block,
            "max_values": self._max_values,
            "max_strata": self._max_strata,
            "log_wealth": self._log_wealth.tolist(),
            "log_peak": self._log_peak,
            "pooled": self._pooled.triples(),
            "strata": [
                {
                    "z": z,
                    "pending": [list(pair) for pair in pending],
                    "counts": own.triples(),
                }
                for z, (pending, own) in self._strata.items()
            ],
        }

    @classmethod
    def from_dict(cls, state: Mapping[str, Any]) -> "EProcess":
        """Reads what `to_dict` wrote.

        Raises:
          UserError: not such a state.
        """
        fault = UserError("e_process state", "cannot be read", "keep what to_dict returned")
        try:
            found = cls(state["block"], state["max_values"], state["max_strata"])
            found._log_wealth = np.array(state["log_wealth"], float)
            found._log_peak = float(state["log_peak"])
            found._pooled.read(state["pooled"])
            for held in state["strata"]:
                own = _Counts(found._max_values)
                own.read(held["counts"])
                pending = [(int(u), int(v)) for u, v in held["pending"]]
                if len(pending) >= found._block:
                    raise fault
                found._strata[int(held["z"])] = (pending, own)
            sound = state["format"] == _FORMAT and found._log_wealth.shape == (
                len(_BETTORS),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise fault from error
        if not sound or not np.isfinite([*found._log_wealth, found._log_peak]).all():
            raise fault
        return found
