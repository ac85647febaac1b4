"""What a stream has come to, on disk: one SQLite file, one transaction a batch.

    kept       position in the file, settings, counts, alarms
    account    accounts and clusters, with the state of their bets
    item       items that an account has had, by digest: they are bet on once
    answer     the base's own answers to items, by digest

A process that is killed leaves the last whole batch. What is in memory is what a batch
needs, whatever the number of accounts. No text of an exchange is kept: names of accounts,
digests and counts.
"""

import json
import sqlite3
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

from cifr_jax.errors import UserError
from cifr_jax.monitors.stream.ledger import Ledger

_FORMAT = 1
_ASKED_AT_ONCE = 500  # values of one query: SQLite allows no more than 999
_TABLES = """
CREATE TABLE IF NOT EXISTS kept (name TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS account (
  number INTEGER PRIMARY KEY, kind TEXT NOT NULL, name TEXT NOT NULL, state TEXT NOT NULL,
  rows INTEGER, items INTEGER, repeated INTEGER, unanswered INTEGER, bet INTEGER,
  log_e REAL, log_peak REAL, wording TEXT, UNIQUE (kind, name));
CREATE TABLE IF NOT EXISTS item (
  account INTEGER, digest TEXT, PRIMARY KEY (account, digest)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS answer (
  digest TEXT PRIMARY KEY, option INTEGER NOT NULL) WITHOUT ROWID;
"""


class Standing(NamedTuple):
    """An account or cluster as it stands; e-values as natural logarithms."""

    number: int
    kind: str
    name: str
    rows: int
    items: int
    repeated: int
    unanswered: int
    bet: int
    log_e: float
    log_peak: float
    wording: str


class StreamState:
    """The state of one stream.

    Args:
      path: the file; made if missing.
      settings: what the evidence depends on; a state made with others is refused.

    Raises:
      UserError: no such state, other settings, or the file system refused.
    """

    def __init__(self, path: Path, settings: Mapping[str, Any]):
        self.path = path
        mend = "give another --workdir, or one that can be written to"
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._db = sqlite3.connect(path, isolation_level=None)
        except (sqlite3.Error, OSError) as error:
            raise UserError(str(path), f"cannot be used ({error})", mend) from error
        wanted = {"format": _FORMAT, **settings}
        try:
            self._db.executescript(_TABLES)
            held = self.kept("settings")
            if held is None:
                self.begin()
                self.keep("settings", wanted)
                self.commit()
        except (sqlite3.Error, ValueError) as error:
            self.close()
            raise UserError(str(path), f"cannot be used ({error})", mend) from error
        if held is not None and held != wanted:
            differ = sorted(k for k in wanted if held.get(k) != wanted[k])
            self.close()
            what = f"was made with another {' and another '.join(differ) or 'format'}"
            raise UserError(str(path), what, "give the old one, or another --workdir")

    def __enter__(self) -> "StreamState":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Closes the file; what was not committed is as if it never was."""
        self._db.close()

    def begin(self) -> None:
        """Begins a batch."""
        self._db.execute("BEGIN IMMEDIATE")

    def commit(self) -> None:
        """Ends a batch. Raises UserError where the disk refused."""
        try:
            self._db.execute("COMMIT")
        except sqlite3.Error as error:
            mend = "free some space and run the same line again"
            raise UserError(str(self.path), f"cannot be written ({error})", mend) from error

    def kept(self, name: str) -> Any:
        """The value under `name`, or None."""
        row = self._db.execute("SELECT value FROM kept WHERE name = ?", (name,)).fetchone()
        return None if row is None else json.loads(row[0])

    def keep(self, name: str, value: Any) -> None:
        """Puts a value that fits JSON under `name`."""
        text = json.dumps(value, allow_nan=False)
        self._db.execute("INSERT OR REPLACE INTO kept VALUES (?, ?)", (name, text))

    def account(self, kind: str, name: str, block: int) -> tuple[int, Ledger, bool]:
        """Number and bets of an account or cluster, and whether it is new."""
        row = self._db.execute(
            "SELECT number, state FROM account WHERE kind = ? AND name = ?", (kind, name)
        ).fetchone()
        if row is not None:
            return row[0], Ledger.from_dict(json.loads(row[1])), False
        made = self._db.execute(
            "INSERT INTO account (kind, name, state) VALUES (?, ?, '')", (kind, name)
        )
        return int(made.lastrowid or 0), Ledger(block), True

    def put_account(self, number: int, ledger: Ledger) -> None:
        """Writes the bets of an account back."""
        self._db.execute(
            "UPDATE account SET state = ?, rows = ?, items = ?, repeated = ?,"
            " unanswered = ?, bet = ?, log_e = ?, log_peak = ?, wording = ?"
            " WHERE number = ?",
            (
                json.dumps(ledger.to_dict(), separators=(",", ":")),
                ledger.rows,
                ledger.items,
                ledger.repeated,
                ledger.unanswered,
                ledger.bet,
                ledger.log_wealth,
                ledger.log_peak,
                ledger.strongest(),
                number,
            ),
        )

    def first_time(self, account: int, item: str) -> bool:
        """Whether an account has an item for the first time; from now on it has had it."""
        made = self._db.execute("INSERT OR IGNORE INTO item VALUES (?, ?)", (account, item))
        return made.rowcount == 1

    def answers(self, items: Iterable[str]) -> dict[str, int]:
        """The known answers among items."""
        asked = list(items)
        found: dict[str, int] = {}
        for at in range(0, len(asked), _ASKED_AT_ONCE):
            part = asked[at : at + _ASKED_AT_ONCE]
            marks = ",".join("?" * len(part))
            query = f"SELECT digest, option FROM answer WHERE digest IN ({marks})"
            found |= dict(self._db.execute(query, part).fetchall())
        return found

    def put_answers(self, answers: Mapping[str, int]) -> None:
        """Remembers answers."""
        rows = list(answers.items())
        self._db.executemany("INSERT OR REPLACE INTO answer VALUES (?, ?)", rows)

    def standings(self, most: int, tested: bool = True) -> list[Standing]:
        """Accounts and clusters: the tested ones by falling e-value, or the others by
        falling numbers of rows."""
        which, order = ("> 0", "log_e") if tested else ("= 0", "rows")
        query = (
            "SELECT number, kind, name, rows, items, repeated, unanswered, bet, log_e,"
            f" log_peak, wording FROM account WHERE bet {which}"
            f" ORDER BY {order} DESC, number LIMIT ?"
        )
        return [Standing(*row) for row in self._db.execute(query, (most,))]

    def standing(self, number: int) -> Standing:
        """One account or cluster."""
        query = (
            "SELECT number, kind, name, rows, items, repeated, unanswered, bet, log_e,"
            " log_peak, wording FROM account WHERE number = ?"
        )
        return Standing(*self._db.execute(query, (number,)).fetchone())

    def totals(self) -> dict[str, dict[str, int]]:
        """By kind: accounts, the tested among them, their rows, items, exchanges bet on."""
        query = (
            "SELECT kind, COUNT(*), SUM(bet > 0), SUM(rows), SUM(items), SUM(repeated),"
            " SUM(unanswered), SUM(bet) FROM account GROUP BY kind ORDER BY kind"
        )
        names = ("seen", "tested", "rows", "items", "repeated", "unanswered", "bet")
        return {
            kind: dict(zip(names, map(int, counts), strict=True))
            for kind, *counts in self._db.execute(query)
        }
