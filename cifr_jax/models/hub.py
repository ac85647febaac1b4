"""Models of the Hugging Face hub by name, through `huggingface_hub` and its cache.

Only weights in safetensors, JSON and chat templates are asked for: no pickles, and no code.
"""

import re
from pathlib import Path

from cifr_jax.errors import UserError

INSTALL = 'pip install "cifr-jax[hub]"'
_NAME = re.compile(r"(?P<repo>[\w-][\w.-]*/[\w-][\w.-]*?)(@(?P<revision>[\w./-]+))?")
_SETTINGS, _WEIGHTS = ("*.json", "*.jinja"), ("*.safetensors",)
_CONVERT = (
    "convert it once where you trust it: "
    'python -c "from transformers import AutoModelForCausalLM as M, AutoTokenizer as T; '
    "[X.from_pretrained('{repo}').save_pretrained('FOLDER') for X in (M, T)]\""
)


def is_name(name: str) -> bool:
    """Whether a name reads as owner/name or owner/name@revision."""
    return _NAME.fullmatch(name) is not None and ".." not in name


def fetch(name: str, weights: bool = True) -> tuple[Path, str]:
    """A snapshot of a repository; what lies in the cache already is not fetched again.

    Args:
      name: owner/name, or owner/name@revision with a branch, a tag or a commit.
      weights: False: without the weights.

    Returns:
      `(folder, name)`, the name with the commit that the revision stood for.

    Raises:
      UserError: the package is missing; no such repository or revision, or none that may be
        read; neither reachable nor in the cache; no weights in safetensors.
    """
    try:
        from huggingface_hub import errors, snapshot_download
    except ImportError as e:
        raise UserError(name, "needs the Python package huggingface_hub", INSTALL) from e
    found = _NAME.fullmatch(name)
    assert found is not None, name
    repo, revision = found["repo"], found["revision"]
    patterns = [*_SETTINGS, *(_WEIGHTS if weights else ())]
    try:
        folder = Path(
            snapshot_download(
                repo,
                revision=revision,
                allow_patterns=patterns,
                ignore_patterns=["*/*"],  # other formats of the same weights
            )
        )
    # What an error says may hold addresses with credentials: its kind alone is told.
    except errors.GatedRepoError:
        mend = "ask for access on its page, and set HF_TOKEN"
        raise UserError(name, "the repository is gated", mend) from None
    except errors.RepositoryNotFoundError:
        mend = "correct the name; for a private repository set HF_TOKEN"
        raise UserError(name, "no such repository on the hub", mend) from None
    except errors.RevisionNotFoundError:
        what = f"no revision {revision} in {repo}"
        raise UserError(name, what, "give a branch, a tag or a commit") from None
    except errors.LocalEntryNotFoundError:
        what = "not in the cache, and the hub is not reached"
        mend = "go online (without HF_HUB_OFFLINE), or give a folder"
        raise UserError(name, what, mend) from None
    # Proxies, timeouts and broken answers: errors of several libraries, which may change.
    except Exception as e:
        what = f"the hub did not give it ({type(e).__name__})"
        raise UserError(name, what, "try again, or give a folder") from None
    if weights and not list(folder.glob("*.safetensors")):
        what = "no weights in safetensors; pickled ones can run code and are not read"
        raise UserError(name, what, _CONVERT.format(repo=repo))
    return folder, f"{repo}@{folder.name}"
