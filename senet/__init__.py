"""Squeeze-and-excitation networks for PyTorch (Hu et al., arXiv 1709.01507)."""

from senet.blocks import CBAM as CBAM
from senet.blocks import ECA as ECA
from senet.blocks import SCSE as SCSE
from senet.blocks import EffectiveSE as EffectiveSE
from senet.blocks import GatherExcite as GatherExcite
from senet.blocks import SqueezeExcite as SqueezeExcite
from senet.blocks import create_block as create_block
from senet.errors import InputError as InputError
from senet.models import create_model as create_model
from senet.models import list_models as list_models

__version__ = "0.1.0"

__all__ = [
    "CBAM",
    "ECA",
    "SCSE",
    "EffectiveSE",
    "GatherExcite",
    "InputError",
    "SqueezeExcite",
    "create_block",
    "create_model",
    "list_models",
]
