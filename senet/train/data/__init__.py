"""Images and labels for training and evaluation: where they come from, and how they are handed out."""

from senet.train.data.batches import Loader
from senet.train.data.image_set import ImageSet
from senet.train.data.images import Progress, read_image
from senet.train.data.loader import MemoryLoader, StreamLoader, make_loader
from senet.train.data.preprocess import to_input
from senet.train.data.sources import fingerprint_of, load_data, load_eval, load_split

__all__ = [
    "ImageSet",
    "Loader",
    "MemoryLoader",
    "Progress",
    "StreamLoader",
    "fingerprint_of",
    "load_data",
    "load_eval",
    "load_split",
    "make_loader",
    "read_image",
    "to_input",
]
