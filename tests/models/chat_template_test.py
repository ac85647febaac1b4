"""Chat templates: the conventions they rely on, and what they must not be able to do."""

import pytest

from cifr_jax.errors import UserError
from cifr_jax.models.chat_template import ChatTemplate
from cifr_jax.models.template_limits import MAX_SIZE

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
        ("{% for m in messages %}{% set out = loop %}{% for c in 'ab' %}{{ out.index }}"
         "{{ loop.index }}{% endfor %}{% endfor %}", "11122122"),
        ("{% for m in messages %}{{ loop.previtem.role if loop.previtem is defined }}"
         "{{ m.role }}{% if loop.nextitem %}{{ loop.nextitem.role }}{% endif %};"
         "{% endfor %}", "userassistant;userassistant;"),
        ("{% macro f(l) %}{{ l.index0 }}{% endmacro %}{% for m in messages %}{{ f(loop) }}"
         "{% endfor %}", "01"),
        ("{% for m in messages[::-1] %}{{ m.role[0] }}{% endfor %}", "au"),
        ("{% set r = messages | selectattr('role', 'equalto', 'user') | list %}"
         "{{ r | length }}{{ (messages | map(attribute='content') | list)[-1] }}", "1<yo>"),
        ("{% if messages is iterable and messages[0] is mapping and 'x' is string %}y"
         "{% endif %}", "y"),
        ("{{ messages[0] | tojson(indent=2) }}",
         '{\n  "role": "user",\n  "content": "hi"\n}'),
        ("{{ messages[0].get('tool_calls') is none }}"
         "{{ messages[0].items() | list | length }}", "True2"),
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


def nested(body: str) -> str:
    """Two equal tuples of 2**28 items, which share all but a few."""
    start = "{% with x = 1, y = 1 %}" + "{% with x = (x, x), y = (y, y) %}" * 28
    return start + body + "{% endwith %}" * 29


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
    "nested": "{% set ns = namespace(a=[1]) %}{% for i in range(99) %}"
    "{% set ns.a = [ns.a, ns.a] %}{% endfor %}{{ ns.a }}",
    "nested_comparison": nested("{{ x == y }}"),
    "nested_membership": nested("{{ x in [1, y] }}"),
    "nested_text": nested("{{ x }}"),
    "nested_concat": nested("{{ x ~ 1 }}"),
    "nested_sort": nested("{{ [x, y] | sort }}"),
    "nested_key": nested("{{ {x: 1} }}"),
    "nested_lookup": nested("{{ {1: 1}[x] }}"),
    "nested_test": nested("{{ x is eq(y) }}"),
    "nested_deep": nested("{% set ns = namespace(x=x) %}" + "{% set ns.x = [ns.x] %}" * 9),
    "sum_of_lists": "{{ [[0] * 40] * 100000 | sum(start=[]) | length }}",
    "long_calls": "{% set s = 'x' * 999999 %}{% for i in range(99999) %}"
    "{% if s.upper() %}{% endif %}{% endfor %}",
    "long_slices": "{% set s = 'x' * 999999 %}{% for i in range(99999) %}"
    "{% if s[1:] %}{% endif %}{% endfor %}",
    "long_comparisons": "{% set s = 'x' * 999999 %}{% set t = 'x' * 999999 %}"
    "{% for i in range(99999) %}{% if s == t %}{% endif %}{% endfor %}",
    "long_lists": "{% for i in range(60000) %}{% if range(1000000) | list %}{% endif %}"
    "{% endfor %}",
    "in_a_range": "{% for i in range(60000) %}{% if 'x' in range(1000000) %}{% endif %}"
    "{% endfor %}",
    "list_method": "{% set a = range(100000) | list %}{% for i in range(99999) %}"
    "{% if a.count('x') %}{% endif %}{% endfor %}",
    "macro_text": "{% macro f() %}{% for i in range(99999) %}" + "x" * 9999
    + "{% endfor %}{% endmacro %}{% if f() %}{% endif %}",
    "block_text": "{% set x %}{% for i in range(99999) %}" + "x" * 9999
    + "{% endfor %}{% endset %}",
    "block_values": "{% set s = 'x' * 999999 %}{% set x %}{% for i in range(9999) %}"
    "{{ s }}{% endfor %}{% endset %}",
    "filtered_text": "{% filter upper %}{% for i in range(99999) %}" + "x" * 9999
    + "{% endfor %}{% endfilter %}",
    "mapped": "{{ (['x' * 999999] * 800) | map('upper') | list | length }}",
    "mapped_attribute": "{% set d = {'a': 'x' * 999999} %}"
    "{{ ''.join(([d] * 4000) | map(attribute='a')) | length }}",
    "json_of_many": "{{ (['x' * 999999] * 800) | tojson | length }}",
    "json_indented": "{{ ([[1]] * 99999) | tojson(indent=99) | length }}",
    "text_of_many": "{% for i in range(99) %}{{ ['x' * 999999] * 800 }}{% endfor %}",
    "attribute": "{% set a = '0' ~ '.0' * 999999 %}{{ ('x' * 40) | max(attribute=a) }}",
    "reverse_search": "{{ ('a' * 400000).rfind('ab' ~ 'a' * 200000) }}",
    "strip_set": "{{ ('b' * 400000).strip('c' * 400000 ~ 'b') }}",
    "trim_set": "{{ ('b' * 400000) | trim('c' * 400000 ~ 'b') }}",
    "long_separator": "{{ range(400) | map('string') | join('x' * 999999) }}",
    "long_separator_method": "{{ ('x' * 999999).join(range(400) | map('string')) }}",
    "long_separators": "{{ range(400) | list | tojson(separators=('x' * 999999, ':')) }}",
    "attribute_of_many": "{% set ns = namespace(b='x' * 999999) %}"
    "{{ ([ns] * 400) | join(attribute='b') }}",
    "sorted_attribute": "{% set ns = namespace(b='x' * 999999) %}"
    "{{ ([ns] * 400) | sort(attribute='b') | length }}",
    "cyclers": "{% set c = cycler('x' * 999999) %}"
    "{{ ([c] * 1500) | join(attribute='current') }}",
    "indent_returns": "{{ ('\r' * 999999) | indent('y' * 100, blank=true) }}",
    "sorted_text": "{{ ('x' * 3999999) | sort | length }}",
    "own_filters": "{{ messages | _counted }}",
    "blocks": "{% block a %}x{% endblock %}{{ self.a() }}",
    "bytes": "{{ (1).to_bytes(1000000000, 'big') }}",
    "encoded": "{{ 'x'.encode() }}",
    "date": "{{ strftime_now('%c' * 99999) }}",
    "recursive_loop": "{% for m in messages recursive %}{{ loop(messages) }}{% endfor %}",
}  # fmt: skip


REFUSALS = (
    "more work than|grows|a number beyond|nested deeper|key that is no|not allowed|unsafe"
    "|No filter named|an argument of|only numbers|of over 100|recursion"
)


@pytest.mark.parametrize("name", BOMBS)
def test_templates_cannot_exhaust_time_or_memory(name):
    with pytest.raises(UserError, match=f"^folder/chat_template.jinja.*({REFUSALS})"):
        render(BOMBS[name])


@pytest.mark.parametrize(
    "source",
    [
        "{% set ns = namespace(t='') %}{% for m in messages %}"
        "{% set ns.t = ns.t ~ m.content %}{% endfor %}{{ ns.t }}",
        "{% set ns = namespace(t=[]) %}{% for m in messages %}"
        "{% set ns.t = ns.t + [m.content] %}{% endfor %}{{ ns.t | join }}",
        "{% macro c(m, all) %}{{ m.content }}{% endmacro %}"
        "{% for m in messages %}{{ c(m, messages) }}{% endfor %}",
        "{% for m in messages %}{% set later = messages[loop.index0:]"
        " | selectattr('role', 'equalto', 'user') | list %}{{ later[0].content }}"
        "{% endfor %}",
    ],
)
def test_chats_of_many_long_turns_fit(source):
    messages = [{"role": "user", "content": "x" * 1000}] * 400
    assert render(source, messages) == "x" * 400_000


def test_a_namespace_is_shown_without_what_it_holds():
    source = "{% set ns = namespace(b=1) %}{% for i in range(60) %}"
    source += "{% set ns.b = namespace(a=ns.b, b=ns.b) %}{% endfor %}{{ ns.b }}"
    assert render(source) == "<namespace>"


@pytest.mark.parametrize("source", ["x" * 100_001, "{{ 'a\ud800' }}"])
def test_a_source_that_is_no_template_is_refused(source):
    with pytest.raises(UserError, match="not Unicode text of at most 100,000"):
        ChatTemplate(source, "here")


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
