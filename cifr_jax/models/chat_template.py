"""Chat templates: Jinja from a model folder, run as the untrusted code that it is.

The environment follows the Hugging Face convention for chat templates (`trim_blocks`,
`lstrip_blocks`, loop controls, `raise_exception`, `tojson`, `strftime_now`, the
`generation` block), inside Jinja's immutable sandbox. The sandbox keeps a template away
from the interpreter but not from our memory and time, so loops, calls and the sizes of
intermediate values are budgeted here.
"""

import datetime
import functools
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import jinja2
from jinja2 import nodes
from jinja2.ext import Extension
from jinja2.sandbox import ImmutableSandboxedEnvironment, SecurityError
from jinja2.utils import Namespace
from jinja2.visitor import NodeTransformer

from cifr_jax.errors import UserError

MAX_STEPS = 200_000  # loop turns and calls in one rendering
MAX_SIZE = 4_000_000  # characters or items in any value, and in the rendering
MAX_NUMBER = 1_000_000  # integers that a template may compute
# Templates may ask for today's date; a benchmark that reads the clock is not repeatable.
TEMPLATE_DATE = datetime.datetime(2024, 7, 26)
# They pad to a width of the template's choice, or format; no chat template needs them.
_LAYOUT_FILTERS = ("center", "wordwrap", "format", "batch", "slice", "xmlattr", "urlize")
_LAYOUT_METHODS = ("expandtabs", "translate", "center", "ljust",
                   "rjust", "zfill")  # fmt: skip


class _Budgeted(NodeTransformer):
    """Sends loops, joins and assignments through filters that count and bound them."""

    def visit_For(self, node: nodes.For) -> nodes.Node:
        if node.recursive:
            raise jinja2.TemplateSyntaxError("recursive loops are not allowed", node.lineno)
        node.iter = _filter(node.iter, "_counted")
        return self.generic_visit(node)

    def visit_Concat(self, node: nodes.Concat) -> nodes.Node:
        self.generic_visit(node)  # in place
        return _filter(nodes.List(node.nodes, lineno=node.lineno), "_joined")

    def visit_Assign(self, node: nodes.Assign) -> nodes.Node:
        node.node = _filter(node.node, "_bounded")
        return self.generic_visit(node)

    def visit_AssignBlock(self, node: nodes.AssignBlock) -> nodes.Node:
        self.generic_visit(node)
        if node.filter is None:
            node.filter = nodes.Filter(None, "_bounded", [], [], None, None)
        return node


def _filter(node: nodes.Node, name: str) -> nodes.Filter:
    return nodes.Filter(node, name, [], [], None, None, lineno=node.lineno)


class _GenerationBlock(Extension):
    """`{% generation %}...{% endgeneration %}` marks the assistant's text; unused here."""

    tags = {"generation"}

    def parse(self, parser) -> list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


class _SafeNamespace(Namespace):
    """A namespace whose attributes cannot be private: those lead to Python's internals."""

    def __init__(self, *args, **kwargs):
        for name in dict(*args, **kwargs):
            _refuse_private(name)
        super().__init__(*args, **kwargs)

    def __setitem__(self, name, value):
        _refuse_private(name)
        super().__setitem__(name, value)


def _refuse_private(name: Any) -> None:
    if str(name).startswith("_"):
        raise SecurityError(f"access to {name!r} is unsafe")


def _raise_exception(message: str):
    raise jinja2.TemplateError(str(message))


def _make_dict(*args, **kwargs) -> dict:
    return dict(*args, **kwargs)  # not the type itself, whose attributes are reachable


class _Sandbox(ImmutableSandboxedEnvironment):
    intercepted_binops = frozenset(["*", "**", "+", "%"])  # the others cannot grow a value

    def __init__(self):
        super().__init__(
            trim_blocks=True,
            lstrip_blocks=True,
            extensions=["jinja2.ext.loopcontrols", _GenerationBlock],
        )
        self.steps = 0
        for name in _LAYOUT_FILTERS:
            del self.filters[name]
        self.filters["tojson"] = _to_json
        self.filters = {name: self._bounding(name, f) for name, f in self.filters.items()}
        self.filters |= {
            "_counted": self._counted,
            "_joined": _joined,
            "_bounded": _bounded,
        }
        del self.globals["lipsum"]
        self.globals |= {
            "range": lambda *bounds: range(*(_bounded(int(b)) for b in bounds)),
            "dict": _make_dict,
            "namespace": _SafeNamespace,
            "raise_exception": _raise_exception,
            "strftime_now": lambda form: TEMPLATE_DATE.strftime(str(form)),
        }

    def _parse(self, source, name, filename):
        tree = _Budgeted().visit(super()._parse(source, name, filename))
        for constant in tree.find_all(nodes.Const):
            _bounded(constant.value)
        return tree

    def is_safe_attribute(self, obj, attr, value):
        if isinstance(obj, str) and attr in _LAYOUT_METHODS:
            return False
        return super().is_safe_attribute(obj, attr, value)

    def wrap_str_format(self, value):
        if super().wrap_str_format(value) is not None:
            raise SecurityError("string formatting is not allowed")
        return None

    def spend(self) -> None:
        self.steps += 1
        if self.steps > MAX_STEPS:
            raise SecurityError(f"more than {MAX_STEPS:,} loop turns and calls")

    def _counted(self, items: Iterable) -> Iterable:
        # Sequences stay sequences, so that loop.last and loop.length keep their meaning.
        return (
            _CountedSequence(items, self)
            if hasattr(items, "__len__")
            else (self.spent(items))
        )

    def spent(self, items: Iterable) -> Iterator:
        for item in items:
            self.spend()
            yield item

    def _bounding(self, name: str, function: Callable) -> Callable:
        """A filter that checks its arguments before, and its result after."""

        @functools.wraps(function)  # keeps the mark of filters that take the environment
        def bounded(*args, **kwargs):
            self.spend()
            passed = args[1:] if hasattr(function, "jinja_pass_arg") else args
            _check_growth(name, passed[0], passed[1:], kwargs)
            return _bounded(function(*args, **kwargs))

        return bounded

    def call(self, context, obj, *args, **kwargs):
        self.spend()
        if isinstance(owner := getattr(obj, "__self__", None), str):
            _check_growth(obj.__name__, owner, args, kwargs)
        return _bounded(super().call(context, obj, *args, **kwargs))

    def call_binop(self, context, operator, left, right):
        if operator == "*":
            for many, times in ((left, right), (right, left)):
                if hasattr(many, "__len__") and isinstance(times, int):
                    _check_size(len(many) * times)
        if operator == "**" and abs(right) > 64:
            raise SecurityError("a power grows too large")
        if operator == "%" and isinstance(left, str):
            raise SecurityError("string formatting is not allowed")
        return _bounded(super().call_binop(context, operator, left, right))


class _CountedSequence:
    def __init__(self, items, sandbox: _Sandbox):
        self._items, self._sandbox = items, sandbox

    def __len__(self) -> int:
        return len(self._items)

    def __iter__(self) -> Iterator:
        return self._sandbox.spent(self._items)


def _check_size(size: int) -> None:
    if size > MAX_SIZE:
        raise SecurityError(f"a value grows beyond {MAX_SIZE:,}")


def _bounded(value: Any) -> Any:
    """The value itself, unless it is larger than any chat template needs."""
    if isinstance(value, int) and abs(value) > MAX_NUMBER:
        raise SecurityError(f"a number beyond {MAX_NUMBER:,}")
    if isinstance(value, str | list | tuple):
        _check_size(len(value))
    return value


def _check_growth(name: str, subject: Any, args: Sequence, kwargs: Mapping) -> None:
    """Refuses a filter or string method whose result could not even be held."""
    for arg in (*args, *kwargs.values()):
        _bounded(arg)
    if name == "replace" and len(args) >= 2:
        _check_size((len(str(subject)) + 1) * (len(str(args[1])) + 1))
    if name in ("indent", "tojson"):
        widths = [arg for arg in (*args, *kwargs.values()) if isinstance(arg, int)]
        if max(widths, default=0) > 100:
            raise SecurityError("an indent grows too large")
    if name == "join":
        method = (
            isinstance(subject, str) and len(args) == 1 and not isinstance(args[0], str)
        )
        items, glue = (args[0], subject) if method else (subject, args[0] if args else "")
        if hasattr(items, "__len__"):
            _check_size(sum(len(str(item)) + len(str(glue)) for item in items))


def _joined(parts: list) -> str:
    texts = [str(part) for part in parts]
    _check_size(sum(map(len, texts)))
    return "".join(texts)


def _to_json(
    value, ensure_ascii=False, indent=None, separators=None, sort_keys=False
) -> str:
    # Jinja's own filter escapes HTML, which no model was trained on.
    return json.dumps(
        value, ensure_ascii=ensure_ascii, indent=indent, separators=separators,
        sort_keys=sort_keys,
    )  # fmt: skip


class ChatTemplate:
    """A compiled chat template.

    Args:
      source: the Jinja text.
      where: the file that it comes from, for messages.

    Raises:
      UserError: the template does not parse, with its line.
    """

    def __init__(self, source: str, where: str):
        self.source, self.where = source, where
        self._sandbox = _Sandbox()
        try:
            self._template = self._sandbox.from_string(source)
        except jinja2.TemplateSyntaxError as e:
            raise UserError(
                f"{where}:{e.lineno}", f"chat template: {e.message}", "correct the template"
            ) from e
        # What Jinja makes of it may be no program: a stray break, deep nesting.
        except Exception as e:
            raise UserError(where, f"chat template: {e}", "simplify the template") from e

    def render(
        self,
        messages: Sequence[Mapping[str, Any]],
        add_generation_prompt: bool,
        special_tokens: Mapping[str, str],
    ) -> str:
        """The conversation as one text.

        Args:
          messages: dicts with role and content.
          add_generation_prompt: end with the opening of an assistant turn.
          special_tokens: `bos_token`, `eos_token`, ... as the template names them.

        Raises:
          UserError: the template refuses the messages (`raise_exception`), fails, reaches
            outside the sandbox, or exceeds its budget; with the template's line.
        """
        self._sandbox.steps = 0
        parts, size = [], 0
        try:
            for part in self._template.generate(
                messages=[dict(m) for m in messages],
                add_generation_prompt=add_generation_prompt,
                tools=None,
                documents=None,
                **special_tokens,
            ):
                parts.append(part)
                size += len(part)
                if size > MAX_SIZE:
                    raise SecurityError("the rendering grows too large")
        except Exception as e:  # the template is foreign code: any exception is its fault
            line = _template_line(e)
            raise UserError(
                f"{self.where}:{line}" if line else self.where,
                f"chat template: {str(e) or type(e).__name__}",
                "use messages that the template accepts, or correct the template",
            ) from e
        return "".join(parts)


def _template_line(error: BaseException) -> int | None:
    """Line of the template that raised: Jinja rewrites tracebacks to template lines."""
    line, trace = None, error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == "<template>":
            line = trace.tb_lineno
        trace = trace.tb_next
    return line
