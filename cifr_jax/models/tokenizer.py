"""Tokenizer and chat template of a model: conversations to token ids and back.

Text never becomes a special token. `encode` reads the names of special tokens as ordinary
characters, and `encode_chat` parses only those that the chat template itself wrote: a user
who types the end-of-turn marker has typed its characters, also where only a normaliser or
the joining of two messages makes a marker of them. In all other cases the ids are those of
encoding the whole rendering, as the Hugging Face tools do.

Beginning-of-text: the template writes it or does not; nothing is added to that, so that no
text begins with two.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from tokenizers import Tokenizer, models

from cifr_jax.errors import UserError
from cifr_jax.files import write_bytes_atomic, write_json_atomic
from cifr_jax.models.chat_template import ChatTemplate, is_unicode
from cifr_jax.models.json_file import read_json
from cifr_jax.models.special_tokens import Masks, SpecialTokens
from cifr_jax.models.text_file import read_text

_MOST_BYTES = 2**27  # of tokenizer.json; Gemma's has 33 million


class MessageLike(Protocol):
    """What a message must have; `data.chat.Message` does."""

    @property
    def role(self) -> str: ...
    @property
    def content(self) -> str: ...


class ChatTokenizer:
    """A `tokenizers.Tokenizer` with its special tokens and chat template.

    Args:
      tokenizer: the tokenizer; it is copied.
      chat_template: Jinja source, or None for a model without one.
      bos_token: beginning-of-text token, if the model has one.
      eos_tokens: tokens that end an assistant's turn; the first is the tokenizer's own.
      pad_token: filler of padded rows; by default the first of `eos_tokens`, else id 0.
      unk_token: unknown token, which some templates name.
      where: the file to name in messages.

    Attributes:
      vocab_size: largest token id plus one.
      bos_id: id of `bos_token`, or None.
      eos_ids: ids of `eos_tokens`.
      pad_id: id of `pad_token`.
      chat_template: the template's source, or None.

    Raises:
      UserError: a token that is not in the vocabulary, or a template that does not parse.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        *,
        chat_template: str | None = None,
        bos_token: str | None = None,
        eos_tokens: Sequence[str] = (),
        pad_token: str | None = None,
        unk_token: str | None = None,
        where: str = "tokenizer",
    ):
        self.where = where
        # Two copies: which special tokens are parsed is a state of the tokenizer.
        self._structured = Tokenizer.from_str(tokenizer.to_str())
        self._structured.no_padding()
        self._structured.no_truncation()
        self._plain = Tokenizer.from_str(self._structured.to_str())
        self._plain.encode_special_tokens = True
        self._specials = SpecialTokens(self._structured.get_added_tokens_decoder())
        # What text may come to by itself: characters that the vocabulary lacks.
        unknown = _unknown(tokenizer)
        self._forbidden = frozenset(
            i for name, i in self._specials.ids.items() if name != unknown
        )

        tokens = {"bos_token": bos_token, "eos_token": next(iter(eos_tokens), None)}
        tokens |= {"pad_token": pad_token, "unk_token": unk_token}
        self._named_tokens = {name: token for name, token in tokens.items() if token}
        self.vocab_size = max(self._structured.get_vocab().values(), default=-1) + 1
        self.bos_id = None if bos_token is None else self._id(bos_token)
        self.eos_ids = tuple(dict.fromkeys(self._id(token) for token in eos_tokens))
        first_eos = self.eos_ids[0] if self.eos_ids else 0
        self.pad_id = first_eos if pad_token is None else self._id(pad_token)
        self.chat_template = chat_template
        self._template = (
            None if chat_template is None else ChatTemplate(chat_template, where)
        )

    def _id(self, token: str) -> int:
        found = self._structured.token_to_id(token)
        if found is None:
            what = f"special token {token!r} is not in the vocabulary"
            raise UserError(
                self.where, what, "correct the name, or use the matching vocabulary"
            )
        return found

    def encode(self, text: str) -> list[int]:
        """Token ids of plain text: no special token is added, and none is parsed.

        Raises:
          UserError: text that is no Unicode, or that the tokenizer fails on.
        """
        ids = self._encode(self._plain, text)
        if self._forbidden.isdisjoint(ids):
            return ids
        # The model of the tokenizer may know the name as a word: it meets it in two parts.
        parts = self._specials.broken(text)
        ids = [i for part in parts for i in self._encode(self._plain, part)]
        if self._forbidden.isdisjoint(ids):
            return ids
        what = "the tokenizer makes a special token of plain text"
        raise UserError(self.where, what, "give the tokenizer of the model")

    def _encode(self, tokenizer: Tokenizer, text: str) -> list[int]:
        try:
            return tokenizer.encode(text, add_special_tokens=False).ids
        except TypeError as e:  # what the bindings raise for text that UTF-8 cannot hold
            what = "the text holds half of a surrogate pair"
            raise UserError(self.where, what, "give valid Unicode text") from e
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as e:  # Rust panics are outside Exception
            raise self._failed("encode", e) from e

    def _failed(self, doing: str, error: BaseException) -> UserError:
        what = f"the tokenizer cannot {doing} ({type(error).__name__})"
        return UserError(self.where, what, "give the whole tokenizer.json of the model")

    def decode(self, ids: Sequence[int], skip_special_tokens: bool = True) -> str:
        """Text of token ids.

        Raises:
          UserError: the tokenizer fails on them.
        """
        ids = [int(i) for i in ids]
        try:
            return self._structured.decode(ids, skip_special_tokens=skip_special_tokens)
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as e:  # Rust panics are outside Exception
            raise self._failed("decode", e) from e

    def render(
        self, messages: Sequence[MessageLike], add_generation_prompt: bool = False
    ) -> str:
        """The conversation as the chat template writes it.

        Args:
          messages: messages with role and content.
          add_generation_prompt: end with the opening of an assistant turn.

        Raises:
          UserError: no template, or the template refuses the messages or fails.
        """
        plain = [{"role": m.role, "content": m.content} for m in messages]
        return self._render(plain, add_generation_prompt)

    def _render(self, messages: list[dict[str, str]], add_generation_prompt: bool) -> str:
        if self._template is None:
            mend = (
                "add chat_template.jinja to the folder, or use an instruction-tuned model"
            )
            raise UserError(self.where, "the model has no chat template", mend)
        return self._template.render(messages, add_generation_prompt, self._named_tokens)

    def encode_chat(
        self, messages: Sequence[MessageLike], add_generation_prompt: bool = False
    ) -> list[int]:
        """Token ids of the rendered conversation.

        Special tokens are parsed where the template wrote them; in what a message holds,
        their names are text.

        Raises:
          UserError: as `render`.
        """
        rendered = self.render(messages, add_generation_prompt)
        pieces = [piece for m in messages for piece in (m.role, m.content)]
        masks = self._specials.masks(pieces, self.chat_template or "")
        hidden = rendered
        if masks:
            hidden = self._render(self._hide(messages, masks), add_generation_prompt)
        own = self._specials.find(hidden)
        if hidden is rendered or self._specials.find(rendered) == own:
            ids = self._encode(self._structured, rendered)
            if self._without_unknown(ids) == self._without_unknown(own):
                return ids
        # The tokenizer itself splits at special tokens first, so the parts between them
        # encode on their own as inside the whole (but where a tokenizer puts a space before
        # the very first part only, each part here gets one).
        ids = []
        for i, part in enumerate(self._specials.split(hidden)):
            if i % 2:
                ids.append(self._specials.ids[part])
            elif part:
                ids += self.encode(masks.restore(part) if masks else part)
        return ids

    def _hide(self, messages: Sequence[MessageLike], masks: Masks) -> list[dict[str, str]]:
        literals = self._template.literals if self._template else ()
        return [
            {"role": masks.hide(m.role, ()), "content": masks.hide(m.content, literals)}
            for m in messages
        ]

    def _without_unknown(self, ids: list[int]) -> list[int]:
        """The special tokens among ids, but for that which text may come to."""
        return list(filter(self._forbidden.__contains__, ids))

    @classmethod
    def from_folder(cls, folder: str | Path, rows: int | None = None) -> "ChatTokenizer":
        """Reads the tokenizer of a Hugging Face folder.

        Uses tokenizer.json; special tokens from tokenizer_config.json, and those that end a
        turn also from generation_config.json and config.json; the chat template from
        chat_template.jinja, else tokenizer_config.json.

        Args:
          folder: the folder.
          rows: of the embedding. Special tokens beyond them are left out: Gemma 3 1B has
            the tokenizer of its larger kin, with a mark for images that it has no row for.

        Raises:
          UserError: a missing or broken file, by name.
        """
        folder = Path(folder)
        path = folder / "tokenizer.json"
        if not path.is_file():
            mend = "save it with transformers' AutoTokenizer.save_pretrained"
            raise UserError(str(path), "no such file", mend)
        tokenizer = _parse_tokenizer(path, rows)
        settings = read_json(folder / "tokenizer_config.json", missing_ok=True)
        named = {
            name: _token_text(settings.get(name), folder / "tokenizer_config.json", name)
            for name in ("bos_token", "eos_token", "pad_token", "unk_token")
        }
        eos_tokens = [named["eos_token"]] if named["eos_token"] else []
        for file in ("generation_config.json", "config.json"):
            for i in _token_ids(read_json(folder / file, missing_ok=True), folder / file):
                token = tokenizer.id_to_token(i)
                if token is None:
                    what = f"eos_token_id {i} is not in the vocabulary"
                    raise UserError(str(folder / file), what, "correct the id")
                eos_tokens.append(token)
        template, where = _find_template(folder, settings)
        return cls(
            tokenizer,
            chat_template=template,
            bos_token=named["bos_token"],
            eos_tokens=tuple(dict.fromkeys(eos_tokens)),
            pad_token=named["pad_token"],
            unk_token=named["unk_token"],
            where=where,
        )

    def save(self, folder: str | Path) -> None:
        """Writes tokenizer.json, tokenizer_config.json and generation_config.json.

        Args:
          folder: made if missing; each file is written whole or not at all.
        """
        folder = Path(folder)
        write_bytes_atomic(
            folder / "tokenizer.json", self._structured.to_str(pretty=True).encode()
        )
        settings: dict[str, Any] = {"tokenizer_class": "PreTrainedTokenizerFast"}
        # Cleaning up spaces on decoding would break the round trip.
        settings |= {"clean_up_tokenization_spaces": False, **self._named_tokens}
        if self.chat_template is not None:
            settings["chat_template"] = self.chat_template
        write_json_atomic(folder / "tokenizer_config.json", settings)
        generation: dict[str, Any] = {"eos_token_id": list(self.eos_ids)}
        generation |= {"bos_token_id": self.bos_id, "pad_token_id": self.pad_id}
        write_json_atomic(folder / "generation_config.json", generation)


def _parse_tokenizer(path: Path, rows: int | None) -> Tokenizer:
    mend = "give the whole tokenizer.json of the model"
    text = read_text(path, _MOST_BYTES)
    try:
        tokenizer = Tokenizer.from_str(text)
        added = tokenizer.get_added_tokens_decoder()
        beyond = [t for i, t in added.items() if rows is not None and i >= rows]
        if not beyond or not all(t.special for t in beyond):
            return tokenizer
        state = json.loads(tokenizer.to_str())
        state["added_tokens"] = [t for t in state["added_tokens"] if t["id"] < rows]
        return Tokenizer.from_str(json.dumps(state))
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as e:  # the Rust parser panics, outside Exception, on some input
        raise UserError(str(path), f"not a tokenizer ({e})", mend) from e


def _unknown(tokenizer: Tokenizer) -> str | None:
    """Name of the token for what is not in the vocabulary, if the model has one."""
    if not isinstance(tokenizer.model, models.Unigram):
        return tokenizer.model.unk_token
    state = json.loads(tokenizer.to_str())["model"]  # the bindings do not tell it
    return None if state["unk_id"] is None else state["vocab"][state["unk_id"]][0]


def _token_text(value: Any, where: Path, name: str) -> str | None:
    """A special token as text: stored as a string or as an object with `content`."""
    if isinstance(value, Mapping):
        value = value.get("content")
    if value is not None and not isinstance(value, str):
        raise UserError(str(where), f"{name} is {value!r}", "give a string")
    if value is not None and not is_unicode(value):
        raise UserError(str(where), f"{name} is no Unicode text", "give a whole character")
    return value


def _token_ids(settings: Mapping[str, Any], where: Path) -> list[int]:
    """`eos_token_id`, which is an integer, a list of them, or absent."""
    value = settings.get("eos_token_id")
    values = value if isinstance(value, list) else [] if value is None else [value]
    for i in values:
        if isinstance(i, bool) or not isinstance(i, int) or not 0 <= i < 2**31:
            raise UserError(str(where), f"eos_token_id holds {i!r}", "give token ids")
    return values


def _find_template(folder: Path, settings: Mapping[str, Any]) -> tuple[str | None, str]:
    """Source of the chat template, or None, and the file that it is in."""
    path = folder / "chat_template.jinja"
    if path.is_file():
        return read_text(path), str(path)
    path = folder / "tokenizer_config.json"
    template = settings.get("chat_template")
    if isinstance(template, list):  # several, by name
        by_name = {
            str(t.get("name")): t.get("template") for t in template if isinstance(t, dict)
        }
        template = by_name.get("default")
    if template is not None and not isinstance(template, str):
        raise UserError(str(path), "chat_template is not text", "give Jinja source")
    return template, str(path)
