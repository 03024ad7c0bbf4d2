from __future__ import annotations

import pytest
import torch
from timm.layers import SEModule
from torch import nn

from senet.analysis.tax import runtimes


@pytest.mark.parametrize("name", ["onnxruntime", "openvino"])
@pytest.mark.filterwarnings("ignore")  # what the exporters say is theirs
def test_networks_give_there_what_they_give_here(name):
    pytest.importorskip(name)
    model = nn.Sequential(nn.Conv2d(3, 8, 1), nn.BatchNorm2d(8), SEModule(8)).eval()
    x = torch.randn(2, 3, 8, 8)
    out = getattr(runtimes, name)(model, x)(x)
    torch.testing.assert_close(torch.from_numpy(out[0]), model(x), rtol=1e-4, atol=1e-5)
