"""The authors' files: written here byte by byte, and run by a Caffe of a few lines in float64."""

from __future__ import annotations

import math
from functools import partial

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from senet.errors import InputError
from senet.models import caffe
from senet.models.caffe import PREPROCESSING, RELEASED, from_caffe, ilsvrc2012_synsets
from senet.models.caffe_proto import read_caffe
from senet.models.registry import create_model

# --- protocol buffers by hand: https://protobuf.dev/programming-guides/encoding ---


def varint(number):
    number %= 2**64
    parts = []
    while number > 127:
        parts.append(number % 128 + 128)
        number //= 128
    return bytes([*parts, number])


def field(number, content):
    """A field of length-delimited content, or of one integer."""
    if isinstance(content, int):
        return varint(number << 3) + varint(content)
    content = content.encode() if isinstance(content, str) else content
    return varint(number << 3 | 2) + varint(len(content)) + content


def floats(tensor, kind="<f4"):
    return tensor.contiguous().numpy().astype(kind).tobytes()


def blob_shape(shape):
    return field(7, field(1, b"".join(map(varint, shape))))


def blob(tensor):
    return blob_shape(tensor.shape) + field(5, floats(tensor))


def layer(name, kind, blobs, number=100):
    """A layer as Caffe writes it, with fields that nobody needs: bottom, top, phase, convolution_param."""
    rest = field(3, "in") + field(4, "out") + b"".join(field(7, b) for b in blobs) + field(10, 1)
    return field(number, field(1, name) + field(2, kind) + rest + field(106, field(1, 64)))


def file(tmp_path, *layers):
    path = tmp_path / "net.caffemodel"
    path.write_bytes(field(1, "SE-Net") + b"".join(layers))
    return path


# --- reading ---


def test_reads_names_shapes_and_numbers(tmp_path):
    weight, bias = torch.randn(4, 3, 2, 5), torch.randn(4)
    read = read_caffe(
        file(
            tmp_path,
            layer("data", "Input", []),
            layer("conv1/7x7_s2", "Convolution", [blob(weight), blob(bias)]),
            layer("conv1/relu", "ReLU", []),
            layer("fc", "InnerProduct", [blob(bias)]),
        )
    )
    assert list(read) == ["conv1/7x7_s2", "fc"]
    assert [b.dtype for blobs in read.values() for b in blobs] == [torch.float32] * 3
    assert torch.equal(read["conv1/7x7_s2"][0], weight)
    assert torch.equal(read["conv1/7x7_s2"][1], bias)
    assert torch.equal(read["fc"][0], bias)


def test_reads_the_other_ways_to_write_a_blob(tmp_path):
    x = torch.randn(2, 3)
    legacy = b"".join(field(number, size) for number, size in zip((1, 2, 3, 4), (1, 1, 2, 3), strict=True))
    in_pieces = field(5, floats(x[0])) + field(5, floats(x[1]))
    blobs = [
        legacy + field(5, floats(x)),
        blob_shape(x.shape) + field(8, floats(x, "<f8")),
        blob_shape(x.shape) + in_pieces,
        blob(x) + field(6, floats(-x)),  # diff, the gradient
    ]
    read = read_caffe(file(tmp_path, layer("a", "InnerProduct", blobs)))["a"]
    assert [list(b.shape) for b in read] == [[1, 1, 2, 3], [2, 3], [2, 3], [2, 3]]
    assert all(torch.equal(b.reshape(2, 3), x) for b in read)


WHOLE = layer("a", "Convolution", [blob(torch.arange(6.0).reshape(2, 3))])
REFUSED = {
    "cut off": (WHOLE[:-5], "is no .caffemodel, or is cut off"),
    "a prototxt": (b'name: "SE-ResNet-50"\nlayer {\n  name: "data"\n}\n', "is no .caffemodel, or is cut off"),
    "empty": (b"", "has no layer with parameters"),
    "no parameters": (layer("a", "ReLU", []), "has no layer with parameters"),
    "of Caffe's V1": (layer("a", "Convolution", [], number=2), "is of Caffe's old format"),
    "twice the name": (WHOLE * 2, "has two layers called 'a'"),
    "numbers missing": (
        layer("a", "Scale", [blob_shape((2, 3)) + field(5, bytes(20))]),
        r"layer 'a' has a blob of shape \[2, 3\] in 20 bytes",
    ),
    "a negative shape": (
        layer("a", "Scale", [blob_shape((-2, -3)) + field(5, bytes(24))]),
        r"layer 'a' has a blob of shape \[-2, -3\] in 24 bytes",
    ),
    "no shape": (layer("a", "Scale", [field(5, bytes(24))]), r"layer 'a' has a blob of shape \[0, 0, 0, 0\]"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_refuses_in_one_line(tmp_path, what):
    content, message = REFUSED[what]
    path = tmp_path / "x.caffemodel"
    path.write_bytes(content)
    with pytest.raises(InputError, match=message) as refusal:
        read_caffe(path)
    assert str(path) in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_refuses_what_is_no_file(tmp_path):
    with pytest.raises(InputError, match=r"cannot read .*: No such file"):
        read_caffe(tmp_path / "none.caffemodel")
    with pytest.raises(InputError, match=r"cannot read .*: Is a directory"):
        read_caffe(tmp_path)


def test_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "google.protobuf.message", None)
    with pytest.raises(InputError, match=r"needs protobuf; pip install 'senet\[convert\]'"):
        read_caffe(file(tmp_path, WHOLE))


def test_damage_never_ends_in_another_error(tmp_path):
    """Every cut and many flipped bytes: refused, or read as a file that has other contents."""
    path = tmp_path / "x.caffemodel"
    whole = field(1, "net") + WHOLE
    flips = [
        whole[:place] + bytes([new]) + whole[place + 1 :] for place in range(len(whole)) for new in (0, 1, 127, 255)
    ]
    refused = 0
    for damaged in [*(whole[:size] for size in range(len(whole))), *flips]:
        path.write_bytes(damaged)
        try:
            read_caffe(path)
        except InputError as error:
            refused += 1
            assert "\n" not in str(error)
    assert len(whole) <= refused < len(whole) + len(flips)


# --- what Caffe computes, from the authors' deploy files ---


class Deploy:
    """The layers of a deploy file in order, with random blobs, or with ones that take no memory."""

    def __init__(self, *, random=True):
        self.layers, self.blobs, self.channels, self.random = [], {}, {"data": 3}, random

    def add(self, name, kind, *bottoms, top, channels, blobs=(), **options):
        self.layers.append((name, kind, bottoms, top, options))
        self.channels[top] = channels
        if blobs:
            self.blobs[name] = list(blobs)
        return top

    def uniform(self, low, high, *shape):
        return torch.empty(shape).uniform_(low, high) if self.random else torch.ones(1).expand(shape)

    def conv(self, name, bottom, outputs, kernel, *, stride=1, group=1, bias=False):
        inputs = self.channels[bottom] // group
        bound = math.sqrt(3 / (inputs * kernel**2))
        blobs = [self.uniform(-bound, bound, outputs, inputs, kernel, kernel)]
        blobs += [self.uniform(-0.5, 0.5, outputs)] * bias
        options = {"stride": stride, "padding": kernel // 2, "groups": group}
        return self.add(name, "Convolution", bottom, top=name, channels=outputs, blobs=blobs, **options)

    def conv_norm(self, name, bottom, outputs, kernel, *, relu, **options):
        self.conv(name, bottom, outputs, kernel, **options)
        factor = self.uniform(0.5, 3, 1)
        mean, variance = self.uniform(-0.5, 0.5, outputs) * factor, self.uniform(0.5, 2, outputs) * factor
        scale = [self.uniform(0.5, 1.5, outputs), self.uniform(-0.5, 0.5, outputs)]
        same = {"top": name, "channels": outputs}
        self.add(f"{name}/bn", "BatchNorm", name, blobs=[mean, variance, factor], **same)
        self.add(f"{name}/bn/scale", "Scale", name, blobs=scale, **same)
        return self.relu(name) if relu else name

    def relu(self, name):
        return self.add(f"{name}/relu", "ReLU", name, top=name, channels=self.channels[name])

    def pool(self, name, bottom, method, kernel, stride=1, padding=0):
        options = {"method": method, "kernel": kernel, "stride": stride, "padding": padding}
        return self.add(name, "Pooling", bottom, top=name, channels=self.channels[bottom], **options)

    def gate(self, place, bottom):
        """Squeeze and excitation; r is 16."""
        channels = self.channels[bottom]
        pooled = self.pool(f"{place}_global_pool", bottom, "AVE", None)
        down = self.conv(f"{place}_1x1_down", pooled, channels // 16, 1, bias=True)
        up = self.conv(f"{place}_1x1_up", self.relu(down), channels, 1, bias=True)
        return self.add(f"{place}_prob", "Sigmoid", up, top=up, channels=channels)

    def classify(self, bottom):
        channels = self.channels[self.pool("pool5/7x7_s1", bottom, "AVE", 7)]
        blobs = [self.uniform(-0.2, 0.2, 1000, channels), self.uniform(-0.5, 0.5, 1000)]
        self.add("classifier", "InnerProduct", "pool5/7x7_s1", top="classifier", channels=1000, blobs=blobs)
        return self

    def write(self, path):
        content = (layer(name, kind, map(blob, self.blobs.get(name, []))) for name, kind, *_ in self.layers)
        path.write_bytes(field(1, "SE-Net") + b"".join(content))
        return path

    def run(self, x):
        """Caffe's forward pass in float64: (N, 3, 224, 224), blue, green, red, mean subtracted -> (N, 1000)."""
        maps = {"data": x}
        for name, kind, bottoms, top, options in self.layers:
            inputs = [maps[bottom] for bottom in bottoms]
            blobs = [b.double() for b in self.blobs.get(name, [])]
            maps[top] = LAYERS[kind](*inputs, *blobs, **options)
        return maps[top]


def by_channel(x):
    return x[:, None, None]


def batch_norm(x, mean, variance, factor):
    return (x - by_channel(mean / factor)) / by_channel(variance / factor + 1e-5).sqrt()


def pooling(x, *, method, kernel, stride, padding):
    if kernel is None:
        return x.mean((2, 3), keepdim=True)
    sizes = [math.ceil((size + 2 * padding - kernel) / stride) + 1 for size in x.shape[2:]]
    below, right = ((n - 1) * stride + kernel - padding - size for n, size in zip(sizes, x.shape[2:], strict=True))
    x = F.pad(x, (padding, right, padding, below), value=-math.inf if method == "MAX" else 0.0)
    windows = x.unfold(2, kernel, stride).unfold(3, kernel, stride)
    return windows.amax((4, 5)) if method == "MAX" else windows.mean((4, 5))


LAYERS = {
    "Convolution": F.conv2d,
    "BatchNorm": batch_norm,
    "Scale": lambda x, scale, shift: x * by_channel(scale) + by_channel(shift),
    "ReLU": lambda x: x.clamp(min=0),
    "Pooling": pooling,
    "Sigmoid": lambda x: 1 / (1 + (-x).exp()),
    "Axpy": lambda gate, residual, shortcut: gate * residual + shortcut,
    "InnerProduct": lambda x, weight, bias: x.flatten(1) @ weight.T + bias,
}


def residual_deploy(*, depths, widths, stem, group=1, stride_in_reduce=False, wide_projection=False, random=True):
    """SE-ResNet, SE-ResNeXt, SENet-154; a stage's widths are those of reduce, 3x3 and increase."""
    net = Deploy(random=random)
    place = "data"
    for name, outputs, kernel, stride in stem:
        place = net.conv_norm(name, place, outputs, kernel, stride=stride, relu=True)
    place = net.pool("pool1/3x3_s2", place, "MAX", 3, 2)
    for stage, (depth, (narrow, width, outputs)) in enumerate(zip(depths, widths, strict=True), 2):
        for unit in range(1, depth + 1):
            name = f"conv{stage}_{unit}"
            stride = 2 if stage > 2 and unit == 1 else 1
            early, late = (stride, 1) if stride_in_reduce else (1, stride)
            x = net.conv_norm(f"{name}_1x1_reduce", place, narrow, 1, stride=early, relu=True)
            x = net.conv_norm(f"{name}_3x3", x, width, 3, stride=late, group=group, relu=True)
            x = net.conv_norm(f"{name}_1x1_increase", x, outputs, 1, relu=False)
            gate = net.gate(name, x)
            if unit == 1:
                kernel = 3 if wide_projection and stride == 2 else 1
                place = net.conv_norm(f"{name}_1x1_proj", place, outputs, kernel, stride=stride, relu=False)
            net.add(name, "Axpy", gate, x, place, top=name, channels=outputs)
            place = net.relu(name)
    return net.classify(place)


def seven(width):
    return [("conv1/7x7_s2", width, 7, 2)]


def three(width):
    half = width // 2
    return [("conv1_1/3x3_s2", half, 3, 2), ("conv1_2/3x3", half, 3, 1), ("conv1_3/3x3", width, 3, 1)]


RESNET = [(64, 64, 256), (128, 128, 512), (256, 256, 1024), (512, 512, 2048)]
RESNEXT = [(128, 128, 256), (256, 256, 512), (512, 512, 1024), (1024, 1024, 2048)]
SENET = [(128, 256, 256), (256, 512, 512), (512, 1024, 1024), (1024, 2048, 2048)]
FULL = {
    "seresnet50_caffe": {"depths": (3, 4, 6, 3), "widths": RESNET, "stem": seven(64)},
    "seresnet101_caffe": {"depths": (3, 4, 23, 3), "widths": RESNET, "stem": seven(64)},
    "seresnet152_caffe": {"depths": (3, 8, 36, 3), "widths": RESNET, "stem": seven(64)},
    "seresnext50_32x4d_caffe": {"depths": (3, 4, 6, 3), "widths": RESNEXT, "stem": seven(64), "group": 32},
    "seresnext101_32x4d_caffe": {"depths": (3, 4, 23, 3), "widths": RESNEXT, "stem": seven(64), "group": 32},
    "senet154_caffe": {
        "depths": (3, 8, 36, 3), "widths": SENET, "stem": three(128), "group": 64, "wide_projection": True,
    },
}  # fmt: skip


@pytest.mark.parametrize("name", RELEASED)
def test_each_number_finds_its_place(name):
    deploy = residual_deploy(**FULL[name], random=False)
    state = from_caffe(deploy.blobs, name)
    with torch.device("meta"):
        own = create_model(name).state_dict()
    assert {key: value.shape for key, value in state.items()} == {key: value.shape for key, value in own.items()}
    norms = sum(kind == "BatchNorm" for _, kind, *_ in deploy.layers)
    given = sum(b.numel() for blobs in deploy.blobs.values() for b in blobs)
    assert sum(value.numel() for value in state.values()) == given - norms + norms  # no factors, but counters


# --- the same numbers as Caffe, in float64, from small networks ---

OUTPUTS = (16, 32, 48, 64)
SMALL = {
    "seresnet50_caffe": (
        {"depths": (2, 1, 1, 2), "planes": (4, 8, 12, 16)},
        {"depths": (2, 1, 1, 2), "widths": [(c // 4, c // 4, c) for c in OUTPUTS], "stem": seven(4)}
        | {"stride_in_reduce": True},
    ),
    "seresnext50_32x4d_caffe": (
        {"depths": (1, 2, 1, 1), "planes": (4, 8, 12, 16), "groups": 4, "base_width": 32},
        {"depths": (1, 2, 1, 1), "widths": [(c // 2, c // 2, c) for c in OUTPUTS], "stem": seven(4), "group": 4},
    ),
    "senet154_caffe": (
        {"depths": (2, 1, 1, 1), "planes": (4, 8, 12, 16), "groups": 4, "base_width": 32, "stem_width": 8},
        {"depths": (2, 1, 1, 1), "widths": [(c // 4, c // 2, c) for c in OUTPUTS], "stem": three(8), "group": 4}
        | {"wide_projection": True},
    ),
}


@pytest.mark.parametrize("name", SMALL)
def test_computes_what_caffe_computes(tmp_path, monkeypatch, name):
    options, layers = SMALL[name]
    small = partial(create_model, **options)
    monkeypatch.setattr(caffe, "create_model", small)
    deploy = residual_deploy(**layers)
    read = read_caffe(deploy.write(tmp_path / "net.caffemodel"))
    net = small(name).double().eval()
    net.load_state_dict(from_caffe({name: [b.double() for b in blobs] for name, blobs in read.items()}, name))

    pixels = torch.randint(0, 256, (2, 3, 224, 224)).double()  # red, green, blue
    mean, std = (by_channel(torch.tensor(PREPROCESSING[key]).double()) for key in ("mean", "std"))
    with torch.no_grad():
        ours = net((pixels / 255 - mean) / std)
        theirs = deploy.run(pixels[:, [2, 1, 0]] - by_channel(torch.tensor([104.0, 117.0, 123.0]).double()))
    names = np.array(ilsvrc2012_synsets())
    assert theirs.std() > 0.1
    assert torch.allclose(ours, theirs[:, torch.from_numpy(names.argsort())], rtol=1e-6, atol=1e-6)
