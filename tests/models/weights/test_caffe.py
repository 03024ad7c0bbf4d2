"""The authors' files: written here byte by byte, and run by a Caffe of a few lines in float64."""

from __future__ import annotations

import math
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from timm.data import ImageNetInfo

from senet.errors import InputError
from senet.models.registry import build
from senet.models.weights import caffe
from senet.models.weights.caffe import PREPROCESSING, RELEASED, from_caffe, ilsvrc2012_synsets
from senet.models.weights.caffe_proto import read_caffe

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
    "a prototxt": (b'name: "SE-ResNet-50"\nlayer {\n  name: "data"\n}\n', "is a text, not the weights"),
    "empty": (b"", "is empty; download it again"),
    "a pointer": (b"version https://git-lfs.github.com/spec/v1\noid sha256:1\nsize 3\n", "is a Git LFS pointer"),
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
    with pytest.raises(InputError, match=r"needs protobuf; pip install 'senet\[weights\]'"):
        read_caffe(file(tmp_path, WHOLE))


def test_damage_never_ends_in_another_error(tmp_path):
    """Every cut and many flipped bytes: refused, or read as a file that has other contents."""
    path = tmp_path / "x.caffemodel"
    whole = field(1, "net") + WHOLE
    flips = [
        whole[:place] + bytes([new]) + whole[place + 1 :] for place in range(len(whole)) for new in (0, 1, 127, 255)
    ]
    said = []
    for damaged in [*(whole[:size] for size in range(len(whole))), *flips]:
        path.write_bytes(damaged)
        try:
            read_caffe(path)
        except InputError as error:
            said.append(str(error))
    assert len(whole) <= len(said) < len(whole) + len(flips)
    assert not any("\n" in message for message in said)


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
        scale = [self.uniform(0.7, 1.8, outputs), self.uniform(-0.5, 0.5, outputs)]
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
    "Concat": lambda *maps: torch.cat(maps, 1),
    "Reshape": lambda x: x.flatten(1),
    "Scale": lambda x, scale, shift=None: x * scale[..., None, None] + (0 if shift is None else by_channel(shift)),
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


INCEPTION = {  # SE-BN-Inception: 1x1, 3x3_reduce, 3x3, double3x3_reduce, double3x3a and b, pool, pool_proj
    "3a": (64, 64, 64, 64, 96, "AVE", 32),
    "3b": (64, 64, 96, 64, 96, "AVE", 64),
    "3c": (None, 128, 160, 64, 96, "MAX", None),
    "4a": (224, 64, 96, 96, 128, "AVE", 128),
    "4b": (192, 96, 128, 96, 128, "AVE", 128),
    "4c": (160, 128, 160, 128, 160, "AVE", 128),
    "4d": (96, 128, 192, 160, 192, "AVE", 128),
    "4e": (None, 128, 192, 192, 256, "MAX", None),
    "5a": (352, 192, 320, 160, 224, "AVE", 128),
    "5b": (352, 192, 320, 192, 224, "MAX", 128),
}


def inception_deploy(*, random=True):
    """SE-BN-Inception; modules without a 1x1 convolution halve the map."""
    net = Deploy(random=random)
    x = net.conv_norm("conv1/7x7_s2", "data", 64, 7, stride=2, relu=True)
    x = net.conv_norm("conv2/3x3_reduce", net.pool("pool1/3x3_s2", x, "MAX", 3, 2), 64, 1, relu=True)
    x = net.pool("pool2/3x3_s2", net.conv_norm("conv2/3x3", x, 192, 3, relu=True), "MAX", 3, 2)
    for module, (one, narrow, wide, double_narrow, double_wide, pool, project) in INCEPTION.items():
        name, stride = f"inception_{module}", 1 if one else 2
        ends = [net.conv_norm(f"{name}/1x1", x, one, 1, relu=True)] if one else []
        three = net.conv_norm(f"{name}/3x3_reduce", x, narrow, 1, relu=True)
        ends.append(net.conv_norm(f"{name}/3x3", three, wide, 3, stride=stride, relu=True))
        double = net.conv_norm(f"{name}/double3x3_reduce", x, double_narrow, 1, relu=True)
        double = net.conv_norm(f"{name}/double3x3a", double, double_wide, 3, relu=True)
        ends.append(net.conv_norm(f"{name}/double3x3b", double, double_wide, 3, stride=stride, relu=True))
        if one:
            pooled = net.pool(f"{name}/pool", x, pool, 3, 1, 1)
            ends.append(net.conv_norm(f"{name}/pool_proj", pooled, project, 1, relu=True))
        else:
            ends.append(net.pool(f"{name}/pool/3x3_s2", x, pool, 3, 2))
        channels = sum(net.channels[end] for end in ends)
        whole = net.add(f"{name}/concat", "Concat", *ends, top=f"{name}/concat", channels=channels)
        gate = net.gate(name, whole)
        flat = net.add(f"{name}_prob_reshape", "Reshape", gate, top=f"{name}_prob_reshape", channels=channels)
        x = net.add(f"{name}_scale", "Scale", whole, flat, top=f"{name}/output", channels=channels)
    return net.classify(x)


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


MEBIBYTES = {  # of the released files, by the authors' README
    "seresnet50_caffe": 107, "seresnet101_caffe": 189, "seresnet152_caffe": 256, "seresnext50_32x4d_caffe": 105,
    "seresnext101_32x4d_caffe": 187, "senet154_caffe": 440, "sebn_inception": 46,
}  # fmt: skip


def deploy_of(name, *, random):
    return inception_deploy(random=random) if name == "sebn_inception" else residual_deploy(**FULL[name], random=random)


@pytest.mark.parametrize("name", RELEASED)
def test_each_number_finds_its_place(name):
    deploy = deploy_of(name, random=False)
    state = from_caffe(deploy.blobs, name)
    with torch.device("meta"):
        own = build(name).state_dict()
    assert {key: value.shape for key, value in state.items()} == {key: value.shape for key, value in own.items()}
    norms = sum(kind == "BatchNorm" for _, kind, *_ in deploy.layers)
    given = sum(b.numel() for blobs in deploy.blobs.values() for b in blobs)
    assert sum(value.numel() for value in state.values()) == given - norms + norms  # no factors, but counters
    assert given * 4 / 2**20 == pytest.approx(MEBIBYTES[name], abs=0.6)


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


@pytest.mark.parametrize("name", [*SMALL, "sebn_inception"])
def test_computes_what_caffe_computes(tmp_path, monkeypatch, name):
    options, layers = SMALL.get(name, ({}, None))
    create = partial(build, options=options)
    monkeypatch.setattr(caffe, "build", create)
    deploy = residual_deploy(**layers) if layers else inception_deploy()
    read = read_caffe(deploy.write(tmp_path / "net.caffemodel"))
    net = create(name).double().eval()
    net.load_state_dict(from_caffe({layer: [b.double() for b in blobs] for layer, blobs in read.items()}, name))

    coarse = torch.randint(0, 256, (2, 3, 28, 28)).double()  # so that images differ after all the means
    pixels = coarse.repeat_interleave(8, 2).repeat_interleave(8, 3)  # red, green, blue
    mean, std = (by_channel(torch.tensor(x, dtype=torch.float64)) for x in (PREPROCESSING.mean, PREPROCESSING.std))
    blue_green_red = pixels[:, [2, 1, 0]] - by_channel(torch.tensor([104.0, 117.0, 123.0]))
    with torch.no_grad():
        ours, theirs = net((pixels / 255 - mean) / std), deploy.run(blue_green_red)
    by_synset = sorted(range(1000), key=lambda unit: ilsvrc2012_synsets()[unit])
    assert (theirs[0] - theirs[1]).std() > 0.01 * theirs.std()
    assert torch.allclose(ours, theirs[:, by_synset], rtol=1e-9, atol=1e-9)


def test_a_norm_that_saw_no_batch_has_statistics_of_zero():
    """Caffe multiplies by 0 where the factor is 0."""
    deploy = deploy_of("seresnet50_caffe", random=False)
    deploy.blobs["conv1/7x7_s2/bn"][2] = torch.zeros(1)
    state = from_caffe(deploy.blobs, "seresnet50_caffe")
    assert state["bn1.running_mean"].count_nonzero() == state["bn1.running_var"].count_nonzero() == 0
    assert state["layer1.0.bn1.running_var"].count_nonzero() == 64


def test_takes_blobs_of_four_axes():
    """As Caffe wrote vectors and matrices before it had shapes."""
    deploy = deploy_of("seresnet50_caffe", random=False)
    blobs = {layer: [b.expand(*(1,) * (4 - b.dim()), *b.shape) for b in blobs] for layer, blobs in deploy.blobs.items()}
    state, usual = from_caffe(blobs, "seresnet50_caffe"), from_caffe(deploy.blobs, "seresnet50_caffe")
    assert all(torch.equal(state[key], usual[key]) for key in usual)


# --- what is refused ---


def test_refuses_another_network():
    fifty, hundred = (deploy_of(f"seresnet{depth}_caffe", random=False).blobs for depth in (50, 101))
    with pytest.raises(InputError, match=r"than 'seresnet50_caffe': 187 unknown \(conv4_10_1x1_down, .*, and 182 more"):
        from_caffe(hundred, "seresnet50_caffe")
    with pytest.raises(InputError, match=r"than 'seresnet101_caffe': 187 missing \(conv4_10_1x1_down, "):
        from_caffe(fifty, "seresnet101_caffe")
    with pytest.raises(InputError, match=r"of another shape \(conv2_1_1x1_increase \[\[256, 64, 1, 1\]\], ") as refusal:
        from_caffe(fifty, "seresnext50_32x4d_caffe")
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    ("layer", "blobs", "said"),
    [
        (
            "classifier",
            [torch.zeros(10, 2048), torch.zeros(10)],
            r"1 of another shape \(classifier \[\[10, 2048\], \[10\]\]",
        ),
        ("classifier", [torch.zeros(1000, 2048)], r"1 of another shape \(classifier \[\[1000, 2048\]\]"),
        ("conv1/7x7_s2/bn", [torch.zeros(64)] * 3, r"conv1/7x7_s2/bn \[\[64\], \[64\], \[64\]\]"),
        ("loss", [torch.zeros(1)], r"1 unknown \(loss\)"),
    ],
)
def test_refuses_a_layer_with_other_blobs(layer, blobs, said):
    deploy = deploy_of("seresnet50_caffe", random=False)
    with pytest.raises(InputError, match=said):
        from_caffe({**deploy.blobs, layer: blobs}, "seresnet50_caffe")


def test_refuses_what_the_authors_did_not_release():
    with pytest.raises(InputError, match="released no 'seresnet50'; did you mean 'seresnet50_caffe'"):
        from_caffe({}, "seresnet50")


# --- the order of the classes ---


def test_classes_are_those_of_imagenet():
    assert sorted(ilsvrc2012_synsets()) == ImageNetInfo().label_names()


# ILSVRC2012_val_00000001 to 8: the authors' labels, which count from 0 (their ILSVRC2017_val.txt), and those in the
# order of sorted WordNet ids.
VALIDATION = {489: 65, 360: 970, 170: 230, 821: 809, 296: 516, 481: 57, 12: 334, 703: 415}
# Classes by ILSVRC2012_ID, as the development kit calls them.
NAMED = {
    1: "kit fox", 2: "English setter", 143: "pug", 219: "revolver", 230: "airliner", 319: "orange", 359: "cliff",
    400: "great grey owl", 429: "crane", 450: "goldfish", 490: "sea snake", 545: "crane", 601: "trilobite",
    659: "iron", 734: "mashed potato", 782: "maillot", 836: "cardigan", 900: "burrito", 977: "maillot, tank suit",
    999: "carbonara", 1000: "dumbbell",
}  # fmt: skip


def test_classes_are_in_the_authors_order():
    synsets = ilsvrc2012_synsets()
    assert synsets[0] == "n02119789"
    assert {unit: sorted(synsets).index(synsets[unit]) for unit in VALIDATION} == VALIDATION
    called = {number: ImageNetInfo().label_name_to_description(synsets[number - 1]) for number in NAMED}
    assert [number for number, name in NAMED.items() if not called[number].startswith(name)] == []


def test_classifier_rows_are_sorted_by_class():
    """Caffe's unit 489 is our class 65."""
    deploy = deploy_of("seresnet50_caffe", random=False)
    units = torch.arange(1000.0)
    deploy.blobs["classifier"] = [units[:, None].expand(1000, 2048), units]
    state = from_caffe(deploy.blobs, "seresnet50_caffe")
    assert {int(state["fc.bias"][index]): index for index in VALIDATION.values()} == VALIDATION
    assert torch.equal(state["fc.weight"], state["fc.bias"][:, None].expand(1000, 2048))
