"""Residual networks with the same logits as PyTorch's."""

import keras
import numpy as np
import pytest
import torch

import senet
from senet.errors import InputError
from senet.keras import copy_weights, create_model, from_torch
from senet.keras.resnet import ChannelPad

SMALL = {"depths": (1, 1), "planes": (16, 32), "num_classes": 5}
NETWORKS = {
    "cifar": ("cifar_seresnet8", {}),
    "plain": ("cifar_resnet8", {"drop_rate": 0.5}),
    "pre": ("cifar_seresnet8", {"placement": "pre", "in_chans": 1}),
    "post": ("cifar_seresnet8", {"placement": "post", "attn": "eca", "attn_options": {}}),
    "identity": ("cifar_seresnet8", {"placement": "identity", "attn": "ese", "attn_options": {}}),
    "3x3": ("seresnet50", {**SMALL, "placement": "3x3", "attn": "cbam", "attn_options": {}}),
    "some stages": ("seresnet50", {**SMALL, "stages": (3,)}),
    "groups": ("seresnext50_32x4d", {**SMALL, "planes": (32, 64)}),
    "deep stem": ("seresnet50", {**SMALL, "stem": "deep"}),
    "stride in 1x1, dilated": (
        "seresnet50",
        {**SMALL, "depths": (1, 1, 1), "planes": (16, 16, 16), "stride_in": "1x1", "output_stride": 8},
    ),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_same_logits(name, randomise, agrees):
    network, options = NETWORKS[name]
    net = randomise(senet.create_model(network, **options)).eval()
    model = from_torch(net)
    assert len([layer for layer in model.layers if layer.name.endswith("_se")]) == len(
        [module for path, module in net.named_modules() if path.endswith(".se")]
    )
    size = (32, 45)  # an odd one too, where strides and pools do not divide
    agrees(model, net, torch.randn(2, net.config.in_chans, *size), "channels_last")


def test_seresnet50(channels_first, randomise):
    net = randomise(senet.create_model("seresnet50", num_classes=10)).eval()
    model = from_torch(net, data_format=channels_first)
    assert model.count_params() == sum(p.numel() for p in net.parameters()) + sum(
        b.numel() for name, b in net.named_buffers() if not name.endswith("num_batches_tracked")
    )
    with torch.no_grad():
        scale = net(torch.randn(2, 3, 64, 64)).abs().max()
        u = torch.randn(2, 3, 64, 64)
        y, expected = model(u.numpy()), net(u)
    assert np.abs(keras.ops.convert_to_numpy(y) - expected.numpy()).max() < 1e-5 * scale


def test_a_model_comes_back_from_its_file(tmp_path, array):
    model = create_model("cifar_seresnet8", in_chans=1)
    model.save(tmp_path / "net.keras")
    loaded = keras.models.load_model(tmp_path / "net.keras")
    x = np.random.default_rng(0).standard_normal((2, 28, 28, 1)).astype("float32")
    assert np.array_equal(array(loaded(x)), array(model(x)))
    net = senet.create_model("cifar_seresnet8", in_chans=1).eval()
    copy_weights(loaded, net)
    with torch.no_grad():
        np.testing.assert_allclose(array(model(x)), net(torch.from_numpy(x).movedim(-1, 1)), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])
def test_shortcut_without_parameters(data_format, array):
    layer = ChannelPad(stride=2, new_channels=3, data_format=data_format)
    x = np.random.default_rng(0).standard_normal((2, 5, 5, 5)).astype("float32")
    y = array(layer(x))
    assert layer.compute_output_shape((None, *x.shape[1:])) == (None, *y.shape[1:])
    kept = x[:, ::2, ::2] if data_format == "channels_last" else x[:, :, ::2, ::2]
    axis = -1 if data_format == "channels_last" else 1
    own, new = np.split(y, [5], axis=axis)
    assert np.array_equal(own, kept)
    assert new.shape[axis] == 3
    assert not new.any()
    assert ChannelPad.from_config(layer.get_config()).get_config() == layer.get_config()


def test_logits_are_in_float32_under_a_mixed_policy(array):
    whole = create_model("cifar_seresnet8")
    keras.config.set_dtype_policy("mixed_bfloat16")
    mixed = create_model("cifar_seresnet8")
    mixed.set_weights(whole.get_weights())
    x = np.random.default_rng(0).standard_normal((2, 32, 32, 3)).astype("float32")
    y = mixed(x)
    assert keras.backend.standardize_dtype(y.dtype) == "float32"
    assert keras.backend.standardize_dtype(mixed.get_layer("layer1_0_se").compute_dtype) == "bfloat16"
    np.testing.assert_allclose(array(y), array(whole(x)), atol=0.05 * float(np.abs(array(y)).max()))


@pytest.mark.parametrize(
    ("name", "options", "said"),
    [
        ("cifar_sepreresnet110", {"depths": (1, 1, 1)}, "unit is 'preact_basic'; accepted for Keras"),
        ("seresnet50_caffe", SMALL, "maxpool is MaxPool2d"),
        ("cifar_seresnet8", {"drop_path_rate": 0.1}, "drop_path_rate is 0.1; accepted for Keras: 0"),
        ("cifar_seresnet8", {"num_classes": 0}, "num_classes is 0; accepted for Keras: 1 or more"),
        ("cifar_seresnet8", {"attn": "scse", "attn_options": {}}, "SCSE has no counterpart in Keras"),
        ("vgg11_bn", {}, "VGG has no counterpart in Keras"),
    ],
)
def test_refused(name, options, said):
    with pytest.raises(InputError, match=said):
        create_model(name, **options)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_an_epoch_of_fashion_mnist(array):
    """All 60,000 images once; then the same accuracy in PyTorch, to which the weights go back."""
    from senet.train.data.fashion_mnist import read_split

    def split(name):
        images = read_split(None, name)
        x = (images.images.float() / 255 - 0.286) / 0.353
        return x.movedim(1, -1).numpy(), images.labels.numpy()

    model = create_model("cifar_seresnet8", in_chans=1)
    model.compile(
        keras.optimizers.SGD(keras.optimizers.schedules.CosineDecay(0.1, 469), momentum=0.9, nesterov=True),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    model.fit(*split("train"), batch_size=128, epochs=1, verbose=0)
    x, labels = split("val")
    right = model.predict(x, batch_size=500, verbose=0).argmax(1) == labels
    assert right.mean() > 0.85
    net = senet.create_model("cifar_seresnet8", in_chans=1).eval()
    copy_weights(model, net)
    with torch.no_grad():
        logits = torch.cat([net(part) for part in torch.from_numpy(x).movedim(-1, 1).split(500)])
    assert np.mean((logits.argmax(1).numpy() == labels) != right) < 1e-3
