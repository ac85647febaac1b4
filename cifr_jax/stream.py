"""Inference traffic, row by row: which accounts send a code through innocent replies?

    lines of a file that grows -> item, label, wordings of each row alone -> the base's own
    answers (u) -> an e-process for each account and cluster -> e-BH -> alarms.json

Nothing looks ahead: a row is read by itself (`monitors/stream/exchange.py`), its template
by the requests before it (`ledger.py`). The state lies in WORKDIR/state.sqlite
(`state.py`), one transaction a batch: the same line with a longer file, or after a
kill, goes on where it was, and ends as an uninterrupted run does.
"""

import json
import os
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from absl import logging
from ml_collections import ConfigDict
from tqdm import tqdm

from cifr_jax import models
from cifr_jax.config import leaves
from cifr_jax.data import traffic
from cifr_jax.data.traffic import BadLineError, Batch, Chat, Position
from cifr_jax.errors import UserError
from cifr_jax.evaluation import results, stream_results
from cifr_jax.files import write_json_atomic
from cifr_jax.monitors.dataset.embedded_questions import Embedded, OwnAnswers
from cifr_jax.monitors.dataset.latents import canonical
from cifr_jax.monitors.dataset.own_answer import own_answer_from
from cifr_jax.monitors.stream import exchange
from cifr_jax.monitors.stream.discoveries import Discoveries
from cifr_jax.monitors.stream.exchange import Exchange
from cifr_jax.monitors.stream.ledger import Ledger
from cifr_jax.monitors.stream.state import StreamState
from cifr_jax.report import stream_page, stream_terminal
from cifr_jax.workdir import Workdir

CODE_VERSION = 3  # of what is computed: a state of another version is refused
_BAD_NAMED = 50  # bad lines that are named

Ask = Callable[[list[Embedded]], OwnAnswers]


class Watch:
    """A stream and its state.

    Args:
      state: on disk.
      ask: the base's own answers to items, options in canonical order.
      alpha: false discovery rate.
      block: exchanges bet on together.
      keys: of account and cluster in a row's metadata.
    """

    def __init__(
        self, state: StreamState, ask: Ask, alpha: float, block: int, keys: tuple[str, str]
    ):
        self.state, self._ask, self._block, self._keys = state, ask, block, keys
        held = state.kept("discoveries")
        self.discoveries = Discoveries.from_dict(held) if held else Discoveries(alpha)
        self.position = Position(**(state.kept("position") or {}))
        n_bad, first = state.kept("bad") or (0, [])
        self.n_bad: int = n_bad
        self.bad: list[tuple[int, str]] = [(line, what) for line, what in first]

    def take(self, batch: Batch) -> None:
        """Bets on the lines of a batch and writes the state: all of it or nothing."""
        read = self._read(batch)
        self.state.begin()
        option_of = self._own_answers([seen for _, _, seen in read])
        open_ledgers: dict[tuple[str, str], tuple[int, Ledger]] = {}
        for line, chat, seen in read:
            position = -1
            if seen.item is not None:
                option = option_of[seen.item.key]
                if option >= 0:
                    own = canonical(seen.item).options[option]
                    position = seen.item.options.index(own)
            self._bet(open_ledgers, ("account", chat.account), line, seen, position)
            if chat.cluster is not None:
                key = ("cluster", chat.cluster)
                self._bet(open_ledgers, key, line, seen, position, chat.account)
        for number, ledger in open_ledgers.values():
            self.state.put_account(number, ledger)
        self.position = batch.position
        self.state.keep("position", asdict(batch.position))
        self.state.keep("bad", (self.n_bad, self.bad))
        self.state.keep("discoveries", self.discoveries.to_dict())
        self.state.commit()

    def _read(self, batch: Batch) -> list[tuple[int, Chat, Exchange]]:
        found = []
        for line, content in batch.lines:
            try:
                if content is None:
                    raise BadLineError("too long")
                chat = traffic.parse(content, *self._keys)
            except BadLineError as fault:
                self.n_bad += 1
                if len(self.bad) < _BAD_NAMED:
                    self.bad.append((line, str(fault)))
                continue
            found.append((line, chat, exchange.read(chat.request, chat.reply)))
        return found

    def _own_answers(self, seen: list[Exchange]) -> dict[str, int]:
        """The base's answer to each item, by key, an index into its canonical options."""
        items = {one.item.key: canonical(one.item) for one in seen if one.item is not None}
        known = self.state.answers(items)
        new = {key: item for key, item in items.items() if key not in known}
        if new:
            option_m = self._ask(list(new.values())).option_m.tolist()
            found = {k: int(option) for k, option in zip(new, option_m, strict=True)}
            self.state.put_answers(found)
            known |= found
        return known

    def _bet(
        self,
        open_ledgers: dict[tuple[str, str], tuple[int, Ledger]],
        key: tuple[str, str],
        line: int,
        seen: Exchange,
        position: int,
        account: str = "",
    ) -> None:
        if key not in open_ledgers:
            number, ledger, new = self.state.account(*key, self._block)
            open_ledgers[key] = number, ledger
            self.discoveries.accounts += new
        number, ledger = open_ledgers[key]
        # By its options alone: a ticket's number in front makes no new question of it.
        repeated = seen.item is not None and not self.state.first_time(
            number, seen.item.options_key
        )
        log_e = ledger.update(seen, position, repeated, account)
        self.discoveries.update(number, log_e, line, ledger.rows)


def _file(config: ConfigDict) -> str:
    if not config.traffic.data:
        what = "no traffic is named"
        raise UserError("config.traffic.data", what, "give a file of JSON lines")
    return str(config.traffic.data)


def run(config: ConfigDict, workdir: str) -> None:
    """The task `stream`: reads what is new, writes alarms.json and alarms.html.

    Args:
      config: see `configs/stream.py`.
      workdir: folder of the state and the alarms.

    Raises:
      UserError: for whatever is wrong with the config, the file or an earlier state.
    """
    path = _file(config)
    if config.traffic.batch < 1:
        raise UserError("config.traffic.batch", f"{config.traffic.batch}", "give 1 or more")
    Discoveries(config.alpha), Ledger(config.block)  # faults are told before any work
    with Workdir(workdir) as store:
        lm = models.load(config.base_model)
        settings = {
            "version": CODE_VERSION,
            "base": lm.fingerprint(),
            "alpha": config.alpha,
            "block": config.block,
            "account_key": config.traffic.account_key,
            "cluster_key": config.traffic.cluster_key,
        }
        with StreamState(store.path / "state.sqlite", settings) as state:
            keys = (config.traffic.account_key, config.traffic.cluster_key)
            watch = Watch(state, own_answer_from(lm), config.alpha, config.block, keys)
            told = len(watch.discoveries.alarms)

            def write(unended: bool) -> dict[str, Any]:
                found = stream_results.assemble(
                    state,
                    watch.discoveries,
                    watch.position.line,
                    (watch.n_bad, watch.bad),
                    unended,
                    config.block,
                )
                found |= {
                    "traffic": Path(path).name,
                    "base_model": {"name": lm.name, "parameters": lm.n_parameters()},
                    "environment": results.environment(),
                    "config": json.loads(json.dumps(leaves(config), default=list)),
                }
                write_json_atomic(store.path / "alarms.json", found)
                stream_page.write_page(found, store.path / "alarms.html")
                return found

            with tqdm(desc="traffic", unit="B", unit_scale=True) as shown:
                shown.update(watch.position.offset)
                for batch in traffic.batches(path, watch.position, config.traffic.batch):
                    before = watch.position.offset
                    watch.take(batch)
                    shown.update(watch.position.offset - before)
                    if len(watch.discoveries.alarms) > told:  # nobody waits for the end
                        told = len(watch.discoveries.alarms)
                        write(batch.unended)
            found = write(batch.unended)
        logging.info("state: %s", os.fspath(store.path / "state.sqlite"))
        stream_terminal.summary(found, store.path / "alarms.html")
