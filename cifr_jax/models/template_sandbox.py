"""The sandbox in which chat templates run, with budgets of work and size.

Jinja's immutable sandbox keeps a template away from the interpreter, but not from our
memory and time. Here every loop turn, call, comparison and written text is paid for by the
size of what it touches, in units of about one character handled: what a rendering may cost
is then bounded whatever the template does. Only the filters, methods and statements that
chat templates have a use for are left in.
"""

import functools
import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, cast

import jinja2
from jinja2 import nodes
from jinja2.ext import Extension
from jinja2.runtime import LoopContext, Macro
from jinja2.sandbox import ImmutableSandboxedEnvironment, SecurityError
from jinja2.utils import Namespace
from jinja2.visitor import NodeTransformer

MAX_STEPS = 200_000  # loop turns and calls in one rendering, if they do nothing else
MAX_WORK = 64_000_000  # units in one rendering
MAX_SECONDS = 20.0  # a net below the budget: no chat template takes a hundredth of it
MAX_SIZE = 4_000_000  # characters or items in any value, and in the rendering
MAX_NESTED = 8_000_000  # units in a value with all that it holds
MAX_DEPTH = 32  # lists in lists
MAX_NUMBER = 1_000_000  # integers that a template may compute
MAX_INDENT = 100  # columns
MAX_ARGUMENT = 100  # characters of a separator, an attribute, a set of characters
_STEP = MAX_WORK // MAX_STEPS
_ITEM = 32  # units of an item of a list: its place in memory and a look at it

# Filters that look at the items of a value, not into them.
_SHALLOW_FILTERS = frozenset(
    "count d default first items last length list map reject rejectattr reverse safe select"
    " selectattr".split()
)
_DEEP_FILTERS = frozenset(
    "abs attr capitalize dictsort e escape float indent int join lower max min"
    " replace sort string sum title tojson trim truncate unique upper".split()
)
# Where a long text costs more than it has characters: searches from the end and sets of
# characters take as long as text times argument, a separator stands between all items.
_SHORT_ARGUMENTS = frozenset(
    "join lstrip map max min rejectattr rfind rindex rpartition rsplit rstrip selectattr"
    " sort strip sum tojson trim unique".split()
)
# They make a list of a text's characters.
_CUTTING_FILTERS = frozenset("join list map max min reverse sort unique".split())
_COMPARING_TESTS = frozenset(
    "!= < <= == > >= eq equalto ge greaterthan gt in le lessthan lower lt ne upper".split()
)
# They pad to a width of the template's choice, or leave text.
_REFUSED_METHODS = frozenset("center encode expandtabs ljust rjust translate zfill".split())
_LINE_ENDS = "\n\r\v\f\x1c\x1d\x1e\x85\u2028\u2029"  # as str.splitlines has them
_REFUSED_STATEMENTS = (
    nodes.Block, nodes.Extends, nodes.Include, nodes.Import, nodes.FromImport,
    nodes.EvalContextModifier,
)  # fmt: skip
_LISTS: tuple[Any, ...] = (
    list, tuple, set, frozenset, type({}.keys()), type({}.values()), type({}.items())
)  # fmt: skip
_SIZED: tuple[Any, ...] = (str, bytes, dict, range, *_LISTS)


class _Budgeted(NodeTransformer):
    """Sends what can grow or take long through filters that charge for it."""

    def __init__(self):
        self._buffered = 0  # depth in blocks whose text is held before it is written

    def visit(self, node: nodes.Node) -> Any:
        if isinstance(node, _REFUSED_STATEMENTS):
            what = f"{type(node).__name__.lower()} is not allowed in a chat template"
            raise jinja2.TemplateSyntaxError(what, node.lineno)
        return super().visit(node)

    def visit_For(self, node: nodes.For) -> nodes.Node:
        if node.recursive:
            raise jinja2.TemplateSyntaxError("recursive loops are not allowed", node.lineno)
        node.iter = _filter(node.iter, "_counted")
        return self.generic_visit(node)

    def visit_Concat(self, node: nodes.Concat) -> nodes.Node:
        self.generic_visit(node)  # in place
        return _filter(nodes.List(node.nodes, lineno=node.lineno), "_joined")

    def visit_Compare(self, node: nodes.Compare) -> nodes.Node:
        self.generic_visit(node)
        node.expr = _filter(node.expr, "_weighed")
        for operand in node.ops:
            operand.expr = _filter(operand.expr, "_weighed")
        return node

    def visit_Pair(self, node: nodes.Pair) -> nodes.Node:
        node.key = _filter(node.key, "_key")
        return self.generic_visit(node)

    def visit_Getitem(self, node: nodes.Getitem) -> nodes.Node:
        self.generic_visit(node)
        return _filter(node, "_bounded") if isinstance(node.arg, nodes.Slice) else node

    def visit_Assign(self, node: nodes.Assign) -> nodes.Node:
        node.node = _filter(node.node, "_checked")
        return self.generic_visit(node)

    def visit_AssignBlock(self, node: nodes.Node) -> nodes.Node:
        self._buffered += 1
        self.generic_visit(node)
        self._buffered -= 1
        return node

    visit_Macro = visit_CallBlock = visit_FilterBlock = visit_AssignBlock

    def visit_Output(self, node: nodes.Output) -> nodes.Node:
        # What expressions write is charged by `finalize`, which template text passes by.
        if self._buffered:
            node.nodes = [
                _filter(nodes.Const(child.data, lineno=child.lineno), "_written")
                if isinstance(child, nodes.TemplateData)
                else child
                for child in node.nodes
            ]
        return self.generic_visit(node)


def _filter(node: nodes.Node, name: str) -> nodes.Filter:
    return nodes.Filter(node, name, [], [], None, None, lineno=node.lineno)


class _GenerationBlock(Extension):
    """`{% generation %}...{% endgeneration %}` marks the assistant's text; unused here."""

    tags = {"generation"}

    def parse(self, parser) -> list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


class SafeNamespace(Namespace):
    """A namespace whose attributes cannot be private: those lead to Python's internals."""

    def __init__(self, *args, **kwargs):
        for name in dict(*args, **kwargs):
            _refuse_private(name)
        super().__init__(*args, **kwargs)

    def __setitem__(self, name, value):
        _refuse_private(name)
        super().__setitem__(name, value)

    def __repr__(self) -> str:
        return "<namespace>"  # the attributes' own would be of any size


def _refuse_private(name: Any) -> None:
    if str(name).startswith("_"):
        raise SecurityError(f"access to {name!r} is unsafe")


class TemplateSandbox(ImmutableSandboxedEnvironment):
    """The Jinja environment of the Hugging Face convention, sandboxed and budgeted.

    Args:
      functions: what templates may call by name.

    Raises:
      SecurityError: while a template is compiled or run, what it must not do.
    """

    intercepted_binops = frozenset(["*", "**", "+", "%"])  # the others cannot grow a value

    def __init__(self, functions: Mapping[str, Callable]):
        super().__init__(
            trim_blocks=True,
            lstrip_blocks=True,
            extensions=["jinja2.ext.loopcontrols", _GenerationBlock],
        )
        self.start()
        self.filters["tojson"] = _to_json
        self.filters = {
            name: self._charging(name, cast(Callable, function))
            for name, function in self.filters.items()
            if name in _SHALLOW_FILTERS | _DEEP_FILTERS
        }
        self.filters |= {
            "_checked": self._checked,
            "_counted": self._counted,
            "_joined": self._joined,
            "_bounded": self._bounded,
            "_weighed": self._weighed,
            "_written": self._written(),
            "_key": _key,
        }
        self.tests = {
            name: self._charging(name, cast(Callable, function))
            if name in _COMPARING_TESTS
            else function
            for name, function in self.tests.items()
        }
        self.finalize = self._written()
        del self.globals["lipsum"]
        self.globals |= {
            "range": self._range,
            "dict": _make_dict,
            "namespace": SafeNamespace,
            **functions,
        }

    def start(self, size: int = 0) -> None:
        """Begins a rendering with the whole budget.

        Args:
          size: characters of all messages; of long chats more may be made.
        """
        self._most = min(MAX_WORK + 200 * size, 4 * MAX_WORK)
        self._work = self._next_check = self._inside = 0
        self._deadline = time.monotonic() + MAX_SECONDS

    def _spend(self, work: int) -> None:
        self._work += work
        if self._work >= self._next_check:
            if self._work > self._most:
                what = f"more work than that of {MAX_STEPS:,} loop turns and calls"
                raise SecurityError(what)
            if time.monotonic() > self._deadline:
                raise SecurityError(f"more than {MAX_SECONDS:g} seconds")
            self._next_check = min(self._work + 99 * _STEP, self._most + 1)

    def _weigh(self, value: Any, depth: int = 0) -> None:
        """Charges for a value with all that it holds."""
        if isinstance(value, str):
            return self._spend(len(value))
        if depth > MAX_DEPTH:
            raise SecurityError(f"lists nested deeper than {MAX_DEPTH}")
        self._spend(_ITEM * (1 + _length(value)))
        if isinstance(value, dict):
            for key, item in value.items():
                self._weigh(key, depth + 1)
                self._weigh(item, depth + 1)
        elif isinstance(value, _LISTS):
            for item in value:
                self._weigh(item, depth + 1)

    def _weighed(self, value: Any) -> Any:
        """The value, charged for with all that it holds."""
        if type(value) is str:  # nearly all are
            length = len(value)
            _check_size(length)
            self._spend(length)
            return value
        before = self._work
        self._weigh(_bounded(value))
        if self._work - before > MAX_NESTED:
            raise SecurityError(f"a value grows beyond {MAX_NESTED:,} in all that it holds")
        return self._spent(value) if _is_lazy(value) else value

    def _joined(self, parts: list) -> str:
        self._weighed(parts)
        texts = [str(part) for part in parts]
        _check_size(sum(map(len, texts)))
        return "".join(texts)

    def _checked(self, value: Any) -> Any:
        """The value to which a name is given: nothing is copied, its size is bounded."""
        value = _bounded(value)
        return self._spent(value) if _is_lazy(value) else value

    def _bounded(self, value: Any) -> Any:
        """The value, charged for its own length."""
        if type(value) is str:
            return self._weighed(value)
        self._spend(_ITEM * _length(_bounded(value)))
        return self._spent(value) if _is_lazy(value) else value

    def _written(self) -> Callable:
        # The context is asked for so that the compiler does not fold constants away.
        @jinja2.pass_context
        def written(_, value: Any) -> Any:
            return self._weighed(value)

        return written

    def _counted(self, items: Iterable) -> Iterable:
        # Sequences stay sequences, so that loop.last and loop.length keep their meaning.
        return (
            _CountedSequence(items, self._spent)
            if hasattr(items, "__len__")
            else self._spent(items)
        )

    def _spent(self, items: Iterable) -> Iterator:
        for item in items:
            self._spend(_STEP + (len(item) if isinstance(item, str) else 0))
            yield item

    def _range(self, *bounds) -> range:
        return range(*(_bounded(int(b)) for b in bounds))

    def _charging(self, name: str, function: Callable) -> Callable:
        """A filter or test that pays for its arguments before, for its result after."""
        take = self._bounded if name in _SHALLOW_FILTERS else self._weighed

        @functools.wraps(function)  # keeps the mark of filters that take the environment
        def charged(*args, **kwargs):
            self._spend(_STEP)
            passed = 1 if hasattr(function, "jinja_pass_arg") else 0
            head, (subject, *rest) = args[:passed], args[passed:]
            subject = take(subject)
            if isinstance(subject, str) and name in _CUTTING_FILTERS:
                self._spend(_ITEM * len(subject))
            if rest or kwargs:
                self._weighed([rest, kwargs])
            _check_growth(name, subject, rest, kwargs)
            self._inside += 1
            try:
                return self._bounded(function(*head, subject, *rest, **kwargs))
            finally:
                self._inside -= 1

        return charged

    def _parse(self, source, name, filename):
        tree = super()._parse(source, name, filename)
        for node in tree.find_all(nodes.Filter):
            if node.name.startswith("_"):  # those that are put in below
                what = f"No filter named {node.name!r}."
                raise jinja2.TemplateSyntaxError(what, node.lineno)
        tree = _Budgeted().visit(tree)
        for constant in tree.find_all(nodes.Const):
            _bounded(constant.value)
        return tree

    def is_safe_attribute(self, obj, attr, value):
        if isinstance(obj, str) and attr in _REFUSED_METHODS:
            return False
        return super().is_safe_attribute(obj, attr, value)

    def wrap_str_format(self, value):
        if super().wrap_str_format(value) is not None:
            raise SecurityError("string formatting is not allowed")
        return None

    def getitem(self, obj, argument):
        return self._looked_up(super().getitem(obj, _key(argument)))

    def getattr(self, obj, attribute):
        return self._looked_up(super().getattr(obj, attribute))

    def _looked_up(self, value: Any) -> Any:
        # Filters join, sort and compare what they find under an attribute.
        return self._weighed(value) if self._inside else value

    def call(self, context, obj, /, *args, **kwargs):
        self._spend(_STEP)
        # A macro gets what it is given; functions may go through all of it.
        take = self._checked if isinstance(obj, Macro) else self._weighed
        kwargs = {name: take(arg) for name, arg in kwargs.items()}
        args = tuple(take(arg) for arg in args)
        owner = getattr(obj, "__self__", None)
        if isinstance(owner, str | list | tuple):
            self._weighed(owner)
            _check_growth(obj.__name__, owner, args, kwargs)
        elif isinstance(owner, dict):
            self._bounded(owner)
        return self._bounded(super().call(context, obj, *args, **kwargs))

    def call_binop(self, context, operator, left, right):
        if operator == "*":
            for many, times in ((left, right), (right, left)):
                if hasattr(many, "__len__") and isinstance(times, int):
                    _check_size(len(many) * times)
        if operator == "**" and abs(right) > 64:
            raise SecurityError("a power grows too large")
        if operator == "%" and isinstance(left, str):
            raise SecurityError("string formatting is not allowed")
        return self._bounded(super().call_binop(context, operator, left, right))


class _CountedSequence:
    def __init__(self, items, spent: Callable[[Iterable], Iterator]):
        self._items, self._spent = items, spent

    def __len__(self) -> int:
        return len(self._items)

    def __iter__(self) -> Iterator:
        return self._spent(self._items)


def _is_lazy(value: Any) -> bool:
    # A loop's own variable steps too, but templates ask it for its place and no more.
    return isinstance(value, Iterator) and not isinstance(value, LoopContext)


def _length(value: Any) -> int:
    return len(value) if isinstance(value, _SIZED) else 0


def _check_size(size: int) -> None:
    if size > MAX_SIZE:
        raise SecurityError(f"a value grows beyond {MAX_SIZE:,}")


def _bounded(value: Any) -> Any:
    """The value itself, unless it is larger than any chat template needs."""
    if isinstance(value, int):
        if abs(value) > MAX_NUMBER:
            raise SecurityError(f"a number beyond {MAX_NUMBER:,}")
    else:
        _check_size(_length(value))
    return value


def _key(value: Any) -> Any:
    """A key of a mapping: looking up a nested one takes as long as it is large."""
    if isinstance(value, tuple | frozenset):
        raise SecurityError("a key that is no text or number")
    return value


def _check_growth(name: str, subject: Any, args: Sequence, kwargs: Mapping) -> None:
    """Refuses a filter or string method whose result could not even be held."""
    named = [*args, *kwargs.values()]
    texts = [*named, *(t for arg in named if isinstance(arg, tuple | list) for t in arg)]
    if name == "join" and isinstance(subject, str) and args:  # also the method, whose
        texts = [subject, *(arg for arg in texts if arg is not args[0])]  # text is between
    if name in _SHORT_ARGUMENTS and any(
        isinstance(text, str) and len(text) > MAX_ARGUMENT for text in texts
    ):
        raise SecurityError(f"an argument of {name} beyond {MAX_ARGUMENT} characters")
    if name == "replace" and len(named) >= 2:
        text, old, new = str(subject), str(named[0]), str(named[1])
        found = text.count(old)  # of no text: before, between and after the characters
        _check_size(len(text) + found * max(len(new) - len(old), 0))
    if name in ("indent", "tojson"):
        if any(_length(arg) > MAX_INDENT for arg in named) or any(
            arg > MAX_INDENT for arg in named if isinstance(arg, int)
        ):
            raise SecurityError("an indent grows too large")
        if name == "indent":
            lines = sum(map(str(subject).count, _LINE_ENDS))
            _check_size(len(str(subject)) + lines * MAX_INDENT)
        elif indent := kwargs.get("indent", args[1] if len(args) > 1 else 0):
            width = indent if isinstance(indent, int) else len(indent)
            _check_size(_lines(subject) * MAX_DEPTH * width)
    if name == "join":
        method = (
            isinstance(subject, str) and len(args) == 1 and not isinstance(args[0], str)
        )
        items, glue = (args[0], subject) if method else (subject, named[0] if named else "")
        if _length(items):
            _check_size(sum(len(str(item)) + len(str(glue)) for item in items))
    if name == "sum" and not all(isinstance(n, int | float | str | None) for n in named):
        raise SecurityError("only numbers are summed")


def _lines(value: Any) -> int:
    """Lines that the indented JSON of a value takes."""
    if not isinstance(value, dict | list | tuple):
        return 1
    return 2 + sum(map(_lines, value.values() if isinstance(value, dict) else value))


def _make_dict(*args, **kwargs) -> dict:
    return dict(*args, **kwargs)  # not the type itself, whose attributes are reachable


def _to_json(
    value, ensure_ascii=False, indent=None, separators=None, sort_keys=False
) -> str:
    # Jinja's own filter escapes HTML, which no model was trained on.
    return json.dumps(
        value, ensure_ascii=ensure_ascii, indent=indent, separators=separators,
        sort_keys=sort_keys,
    )  # fmt: skip
