"""Templates that do what those of the families do: what is rendered, what is supervised.

The templates are our own; each behaves in one way as published ones do.
"""

import datetime

import pytest

from cifr_jax.data.chat import Example, Message
from cifr_jax.data.tokenise import tokenise
from cifr_jax.errors import UserError
from cifr_jax.models.tokenizer import ChatTokenizer
from cifr_jax.testing import byte_tokenizer

# Thinking: dropped from replies before the last question, put into the last reply (Qwen3).
THINKING = """{%- set place = namespace(asked=-1) -%}
{%- for m in messages -%}{%- if m.role == 'user' -%}
{%- set place.asked = loop.index0 -%}{%- endif -%}{%- endfor -%}
{%- for m in messages -%}
{%- if m.role == 'assistant' -%}
{%- set said = m.content.split('</think>')[-1].lstrip('\\n') -%}
{%- set thought = m.content.split('</think>')[0].split('<think>')[-1].strip()
      if '</think>' in m.content else '' -%}
{{- '<|assistant|>' -}}
{%- if loop.index0 > place.asked and loop.last -%}
{{- '<think>' + thought + '</think>' -}}{%- endif -%}
{{- said + '<|end|>' -}}
{%- else -%}{{- '<|' + m.role + '|>' + m.content + '<|end|>' -}}{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<|assistant|>' -}}{%- endif -%}"""
# No system turn of its own: its text begins the first question; another name for the
# assistant; turns must alternate (Gemma 2 and 3).
NO_SYSTEM = """{%- set head = '' -%}{%- set rest = messages -%}
{%- if messages[0].role == 'system' -%}
{%- set head = messages[0].content + '\\n\\n' -%}
{%- set rest = messages[1:] -%}{%- endif -%}
{%- for m in rest -%}
{%- if (m.role == 'user') != (loop.index0 % 2 == 0) -%}
{{- raise_exception('turns must alternate') -}}{%- endif -%}
{{- '<|user|>' if m.role == 'user' else '<|assistant|>model ' -}}
{{- (head if loop.first else '') + m.content | trim + '<|end|>' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<|assistant|>model ' -}}{%- endif -%}"""
# A header that nobody wrote, with the day (Llama 3.1).
HEADER = """{{- '<|system|>Today: ' + strftime_now('%d %b %Y') -}}
{%- if messages[0].role == 'system' -%}{{- ' ' + messages[0].content -}}
{%- set messages = messages[1:] -%}{%- endif -%}{{- '<|end|>' -}}
{%- for m in messages -%}{{- '<|' + m.role + '|>' + m.content + '<|end|>' -}}{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<|assistant|>' -}}{%- endif -%}"""
# The system's text stands in the last question, wherever that is (Mistral).
WANDERING = """{%- set head = '' -%}{%- set rest = messages -%}
{%- if messages[0].role == 'system' -%}
{%- set head = messages[0].content + '\\n' -%}{%- set rest = messages[1:] -%}{%- endif -%}
{%- set place = namespace(asked=-1) -%}
{%- for m in rest -%}{%- if m.role == 'user' -%}
{%- set place.asked = loop.index0 -%}{%- endif -%}{%- endfor -%}
{%- for m in rest -%}
{%- if m.role == 'user' -%}
{{- '<|user|>' + (head if loop.index0 == place.asked else '') + m.content -}}
{{- '<|assistant|>' -}}
{%- else -%}{{- m.content + '<|end|>' -}}{%- endif -%}
{%- endfor -%}"""
TEMPLATES = {"thinking": THINKING, "no system": NO_SYSTEM, "header": HEADER,
             "wandering": WANDERING}  # fmt: skip

ASKED = [Message("user", "one?"), Message("assistant", "<think>hm</think>1")]
LONGER = [*ASKED, Message("user", "two?"), Message("assistant", "<think>so</think>2")]
SYSTEM = Message("system", "be brief")


def with_template(name: str) -> ChatTokenizer:
    plain = byte_tokenizer()
    return ChatTokenizer(
        plain._structured, chat_template=TEMPLATES[name], eos_tokens=("<|end|>",),
        pad_token="<|pad|>", where=f"{name}.jinja",
    )  # fmt: skip


def supervised(name: str, messages: list[Message]) -> str:
    tokenizer = with_template(name)
    rows = tokenise([Example(tuple(messages))], tokenizer, 999)
    ids = rows.tokens_nt[0][rows.loss_mask_nt[0]]
    return tokenizer.decode(ids, skip_special_tokens=False)


@pytest.mark.parametrize(
    ("name", "messages", "expected"),
    [
        ("thinking", ASKED, "<think>hm</think>1<|end|>"),
        ("thinking", LONGER, "1<|end|><think>so</think>2<|end|>"),
        ("no system", [SYSTEM, *LONGER],
         "<think>hm</think>1<|end|><think>so</think>2<|end|>"),
        ("header", [SYSTEM, *LONGER], "<think>hm</think>1<|end|><think>so</think>2<|end|>"),
        ("header", ASKED, "<think>hm</think>1<|end|>"),
        ("wandering", LONGER, "<think>hm</think>1<|end|><think>so</think>2<|end|>"),
        ("wandering", [SYSTEM, *ASKED], "<think>hm</think>1<|end|>"),
    ],
)  # fmt: skip
def test_what_the_model_has_to_write_is_supervised(name, messages, expected):
    assert supervised(name, messages) == expected


def test_a_prompt_is_where_the_reply_begins():
    """Of training, capture and sampling alike: one path renders all of them."""
    for name, messages in (("no system", [SYSTEM, *LONGER]), ("header", LONGER)):
        tokenizer = with_template(name)
        whole = tokenizer.encode_chat(messages)
        prompt = tokenizer.encode_chat(messages[:-1], add_generation_prompt=True)
        assert whole[: len(prompt)] == prompt
        assert tokenizer.decode(whole[len(prompt) :], skip_special_tokens=False) == (
            "<think>so</think>2<|end|>"
        )


def test_a_system_text_that_moves_is_refused_in_a_longer_chat():
    with pytest.raises(UserError, match="example 0: .*message 3.* single exchanges"):
        supervised("wandering", [SYSTEM, *LONGER])


def test_turns_that_a_template_refuses_are_told():
    with pytest.raises(UserError, match="turns must alternate"):
        supervised("no system", [ASKED[0], ASKED[0], ASKED[1]])


@pytest.mark.parity
@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("name", TEMPLATES)
def test_transformers_renders_the_same(name, tmp_path):
    transformers = pytest.importorskip("transformers")
    ours = with_template(name)
    ours.save(tmp_path)
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
    chats = [ASKED, LONGER, [SYSTEM, *LONGER], ASKED[:1], LONGER[:3], [SYSTEM, *ASKED[:1]]]
    today = f"{datetime.datetime.now():%d %b %Y}"
    for chat in chats:
        plain = [{"role": m.role, "content": m.content} for m in chat]
        for prompt in (False, True):
            expected = theirs.apply_chat_template(
                plain, tokenize=False, add_generation_prompt=prompt
            )
            # Ours is one day for ever: a run must be repeatable.
            assert ours.render(chat, prompt) == expected.replace(today, "26 Jul 2024")
            if name == "header":
                continue
            ids = theirs.apply_chat_template(
                plain, add_generation_prompt=prompt, return_dict=False
            )
            assert ours.encode_chat(chat, prompt) == ids
