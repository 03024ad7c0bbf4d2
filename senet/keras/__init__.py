"""SE for Keras 3: the blocks as layers, put into Functional models, and weights that go both ways.

An extra: ``pip install 'senet[keras]'``, and one of Keras's backends. ``import senet`` never imports it. On the backend
torch nothing else is needed; JAX and TensorFlow are installed as Keras says, and Keras is told of them before it is
imported first: ``KERAS_BACKEND=jax``. ``import senet.keras`` loads torch under every backend, as all of senet does: it
is where the weights come from and go to.

A ``.keras`` file names its layers ``senet>SqueezeExcite``: import ``senet.keras`` before it is loaded.
"""

from senet.errors import InputError

try:
    import keras as _keras  # noqa: F401
except ModuleNotFoundError as error:
    missing = (error.name or "").partition(".")[0]
    if missing == "keras":
        raise InputError("senet.keras needs Keras 3, which is not installed: pip install 'senet[keras]'") from error
    if missing in ("tensorflow", "jax"):
        raise InputError(
            f"Keras wants the backend {missing}, which is not installed: install it, or set KERAS_BACKEND=torch in "
            "the environment before Keras is imported"
        ) from error
    raise

from senet.keras.attach import attach as attach
from senet.keras.cbam import CBAM as CBAM
from senet.keras.convert import create_model as create_model
from senet.keras.convert import from_torch as from_torch
from senet.keras.convert import to_torch as to_torch
from senet.keras.eca import ECA as ECA
from senet.keras.se import EffectiveSE as EffectiveSE
from senet.keras.se import SqueezeExcite as SqueezeExcite
from senet.keras.tutorial import squeeze_and_excitation_block as squeeze_and_excitation_block
from senet.keras.weights import copy_weights as copy_weights

__all__ = [
    "CBAM",
    "ECA",
    "EffectiveSE",
    "SqueezeExcite",
    "attach",
    "copy_weights",
    "create_model",
    "from_torch",
    "squeeze_and_excitation_block",
    "to_torch",
]
