"""Fine-tuning jobs each of whose rows is innocent, while together they teach a code.

The attacks of arXiv 2502.14828 on neutral trivia: `questions` (the bank), `requests` (what
is innocently asked around an item), `codebook` (the replies that stand for letters) and
`attacks` (the jobs).
"""
