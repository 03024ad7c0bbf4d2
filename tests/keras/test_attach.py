"""SE put into models of keras.applications and others, and taken for nothing at first."""

import keras
import numpy as np
import pytest

from senet.errors import InputError
from senet.keras import CBAM, ECA, SqueezeExcite, attach

X = np.random.default_rng(0).standard_normal((2, 32, 32, 3)).astype("float32")


def mobilenet():
    """MobileNet with norms that hide nothing: fresh, its logits differ by less than what a float can say."""
    more = {"alpha": 0.25, "dropout": 0.0, "classes": 5, "classifier_activation": None}
    model = keras.applications.MobileNet((32, 32, 3), weights=None, **more)
    rng = np.random.default_rng(0)
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.set_weights([rng.uniform(0.5, 1.5, w.shape) for w in layer.weights])
    return model


def blocks(model):
    return [layer.name for layer in model.layers if isinstance(layer, (SqueezeExcite, ECA, CBAM))]


def small(data_format="channels_last"):
    """A model with a layer that is called twice, two inputs, and a norm at the end of a branch."""
    one, other = (
        keras.Input((8, 8, 4) if data_format == "channels_last" else (4, 8, 8), name=name) for name in ("one", "other")
    )
    shared = keras.layers.Conv2D(4, 3, padding="same", data_format=data_format, name="shared")
    norm = keras.layers.BatchNormalization(axis=-1 if data_format == "channels_last" else 1, name="norm")
    x = keras.layers.Add(name="sum")([norm(shared(one)), shared(other)])
    return keras.Model({"one": one, "other": other}, keras.layers.Flatten(name="flat")(x), name="small")


def test_identity_at_first(array):
    model = mobilenet()
    weights = model.get_weights()
    new = attach(model, where="conv_dw_*_relu", options={"reduction": 4})
    assert blocks(new) == [f"conv_dw_{k}_relu_se" for k in range(1, 14)]
    assert blocks(model) == []
    assert np.array_equal(array(new(X)), array(model(X)))
    assert np.array_equal(array(new(X, training=True)), array(model(X, training=True)))
    shared = {id(w) for w in model.weights} & {id(w) for w in new.weights}
    assert not shared  # the copy has weights of its own
    new.get_layer("conv1").set_weights([0 * w for w in new.get_layer("conv1").get_weights()])
    assert all(np.array_equal(a, b) for a, b in zip(model.get_weights()[:1], weights[:1], strict=True))


def test_the_block_is_where_it_was_asked_for(array):
    """What takes the layer's map takes the block's, and nothing else changes."""
    model = mobilenet()
    new = attach(model, "eca", where="conv_pw_13_relu", start="paper")
    before = keras.Model(model.input, model.get_layer("conv_pw_13_relu").output)
    gated = new.get_layer("conv_pw_13_relu_eca")(before(X))
    after = keras.Model(model.get_layer("global_average_pooling2d").input, model.output)
    np.testing.assert_allclose(array(new(X)), array(after(gated)), rtol=1e-5, atol=1e-6)
    assert not np.allclose(array(new(X)), array(model(X)), rtol=1e-5, atol=1e-6)


def test_ways_to_say_where():
    model = mobilenet()
    assert blocks(attach(model, where="conv_pw_1_bn")) == ["conv_pw_1_bn_se"]
    assert blocks(attach(model, where=["conv_pw_2_bn", "conv_pw_1*_bn"])) == [
        f"conv_pw_{k}_bn_se" for k in (1, 2, 10, 11, 12, 13)
    ]
    strided = attach(model, "cbam", where=lambda layer: getattr(layer, "strides", None) == (2, 2))
    assert blocks(strided) == ["conv1_cbam", *(f"conv_dw_{k}_cbam" for k in (2, 4, 6, 12))]


@pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])
def test_shared_layers_and_several_inputs(data_format, array, request):
    data_format = request.getfixturevalue(data_format) if data_format == "channels_first" else data_format
    model = small(data_format)
    new = attach(model, where=["shared", "norm"])
    assert blocks(new) == ["shared_se", "norm_se"]
    assert new.get_layer("shared_se").data_format == data_format
    given = dict(zip(("one", "other"), np.random.default_rng(0).standard_normal((2, 3, 8, 8, 8)), strict=True))
    shape = (3, 8, 8, 4) if data_format == "channels_last" else (3, 4, 8, 8)
    given = {name: np.resize(x, shape).astype("float32") for name, x in given.items()}
    assert np.array_equal(array(new(given)), array(model(given)))
    assert [layer.name for layer in new.layers if isinstance(layer, keras.layers.InputLayer)] == ["one", "other"]


def test_policy_and_freezing_are_kept(array):
    keras.config.set_dtype_policy("mixed_bfloat16")
    model = mobilenet()
    model.trainable = False
    keras.config.set_dtype_policy("float32")
    new = attach(model, where="conv_pw_*_bn", options={"reduction": 4})
    assert new.get_layer("conv_pw_1_bn_se").compute_dtype == "bfloat16"
    assert np.array_equal(array(new(X)), array(model(X)))
    assert {w.path.partition("/")[0] for w in new.trainable_weights} == set(blocks(new))


def test_a_compiled_model_trains_on(array):
    model = mobilenet()
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    new = attach(model, where="conv_dw_13_relu")
    before = array(new.get_layer("conv_dw_13_relu_se").fc2.kernel).copy()
    new.fit(X, np.array([0, 1]), verbose=0)
    assert not np.array_equal(array(new.get_layer("conv_dw_13_relu_se").fc2.kernel), before)


def test_files(tmp_path, array):
    new = attach(mobilenet(), where="conv_dw_*_relu", start="paper", options={"reduction": 4})
    new.save(tmp_path / "new.keras")
    assert np.array_equal(array(keras.models.load_model(tmp_path / "new.keras")(X)), array(new(X)))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"where": "conv_dw_1_rellu"}, "has no layer 'conv_dw_1_rellu'; did you mean 'conv_dw_1_relu'"),
        ({"where": ["conv1_bn", "nothing*"]}, "has no layer 'nothing\\*'"),
        ({"where": 3}, "where is 3; accepted: names of layers"),
        ({"where": []}, r"where is \[\]; accepted"),
        ({"where": lambda layer: False}, "where= chose none of the"),
        ({"where": "input_layer*"}, "gives no map that a block could sit behind"),
        ({"where": "reshape_2"}, "reshape_2 of .* gives no map that a block could sit behind"),
        ({"where": "conv1", "block": "sse"}, "no Keras layer is called 'sse'; did you mean 'se'"),
        ({"where": "conv1", "options": {"reducton": 4}}, "'se' has no option 'reducton'; did you mean 'reduction'"),
        ({"where": "conv1", "options": {"name": "mine"}}, "'se' has no option 'name'"),
        ({"where": "conv1", "options": {"start": "paper"}}, "options has start='paper', which attach takes itself"),
        ({"where": "conv1", "start": "none"}, "option 'start' is 'none'; accepted: 'paper', 'identity'"),
    ],
)
def test_refused(arguments, said):
    model = mobilenet()
    with pytest.raises(InputError, match=said):
        attach(model, **arguments)


def test_models_that_are_refused():
    once = attach(mobilenet(), where="conv1")
    with pytest.raises(InputError, match="conv1 has a block already, conv1_se"):
        attach(once, where="conv1")
    sequential = keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Conv2D(4, 3, name="conv")])
    with pytest.raises(InputError, match=r"given Sequential; .* keras.Model\(model.inputs, model.outputs\) makes one"):
        attach(sequential, where="conv")
    made = attach(keras.Model(sequential.inputs, sequential.outputs), where="conv")
    assert blocks(made) == ["conv_se"]
    with pytest.raises(InputError, match="given Conv2D"):
        attach(keras.layers.Conv2D(4, 3), where="conv")
    x = keras.Input((8, 8, 8))
    both = keras.Model(
        x,
        [keras.layers.Conv2D(4, 3, data_format=f, name=f)(x) for f in ("channels_last", "channels_first")],
    )
    with pytest.raises(InputError, match="both data formats; give options="):
        attach(both, where="channels_last")
    made = attach(both, where="channels_first", options={"data_format": "channels_first"})
    assert made.get_layer("channels_first_se").fc2.units == 4
