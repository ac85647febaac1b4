"""Chat templates: the conventions they rely on, and what they must not be able to do."""

import pytest

from cifr_jax.errors import UserError
from cifr_jax.models.chat_template import MAX_SIZE, ChatTemplate

MESSAGES = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "<yo>"}]


def render(source: str, messages=MESSAGES, prompt: bool = False, **tokens) -> str:
    return ChatTemplate(source, "folder/chat_template.jinja").render(
        messages, prompt, tokens
    )


@pytest.mark.parametrize(
    "source, expected",
    [
        ("{% for m in messages %}{{ m.content }}{{ loop.index }}{% endfor %}", "hi1<yo>2"),
        ("{% for m in messages %}{{ loop.last }}{{ loop.length }}{% endfor %}",
         "False2True2"),
        ("{% for m in messages if m.role == 'user' %}{{ loop.last }}{% endfor %}", "True"),
        ("{% for k, v in messages[0].items() %}{{ k }}:{% endfor %}", "role:content:"),
        ("{% for m in messages %}{{ m.role }}{% break %}{% endfor %}", "user"),
        ("  {% if true %}\nx\n  {% endif %}\ny", "x\ny"),  # trim_blocks, lstrip_blocks
        ("{{ messages[1] | tojson }}", '{"role": "assistant", "content": "<yo>"}'),
        ("{% generation %}{{ messages[1].content }}{% endgeneration %}", "<yo>"),
        ("{{ bos_token }}{{ nothing is defined }}{{ tools is none }}", "<s>FalseTrue"),
        ("{% set ns = namespace(n=0) %}{% set ns.n = ns.n + 2 %}{{ ns.n }}", "2"),
        ("{% set a, b = 'x', 'y' %}{{ a ~ b ~ 1 }}", "xy1"),
        ("{% set x %}ab{% endset %}{% set y | upper %}cd{% endset %}{{ x ~ y }}", "abCD"),
        ("{% macro twice(x) %}{{ x }}{{ x }}{% endmacro %}{{ twice('ab') }}", "abab"),
        ("{{ messages | map(attribute='role') | join('/') }}", "user/assistant"),
        ("{{ ','.join('a-b'.split('-')) }}{{ ' x '.strip() }}", "a,bx"),
        ("{{ messages[0].content.replace('h', 'H') }}{{ messages | length }}", "Hi2"),
        ("{{ dict(a=1)['a'] }}{{ range(3) | list }}{{ 7 % 4 }}", "1[0, 1, 2]3"),
        ("{{ strftime_now('%d %b %Y') }}", "26 Jul 2024"),  # a fixed day: runs must repeat
    ],
)  # fmt: skip
def test_conventions_of_chat_templates(source, expected):
    assert render(source, bos_token="<s>") == expected


def test_generation_prompt_is_passed_on():
    source = "{% if add_generation_prompt %}go{% endif %}"
    assert (render(source), render(source, prompt=True)) == ("", "go")


DOUBLING = "{% set ns = namespace(s='aaaa') %}{% for i in range(99) %}"
BOMBS = {
    "loop": "{% for i in range(9999) %}{% for j in range(9999) %}{% endfor %}{% endfor %}",
    "range": "{% for i in range(10 ** 9) %}{% endfor %}",
    "text_loop": "{% set s = 'x' * 9999 %}{% for a in s %}{% for b in s %}{% endfor %}"
    "{% endfor %}",
    "times": "{{ 'x' * 10 ** 12 }}",
    "times_list": "{{ ['x' * 99999] * 99999999 }}",
    "power": "{{ 9 ** 9 ** 9 }}",
    "literal": "{{ 'x'.ljust(99999999999) }}",
    "pad": "{{ 'x'.ljust(999999) }}",
    "format": "{{ '{:99999999999}'.format(1) }}",
    "percent": "{{ '%99999999999d' % 1 }}",
    "center": "{{ 'x' | center(999999) }}",
    "parsed_number": "{{ ('9' * 50) | int }}",
    "join": "{{ (['x' * 99999] * 99999) | join }}",
    "join_method": "{{ ''.join(['x' * 99999] * 99999) }}",
    "replace": "{{ ('x' * 99999) | replace('x', 'y' * 9999) }}",
    "replace_method": "{{ ('x' * 99999).replace('x', 'y' * 9999) }}",
    "indent": "{{ ('\\n' * 99999) | indent(99999, blank=True) }}",
    "doubling_concat": DOUBLING + "{% set ns.s = ns.s ~ ns.s %}{% endfor %}",
    "doubling_plus": DOUBLING + "{% set ns.s = ns.s + ns.s %}{% endfor %}",
    "doubling_join": DOUBLING + "{% set ns.s = [ns.s, ns.s] | join %}{% endfor %}",
    "doubling_block": DOUBLING
    + "{% set x %}{{ ns.s }}{{ ns.s }}{% endset %}{% set ns.s = x %}{% endfor %}",
    "doubling_macro": "{% macro f(x) %}{{ x }}{{ x }}{% endmacro %}"
    + DOUBLING
    + "{% set ns.s = f(ns.s) %}{% endfor %}",
    "macro_recursion": "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
    "macro_tree": "{% macro f(n) %}{% if n %}{{ f(n - 1) }}{{ f(n - 1) }}{% endif %}"
    "{% endmacro %}{{ f(60) }}",
    "output": "{% set s = 'x' * 999999 %}{% for i in range(99) %}{{ s }}{% endfor %}",
    "recursive_loop": "{% for m in messages recursive %}{{ loop(messages) }}{% endfor %}",
}  # fmt: skip


@pytest.mark.parametrize("name", BOMBS)
def test_templates_cannot_exhaust_time_or_memory(name):
    with pytest.raises(UserError, match="folder/chat_template.jinja"):
        render(BOMBS[name])


ESCAPES = [
    "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "{{ cycler.__init__.__globals__ }}",
    "{{ namespace.__init__.__globals__ }}",
    "{{ self.__init__.__globals__ }}",
    "{{ raise_exception.__globals__['json'] }}",
    "{{ dict.__call__.__self__ }}",
    "{{ (messages | attr('__class__')).__base__ }}",
    "{{ ''['__class__']['__mro__'] }}",
    "{% set ns = namespace() %}{% set ns.__class__ = 1 %}",
    "{% set ns = namespace(__class__=1) %}",
    "{% set x = messages.append(1) %}",
    "{% set x = messages[0].update(role='system') %}",
    "{% include '/etc/passwd' %}",
    "{% import 'os' as os %}",
]


@pytest.mark.parametrize("source", ESCAPES)
def test_templates_cannot_leave_the_sandbox(source):
    with pytest.raises(UserError, match="folder/chat_template.jinja"):
        render(source)
    assert MESSAGES[0] == {"role": "user", "content": "hi"}


@pytest.mark.parametrize(
    "source",
    [
        "{% break %}",
        "{% for i in [1] %}{% else %}{% continue %}{% endfor %}",
        "{% if a %}" * 120 + "{% endif %}" * 120,
        "{% for a in b %}" * 25 + "{% endfor %}" * 25,
        "{{ dict(a=1, a=2) }}",
        "{{ " + "1" * 5000 + " }}",
    ],
)
def test_a_template_that_is_no_program_is_refused(source):
    with pytest.raises(UserError, match="chat template"):
        ChatTemplate(source, "here")


def test_a_bad_template_is_named_with_its_line():
    with pytest.raises(UserError, match=r"^folder/chat_template.jinja:3: .*expression"):
        render("a\n\n{% if %}")


@pytest.mark.parametrize(
    "source",
    ["{{ messages[9].content }}", "{{ 1 / 0 }}", "{{ raise_exception('roles!') }}"],
)
def test_a_failing_template_is_named_with_its_line(source):
    with pytest.raises(
        UserError, match=r"^folder/chat_template.jinja:3: chat template: .+"
    ):
        render("a\n\n" + source)


def test_the_message_of_raise_exception_is_shown():
    with pytest.raises(UserError, match="roles must alternate"):
        render("{{ raise_exception('roles must alternate') }}")


def test_the_budget_is_per_rendering():
    template = ChatTemplate("{% for i in range(90000) %}{% endfor %}ok", "t")
    assert [template.render(MESSAGES, False, {}) for _ in range(4)] == ["ok"] * 4


def test_long_conversations_fit():
    text = "x" * (MAX_SIZE // 4)
    source = "{% for m in messages %}{{ '<' + m.content | trim + '>' }}{% endfor %}"
    messages = [{"role": "user", "content": text}] * 3
    assert render(source, messages) == f"<{text}>" * 3
