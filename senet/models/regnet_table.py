"""RegNetY by name.

Names, widths and depths are timm's. Those that end in ``_tv`` are torchvision's ``regnet_y_800mf`` and
``regnet_y_8gf``, which round a width or two the other way.
"""

from __future__ import annotations

import math
from dataclasses import replace

from senet.models.net import Entry
from senet.models.regnet import RegNet, RegNetConfig

__all__ = ["TABLE"]


def _quantised(depth: int, w0: int, wa: float, wm: float, group_width: int) -> RegNetConfig:
    """The network with these parameters (arXiv 2003.13678, eq. 2 to 4), and SE.

    The widths of its units lie on a line, ``w0 + wa * unit``. Each goes to the nearest ``w0`` times a power of ``wm``,
    then to the nearest multiple of 8; units of one width are a stage, whose width goes to the nearest multiple of the
    group's.
    """
    powers = [round(math.log(1 + wa * unit / w0, wm)) for unit in range(depth)]
    units = [round(w0 * wm**power / 8) * 8 for power in powers]
    widths = sorted(set(units))
    return RegNetConfig(
        depths=tuple(units.count(width) for width in widths),
        widths=tuple(round(width / group_width) * group_width for width in widths),
        group_width=group_width,
        attn="se",
    )


_CONFIGS = {
    name: _quantised(*parameters)
    for name, parameters in {
        "regnety_002": (13, 24, 36.44, 2.49, 8),
        "regnety_004": (16, 48, 27.89, 2.09, 8),
        "regnety_006": (15, 48, 32.54, 2.32, 16),
        "regnety_008": (14, 56, 38.84, 2.4, 16),
        "regnety_016": (27, 48, 20.71, 2.65, 24),
        "regnety_032": (21, 80, 42.63, 2.66, 24),
        "regnety_040": (22, 96, 31.41, 2.24, 64),
        "regnety_064": (25, 112, 33.22, 2.27, 72),
        "regnety_080": (17, 192, 76.82, 2.19, 56),
        "regnety_120": (19, 168, 73.36, 2.37, 112),
        "regnety_160": (18, 200, 106.23, 2.48, 112),
        "regnety_320": (20, 232, 115.89, 2.53, 232),
    }.items()
}
_CONFIGS["regnety_008_tv"] = replace(_CONFIGS["regnety_008"], widths=(64, 144, 320, 784))
_CONFIGS["regnety_080_tv"] = replace(_CONFIGS["regnety_080"], widths=(224, 448, 896, 2016))

_SOURCE = "arXiv 2003.13678; release (github.com/facebookresearch/pycls)"

TABLE = {
    name: Entry(RegNet, config, f"{_SOURCE}; widths as in torchvision" if name.endswith("_tv") else _SOURCE)
    for name, config in _CONFIGS.items()
}
