"""Verbs on any network, ours or not: each says what it changed, and has an inverse or works on a copy."""

from senet.surgery.attach import attach as attach
from senet.surgery.attach import detach as detach
from senet.surgery.fold import fold as fold
from senet.surgery.fuse import fuse as fuse
from senet.surgery.fuse import unfuse as unfuse
from senet.surgery.report import report as report

__all__ = ["attach", "detach", "fold", "fuse", "report", "unfuse"]
