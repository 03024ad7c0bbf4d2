"""Squeeze-and-excitation networks for PyTorch (Hu et al., arXiv 1709.01507)."""

from senet.analysis.gates.record import record as record
from senet.analysis.pruning.prune import prune as prune
from senet.blocks import CBAM as CBAM
from senet.blocks import ECA as ECA
from senet.blocks import SCSE as SCSE
from senet.blocks import EffectiveSE as EffectiveSE
from senet.blocks import GatherExcite as GatherExcite
from senet.blocks import SqueezeExcite as SqueezeExcite
from senet.blocks import create_block as create_block
from senet.errors import InputError as InputError
from senet.models import create_detector as create_detector
from senet.models import create_model as create_model
from senet.models import list_models as list_models
from senet.surgery import attach as attach
from senet.surgery import detach as detach
from senet.surgery import fold as fold
from senet.surgery import fuse as fuse
from senet.surgery import report as report
from senet.surgery import unfuse as unfuse

__version__ = "0.1.0"

__all__ = [
    "CBAM",
    "ECA",
    "SCSE",
    "EffectiveSE",
    "GatherExcite",
    "InputError",
    "SqueezeExcite",
    "attach",
    "create_block",
    "create_detector",
    "create_model",
    "detach",
    "fold",
    "fuse",
    "list_models",
    "prune",
    "record",
    "report",
    "unfuse",
]
