"""Code: every snippet compiles, and does what its docstring shows."""

import ast
import doctest

import pytest

from cifr_jax.data import recipes

ROWS = recipes.make("code", 1200, 11)


def snippet(row) -> str:
    answer = row.messages[1].content
    assert answer.startswith("```python\n") and answer.endswith("\n```")
    return answer.removeprefix("```python\n").removesuffix("\n```")


def failures(source: str, name: str) -> tuple[int, int]:
    """Examples of the function's docstring that fail, and how many there are."""
    namespace: dict = {}
    exec(compile(source, "<snippet>", "exec"), namespace)
    function = namespace[name]
    test = doctest.DocTestParser().get_doctest(
        function.__doc__, namespace, name, None, None
    )
    result = doctest.DocTestRunner(verbose=False).run(test, out=lambda _: None)
    return result.failed, result.attempted


def test_every_snippet_compiles_to_one_function_without_imports():
    for row in ROWS:
        (function,) = ast.parse(snippet(row)).body
        assert isinstance(function, ast.FunctionDef)
        assert function.name == row.meta["function"] and function.name.isidentifier()
        assert ast.get_docstring(function)
        assert function.returns is not None
        assert all(argument.annotation for argument in function.args.args)
        nodes = list(ast.walk(function))
        assert not any(isinstance(n, ast.Import | ast.ImportFrom) for n in nodes)


def test_every_example_in_a_docstring_holds():
    for row in ROWS:
        assert failures(snippet(row), row.meta["function"]) == (0, 1)


@pytest.mark.parametrize("fault", [(" > ", " <= "), ("return", "return None and")])
def test_a_wrong_body_would_have_been_found(fault):
    found = 0
    for row in ROWS[:200]:
        docstring_end = snippet(row).rindex('"""')
        head, body = snippet(row)[:docstring_end], snippet(row)[docstring_end:]
        if fault[0] in body:
            found += failures(head + body.replace(*fault), row.meta["function"])[0]
    assert found > 10


def test_the_request_names_the_function():
    for row in ROWS:
        assert row.meta["function"] in row.messages[0].content
