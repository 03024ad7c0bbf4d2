"""Verbs on any network, ours or not: each says what it changed, and has an inverse or works on a copy."""

from senet.surgery.attaching.attach import attach as attach
from senet.surgery.attaching.attach import detach as detach
from senet.surgery.folding.fold import fold as fold
from senet.surgery.fusing.fuse import fuse as fuse
from senet.surgery.fusing.fuse import unfuse as unfuse
from senet.surgery.report import report as report

__all__ = ["attach", "detach", "fold", "fuse", "report", "unfuse"]
