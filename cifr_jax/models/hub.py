"""A model of the Hugging Face hub, through its local cache, at a pinned revision.

Only weights in safetensors, JSON, tokenizer files and templates are asked for: never code,
never pickles. Where the hub cannot be reached, or HF_HUB_OFFLINE is set, what the cache
holds is taken. A token comes from the environment or the hub's own login; it is neither
read nor logged here.
"""

import re
from pathlib import Path

from absl import logging

from cifr_jax.errors import UserError

WANTED = ("*.safetensors", "*.json", "*.model", "*.jinja", "tokenizer*", "merges.txt")
UNWANTED = ("*.py", "*.bin", "*.pt", "*.pth", "*.pkl", "*.ckpt", "*.h5", "*.msgpack")
_NAME = r"[A-Za-z0-9][\w.-]*"
_ID = re.compile(rf"({_NAME}/{_NAME})(?:@({_NAME}(?:/{_NAME})*))?", re.ASCII)


def is_hub_id(text: str) -> bool:
    """Whether it is written as `owner/name` or `owner/name@revision`."""
    return _ID.fullmatch(text) is not None and ".." not in text


def fetch(text: str) -> tuple[Path, str]:
    """The folder of a model in the local cache, downloaded where it is not there yet.

    Args:
      text: `owner/name`, or `owner/name@revision` with a branch, a tag or a commit.

    Returns:
      The folder, and the model's name with the commit: `owner/name@commit`.

    Raises:
      UserError: the package is missing, no such model or revision, no access to it, or
        neither the hub nor a whole copy in the cache.
    """
    found = _ID.fullmatch(text)
    if found is None or ".." in text:
        raise UserError(text, "is no name on the hub", "write owner/name@revision")
    name, revision = found.groups()
    try:
        from huggingface_hub import constants, errors, snapshot_download
    except ImportError as error:
        mend = 'pip install "cifr-jax[hub]"'
        raise UserError(text, "models of the hub need huggingface_hub", mend) from error
    try:
        folder = Path(
            snapshot_download(
                name,
                revision=revision,
                cache_dir=constants.HF_HUB_CACHE,
                allow_patterns=list(WANTED),
                ignore_patterns=list(UNWANTED),
            )
        )
    except errors.GatedRepoError as error:
        mend = "accept its terms on the hub, and log in with `hf auth login`"
        raise UserError(text, "is gated on the hub", mend) from error
    except errors.RevisionNotFoundError as error:
        mend = "give a branch, a tag or a commit of it"
        raise UserError(text, f"has no revision {revision}", mend) from error
    except errors.RepositoryNotFoundError as error:
        mend = "look its name up; private models need `hf auth login`"
        raise UserError(text, "is no folder here and no model on the hub", mend) from error
    # Messages of the hub may quote headers: its classes say enough.
    except (OSError, ValueError) as error:
        what = "is no folder here, and the hub did not give it"
        mend = f"download it where the hub can be reached ({type(error).__name__})"
        raise UserError(text, what, mend) from error
    pinned = f"{name}@{folder.name}"
    if revision != folder.name:
        logging.info("%s is %s today: name that to pin it", text, pinned)
    return folder, pinned
