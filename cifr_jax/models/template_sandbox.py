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
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, cast

import jinja2
from jinja2 import nodes
from jinja2.runtime import LoopContext, Macro
from jinja2.sandbox import ImmutableSandboxedEnvironment, SecurityError
from jinja2.utils import Namespace

from cifr_jax.models.template_limits import (
    LISTS,
    MAX_DEPTH,
    MAX_NESTED,
    bounded,
    check_growth,
    check_size,
    key,
    length,
)
from cifr_jax.models.template_rewriting import Budgeted, GenerationBlock

MAX_STEPS = 200_000  # loop turns and calls in one rendering, if they do nothing else
MAX_WORK = 64_000_000  # units in one rendering
MAX_SECONDS = 20.0  # a net below the budget: no chat template takes a hundredth of it
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
# They make a list of a text's characters.
_CUTTING_FILTERS = frozenset("join list map max min reverse sort unique".split())
_COMPARING_TESTS = frozenset(
    "!= < <= == > >= eq equalto ge greaterthan gt in le lessthan lower lt ne upper".split()
)
# They pad to a width of the template's choice, or leave text.
_REFUSED_METHODS = frozenset("center encode expandtabs ljust rjust translate zfill".split())


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
            extensions=["jinja2.ext.loopcontrols", GenerationBlock],
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
            "_key": key,
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
        self._spend(_ITEM * (1 + length(value)))
        if isinstance(value, dict):
            for key, item in value.items():
                self._weigh(key, depth + 1)
                self._weigh(item, depth + 1)
        elif isinstance(value, LISTS):
            for item in value:
                self._weigh(item, depth + 1)

    def _weighed(self, value: Any) -> Any:
        """The value, charged for with all that it holds."""
        if type(value) is str:  # nearly all are
            check_size(len(value))
            self._spend(len(value))
            return value
        before = self._work
        self._weigh(bounded(value))
        if self._work - before > MAX_NESTED:
            raise SecurityError(f"a value grows beyond {MAX_NESTED:,} in all that it holds")
        return self._handed_on(value)

    def _joined(self, parts: list) -> str:
        self._weighed(parts)
        texts = [str(part) for part in parts]
        check_size(sum(map(len, texts)))
        return "".join(texts)

    def _checked(self, value: Any) -> Any:
        """The value to which a name is given: nothing is copied, its size is bounded."""
        return self._handed_on(bounded(value))

    def _bounded(self, value: Any) -> Any:
        """The value, charged for its own length."""
        if type(value) is str:
            return self._weighed(value)
        self._spend(_ITEM * length(bounded(value)))
        return self._handed_on(value)

    def _handed_on(self, value: Any) -> Any:
        # A loop's own variable steps too, but templates ask it for its place and no more.
        lazy = isinstance(value, Iterator) and not isinstance(value, LoopContext)
        return self._spent(value) if lazy else value

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
        return range(*(bounded(int(b)) for b in bounds))

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
            check_growth(name, subject, rest, kwargs)
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
        tree = Budgeted().visit(tree)
        for constant in tree.find_all(nodes.Const):
            bounded(constant.value)
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
        return self._looked_up(super().getitem(obj, key(argument)))

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
            check_growth(obj.__name__, owner, args, kwargs)
        elif isinstance(owner, dict):
            self._bounded(owner)
        return self._bounded(super().call(context, obj, *args, **kwargs))

    def call_binop(self, context, operator, left, right):
        if operator == "*":
            for many, times in ((left, right), (right, left)):
                if hasattr(many, "__len__") and isinstance(times, int):
                    check_size(len(many) * times)
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
