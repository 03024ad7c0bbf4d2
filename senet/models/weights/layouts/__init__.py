"""State_dicts as others name them, and as we do: one table of names a library and family, read in both directions."""

from senet.models.weights.layouts.tables import LAYOUTS as LAYOUTS
from senet.models.weights.layouts.translate import detect as detect
from senet.models.weights.layouts.translate import from_ours as from_ours
from senet.models.weights.layouts.translate import to_ours as to_ours
from senet.models.weights.layouts.translate import training_only as training_only

__all__ = ["LAYOUTS", "detect", "from_ours", "to_ours", "training_only"]
