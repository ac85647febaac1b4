"""Speed against what a user would pick instead: `python -m benchmarks.NAME`.

Ours and the peer run in turn in one process on the same threads. The last line printed is
one JSON object; `ratio` is ours over the peer's in the unit given. None is a test: figures
depend on the machine.
"""
