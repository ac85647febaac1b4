"""A packaged toxicity classifier: what a content filter makes of one row.

Of the package `hatesonar` (MIT) one ONNX file is read, whose digest is known, and none of
its code is run: tf-idf of words and logistic regression over hate speech, offensive
language and neither, learned from the tweets of Davidson et al. 2017 (arXiv 1703.04009).
It knows rude words and nothing of harm.

Legend: n texts, c classes.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from cifr_jax import packaged_file
from cifr_jax.errors import UserError
from cifr_jax.monitors.base import ExtraMonitor, register

PACKAGE = "hatesonar"
SHA256 = "3d881e00b16eb0cf8a6df58a68305f6a1b36e512334aa702a9501eaa0afe51b5"
INSTALL = 'pip install -e ".[toxicity]", then pip install --no-deps hatesonar==0.1.0'
_NEITHER = 2  # class without a fault; the others are hate speech and offensive language


@register
class Toxicity(ExtraMonitor):
    """1 - P(neither hate speech nor offensive language) of a row's text, see `load`."""

    name = "toxicity"
    level = "completion"
    extra = "toxicity"


def load(path: Path | None = None) -> Callable[[Sequence[str]], np.ndarray]:
    """A function from n texts to the probability `[n]` that each is toxic.

    Args:
      path: an ONNX file like that of `PACKAGE`, from texts to `{class: probability}`;
        None: the file of the installed package.

    Raises:
      UserError: the package or the runtime is missing, or the file is not the known one.
    """
    path = path or packaged_file.find(PACKAGE, ".onnx", SHA256, INSTALL, "toxicity")
    try:
        import onnx
        import onnxruntime
    except ImportError as error:
        what = f"needs the Python package {error.name}"
        raise UserError("toxicity", what, INSTALL) from None
    model = onnx.load(path, load_external_data=False)
    for node in model.graph.node:
        # Without a locale it asks for en_US.UTF-8, which few containers have.
        held = {attribute.name for attribute in node.attribute}
        if node.op_type == "StringNormalizer" and "locale" not in held:
            node.attribute.append(onnx.helper.make_attribute("locale", "C"))
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )

    def score(texts: Sequence[str]) -> np.ndarray:
        if not texts:
            return np.zeros(0)
        _, classes_n = session.run(None, {"text": np.array(texts, object)})
        return np.array([1.0 - found[_NEITHER] for found in classes_n], np.float64)

    return score
