"""Networks: their units, their tables, and the functions that build them by name."""

from senet.models.config import NetConfig as NetConfig
from senet.models.create import create_model as create_model
from senet.models.features import Features as Features
from senet.models.net import Entry as Entry
from senet.models.net import Net as Net
from senet.models.registry import list_models as list_models
from senet.models.registry import model_config as model_config
from senet.models.registry import model_entry as model_entry
from senet.models.resnet import ResNet as ResNet
from senet.models.resnet import ResNetConfig as ResNetConfig

__all__ = [
    "Entry",
    "Features",
    "Net",
    "NetConfig",
    "ResNet",
    "ResNetConfig",
    "create_model",
    "list_models",
    "model_config",
    "model_entry",
]
