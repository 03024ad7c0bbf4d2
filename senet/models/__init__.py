"""Networks: their units, their tables, and the functions that build them by name."""

from senet.models.bn_inception import BNInception, BNInceptionConfig
from senet.models.config import NetConfig
from senet.models.create import create_model
from senet.models.detection.create import create_detector
from senet.models.features import Features
from senet.models.inception_resnet_v2 import InceptionResNetV2, InceptionResNetV2Config
from senet.models.inception_v3 import InceptionV3, InceptionV3Config
from senet.models.mobile import MobileNet, MobileNetV3
from senet.models.mobile_config import MobileConfig, MobileStage
from senet.models.net import Entry, Net
from senet.models.registry import list_models, model_config, model_entry
from senet.models.regnet import RegNet, RegNetConfig
from senet.models.resnet import ResNet, ResNetConfig
from senet.models.shake import ShakeShake, ShakeShakeConfig
from senet.models.shufflenet import ShuffleNet, ShuffleNetConfig
from senet.models.textline import TextLineConfig, TextLineNet
from senet.models.vgg import VGG, VGGConfig
from senet.models.weights.loading import load_weights
from senet.models.weights.preprocessing import Preprocessing
from senet.models.weights.pretrained import list_pretrained

__all__ = [
    "VGG",
    "BNInception",
    "BNInceptionConfig",
    "Entry",
    "Features",
    "InceptionResNetV2",
    "InceptionResNetV2Config",
    "InceptionV3",
    "InceptionV3Config",
    "MobileConfig",
    "MobileNet",
    "MobileNetV3",
    "MobileStage",
    "Net",
    "NetConfig",
    "Preprocessing",
    "RegNet",
    "RegNetConfig",
    "ResNet",
    "ResNetConfig",
    "ShakeShake",
    "ShakeShakeConfig",
    "ShuffleNet",
    "ShuffleNetConfig",
    "TextLineConfig",
    "TextLineNet",
    "VGGConfig",
    "create_detector",
    "create_model",
    "list_models",
    "list_pretrained",
    "load_weights",
    "model_config",
    "model_entry",
]
