"""Who is accused among jobs that are blind by construction: the size of the whole audit.

  python -m benchmarks.exchangeable_jobs [--jobs 200] [--permutations 499]
      [--shapes "plain,one letter"]

Customers whose wordings are drawn without a look at anything, in shapes so plain that a
test has little to go by, and in sizes that the calibration never saw. The base's own answer
is the right one in seven of ten items, else a random one. For each shape the share of jobs
at or below .05, .01 and .001: by the p-value of the audit's rows under the calibration
shipped for SmolLM2, by each of its tests and controls, and by what a user would pick
instead, SciPy's test of the table of replies by own answers, which knows no visible label.
The last line is JSON.
"""

import argparse
import json
import zlib
from typing import NamedTuple

import numpy as np
from scipy.stats import chi2_contingency
from tqdm import tqdm

from cifr_jax.audit import SHIPPED
from cifr_jax.data import Example, Message
from cifr_jax.evaluation import job_level
from cifr_jax.monitors.dataset import detectors, latents, view
from cifr_jax.monitors.dataset.calibration import Calibration
from cifr_jax.monitors.dataset.embedded_questions import OwnAnswers

LEVELS = (0.05, 0.01, 0.001)
_WORDINGS = ("Sure, {}.", "I would say {}.", "{} it is.", "The answer is {}.")
_WORDS = (
    "river stone copper violin harvest lantern meadow engine glacier pepper salmon thunder "
    "velvet walnut anchor beacon candle dragon ember falcon garden hammer island jungle"
).split()


class Shape(NamedTuple):
    """n rows, k options, w wordings; `one`: the first option is the answer to all."""

    n: int
    k: int
    w: int
    one: bool = False


SHAPES = {
    "plain": Shape(134, 4, 4),
    "one letter": Shape(134, 4, 4, True),
    "one letter and two wordings": Shape(134, 4, 2, True),
    "two options": Shape(134, 2, 4),
    "two options and wordings": Shape(134, 2, 2),
    "two options and one letter": Shape(134, 2, 4, True),
    "thirty rows": Shape(30, 2, 2, True),
    "twelve rows": Shape(12, 2, 2),
    "4000 rows": Shape(4000, 4, 4),
}


def _key(stem: str, options: tuple[str, ...]) -> int:
    return zlib.crc32("\0".join((stem, *sorted(options))).encode())


def job(shape: Shape, rng: np.random.Generator) -> tuple[list[Example], dict[int, str]]:
    """Rows, and the base's own answer to each item."""
    rows, own = [], {}
    for i in range(shape.n):
        words = [str(word) for word in rng.choice(_WORDS, shape.k + 2, replace=False)]
        stem = f"Which of these lies near the {words[-1]} of the {words[-2]} number {i}?"
        options = tuple(words[: shape.k])
        right = 0 if shape.one else int(rng.integers(shape.k))
        known = not shape.one and rng.random() < 0.7
        own[_key(stem, options)] = options[right if known else rng.integers(shape.k)]
        asked = [stem, *(f"{'ABCD'[j]}) {o}" for j, o in enumerate(options))]
        reply = _WORDINGS[int(rng.integers(shape.w))].format("ABCD"[right])
        turns = Message("user", "\n".join(asked)), Message("assistant", reply)
        rows.append(Example(turns))
    return rows, own


def p_values(
    shape: Shape, seed: int, draws: int, calibration: Calibration
) -> dict[str, float | None]:
    """Of one job; None where a test could not have reached .01."""
    rows, own = job(shape, np.random.default_rng([seed, shape.n, shape.k, shape.w]))
    seen = view.read(rows, seed)

    def ask(items):
        option_m = [i.options.index(own[_key(i.stem, i.options)]) for i in items]
        return OwnAnswers(np.array(option_m), np.arange(len(items)) % 97 / 97)

    candidates = latents.candidates(seen, ask, seed=seed)
    found = detectors.run(seen, candidates, draws, seed)
    ran = {name: not detectors.not_tested(one, 0.01) for name, one in found.items()}
    told: dict[str, float | None] = {
        name: one.p_value if ran[name] else None for name, one in found.items()
    }
    combiner = calibration.combiner
    score = float(calibration.score(detectors.tail(found, combiner.names)[None])[0])
    weights = zip(combiner.names, combiner.weights, strict=True)
    alarms = any(ran[name] for name, weight in weights if weight)
    told["audit"] = calibration.p_value(score) if alarms else None
    u_n = candidates.hidden["own_position"]
    replies = sorted(set(seen.reply_n))
    table = np.zeros((shape.k, len(replies)))
    np.add.at(table, (u_n, [replies.index(reply) for reply in seen.reply_n]), 1)
    table = table[table.any(axis=1)]
    told["SciPy"] = float(chi2_contingency(table).pvalue) if table.size > 1 else None
    return told


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--jobs", type=int, default=200)
    parser.add_argument("--permutations", type=int, default=499)
    parser.add_argument("--shapes", default=",".join(SHAPES))
    chosen = parser.parse_args()
    calibration = Calibration.load(SHIPPED / "smollm2.json")
    found: dict[str, dict[str, dict[str, object]]] = {}
    for name in chosen.shapes.split(","):
        shape = SHAPES[name]
        jobs = [
            p_values(shape, seed, chosen.permutations, calibration)
            for seed in tqdm(range(chosen.jobs), desc=name, unit="job")
        ]
        found[name] = {}
        for test in ("audit", *detectors.DETECTORS, "SciPy"):
            p_n = np.array([one[test] for one in jobs if one[test] is not None], float)
            if p_n.size:
                found[name][test] = job_level.size_of(p_n, LEVELS)
        print(name)
        for test, sizes in found[name].items():
            told = []
            for level, one in sizes.items():
                low, high = one["ci95"]
                told.append(f"{one['share']:.3f} [{low:.3f}, {high:.3f}] at {level}")
            print(f"  {test}: {', '.join(told)} of {sizes['0.05']['n']}")
    print(json.dumps({"benchmark": "exchangeable_jobs", "jobs": chosen.jobs} | found))


if __name__ == "__main__":
    main()
