"""Which of many accounts to accuse: e-BH, whenever one looks.

With K accounts and e-values sorted downwards, the k highest are accused for the largest k
whose k-th e-value is at least K / (alpha k) (Wang and Ramdas, "False discovery rate control
with e-values", JRSS B 2022). Of those who stand accused the expected share of honest ones
is at most alpha at any time at which one stops to look, however accounts depend on each
other: a cluster and its accounts certainly do. K counts whoever was seen, tested or not.

Who was accused once stays on record; whether he still stands says the state now.
"""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from cifr_jax.errors import UserError


@dataclass(frozen=True)
class Alarm:
    """When an account was first accused.

    Attributes:
      account: number of the account or cluster.
      line: of the file, from 1.
      row: of the account's own exchanges, from 1, at which its e-value came to this.
      log_e: natural logarithm of its e-value then.
      log_bar: of the e-value that sufficed then.
      accounts: how many there were.
    """

    account: int
    line: int
    row: int
    log_e: float
    log_bar: float
    accounts: int


class Discoveries:
    """The accused.

    Args:
      alpha: false discovery rate.

    Raises:
      UserError: alpha outside (0, 1).
    """

    def __init__(self, alpha: float):
        if not 0 < alpha < 1:
            raise UserError("alpha", f"is {alpha}", "give a number between 0 and 1")
        self.alpha, self.accounts = alpha, 0
        self.alarms: dict[int, Alarm] = {}
        # Only these can be accused: even of one account K / (alpha k) is 1 / alpha or more.
        # With the row at which the e-value came to what it is.
        self._high: dict[int, tuple[float, int]] = {}

    def _accused(self) -> tuple[set[int], float]:
        order = sorted(self._high.items(), key=lambda pair: (-pair[1][0], pair[0]))
        for k in range(len(order), 0, -1):
            log_bar = math.log(self.accounts / (self.alpha * k))
            if order[k - 1][1][0] >= log_bar - 1e-12:
                return {account for account, _ in order[:k]}, log_bar
        return set(), math.inf

    def standing(self) -> set[int]:
        """Who stands accused now."""
        return self._accused()[0]

    def update(self, account: int, log_e: float, line: int, row: int) -> None:
        """Takes the e-value of an account after a row; `accounts` counts it already."""
        if log_e < -math.log(self.alpha) - 1e-12:
            self._high.pop(account, None)
            return
        if account in self._high and self._high[account][0] == log_e:
            return
        self._high[account] = (log_e, row)
        accused, log_bar = self._accused()
        for one in sorted(accused - self.alarms.keys()):
            own, at = self._high[one]
            self.alarms[one] = Alarm(one, line, at, own, log_bar, self.accounts)

    def to_dict(self) -> dict[str, Any]:
        """The state, fit for JSON."""
        return {
            "alpha": self.alpha,
            "accounts": self.accounts,
            "high": [[account, *held] for account, held in self._high.items()],
            "alarms": [asdict(alarm) for alarm in self.alarms.values()],
        }

    @classmethod
    def from_dict(cls, state: Mapping[str, Any]) -> "Discoveries":
        """Reads what `to_dict` wrote; raises UserError for anything else."""
        try:
            found = cls(float(state["alpha"]))
            found.accounts = int(state["accounts"])
            found._high = {
                int(n): (float(log_e), int(row)) for n, log_e, row in state["high"]
            }
            alarms = [Alarm(**one) for one in state["alarms"]]
            found.alarms = {alarm.account: alarm for alarm in alarms}
        except (KeyError, TypeError, ValueError) as error:
            raise UserError("alarms", "cannot be read", "give another --workdir") from error
        return found
