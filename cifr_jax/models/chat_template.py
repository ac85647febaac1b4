"""Chat templates: Jinja from a model folder, run as the untrusted code that it is.

The environment follows the Hugging Face convention for chat templates (`trim_blocks`,
`lstrip_blocks`, loop controls, `raise_exception`, `tojson`, `strftime_now`, the
`generation` block), inside the sandbox of `template_sandbox`.
"""

import datetime
from collections.abc import Mapping, Sequence
from typing import Any

import jinja2
import jinja2.nodes
from jinja2.sandbox import SecurityError

from cifr_jax.errors import UserError
from cifr_jax.models.template_limits import MAX_SIZE
from cifr_jax.models.template_sandbox import TemplateSandbox

MAX_SOURCE = 100_000  # characters of a template; the longest published ones have 30,000
# Templates may ask for today's date; a benchmark that reads the clock is not repeatable.
TEMPLATE_DATE = datetime.datetime(2024, 7, 26)


def _raise_exception(message: str):
    raise jinja2.TemplateError(str(message))


def _strftime_now(form: str) -> str:
    if len(form) > 100:  # it may grow tenfold
        raise SecurityError("a date's format of over 100 characters")
    return TEMPLATE_DATE.strftime(form)


def is_unicode(text: str) -> bool:
    """Whether every character of a text is whole."""
    try:
        text.encode()
    except UnicodeEncodeError:  # half of a surrogate pair, which JSON can hold
        return False
    return True


_FUNCTIONS = {"raise_exception": _raise_exception, "strftime_now": _strftime_now}


class ChatTemplate:
    """A compiled chat template.

    Args:
      source: the Jinja text.
      where: the file that it comes from, for messages.

    Attributes:
      literals: the texts that it names in expressions; what it may look for in messages.

    Raises:
      UserError: the template does not parse, with its line; it is too long, or no Unicode.
    """

    def __init__(self, source: str, where: str):
        self.source, self.where = source, where
        self._sandbox = TemplateSandbox(_FUNCTIONS)
        if len(source) > MAX_SOURCE or not is_unicode(source):
            what = f"chat template: not Unicode text of at most {MAX_SOURCE:,} characters"
            raise UserError(where, what, "give the template of the model")
        try:
            tree = self._sandbox.parse(source)
            constants = list(tree.find_all(jinja2.nodes.Const))
            self._template = self._sandbox.from_string(tree)
        except jinja2.TemplateSyntaxError as e:
            raise UserError(
                f"{where}:{e.lineno}", f"chat template: {e.message}", "correct the template"
            ) from e
        # What Jinja makes of it may be no program: a stray break, deep nesting.
        except Exception as e:
            what = f"chat template: {str(e) or type(e).__name__}"
            raise UserError(where, what, "simplify the template") from e
        texts = {str(c.value) for c in constants if isinstance(c.value, str)}
        # Longest first, as they may hold one another; one sign is no mark.
        self.literals = sorted((t for t in texts if len(t) > 1), key=len, reverse=True)

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
        self._sandbox.start(sum(len(str(text)) for m in messages for text in m.values()))
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
