"""A residual network of ours as a Functional Keras model, layer by layer."""

from __future__ import annotations

from typing import Any

import keras
from keras import layers, ops
from torch import nn

from senet.errors import InputError
from senet.keras.blocks import layer_like
from senet.keras.stages import DataFormat, Shape
from senet.models.resnet import ResNet, ResNetConfig
from senet.models.units import BasicBlock, Bottleneck, PadShortcut, Placement, Unit

__all__ = ["ChannelPad", "resnet_like"]


@keras.saving.register_keras_serializable(package="senet")
class ChannelPad(keras.Layer):
    """A shortcut without parameters: subsample, and fill the new channels with zeros (arXiv 1512.03385, option A).

    Args:
        stride: of the subsampling.
        new_channels: how many channels of zeros come after the map's own.
        data_format: of the map.
        **kwargs: of ``keras.Layer``.

    Shapes: (N, H, W, C) -> (N, ceil(H / stride), ceil(W / stride), C + new_channels), or with channels first.
    """

    def __init__(self, *, stride: int, new_channels: int, data_format: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.stride = stride
        self.new_channels = new_channels
        self.data_format = data_format

    def call(self, inputs: Any) -> Any:
        if self.data_format == "channels_last":
            x = inputs[:, :: self.stride, :: self.stride, :]
            return ops.pad(x, ((0, 0), (0, 0), (0, 0), (0, self.new_channels)))
        x = inputs[:, :, :: self.stride, :: self.stride]
        return ops.pad(x, ((0, 0), (0, self.new_channels), (0, 0), (0, 0)))

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        axis = 3 if self.data_format == "channels_last" else 1
        sizes: list[int | None] = [None if n is None else -(-n // self.stride) for n in input_shape]
        channels = input_shape[axis]
        assert channels is not None
        sizes[0], sizes[axis] = input_shape[0], channels + self.new_channels
        return tuple(sizes)

    def get_config(self) -> dict[str, Any]:
        own = ("stride", "new_channels", "data_format")
        return {**super().get_config(), **{name: getattr(self, name) for name in own}}


def resnet_like(net: ResNet, data_format: DataFormat) -> keras.Model:
    """A Functional model that computes what a residual network does, given its weights.

    Its layers are named as the network's modules, with ``_`` for ``.``: ``layer1_0_se``.

    Args:
        net: with basic or bottleneck units, on any placement and with any block that Keras has a layer for.
        data_format: of images and maps.

    Raises:
        InputError: the network has parts that no Keras layer is made for here.
    """
    config = net.config
    assert isinstance(config, ResNetConfig)
    if config.drop_path_rate:
        raise InputError(f"drop_path_rate is {config.drop_path_rate}; accepted for Keras: 0 (no stochastic depth)")
    if config.num_classes == 0:
        raise InputError("num_classes is 0; accepted for Keras: 1 or more")
    sizes = (None, None)
    shape = (*sizes, config.in_chans) if data_format == "channels_last" else (config.in_chans, *sizes)
    build = _Builder(data_format)
    inputs = x = keras.Input(shape, name="image")
    if isinstance(net.conv1, nn.Sequential):
        for index, part in enumerate(net.conv1):
            x = build.leaf(part, x, f"conv1_{index}")
    else:
        x = build.leaf(net.conv1, x, "conv1")
    if not hasattr(net, "bn1"):
        raise InputError(f"unit is {config.unit!r}; accepted for Keras: 'basic', 'bottleneck'")
    x = build.leaf(net.act1, build.leaf(net.bn1, x, "bn1"), "act1")
    if hasattr(net, "maxpool"):
        x = build.leaf(net.maxpool, x, "maxpool")
    for index in range(1, len(config.depths) + 1):
        for number, unit in enumerate(net.get_submodule(f"layer{index}").children()):
            assert isinstance(unit, Unit)
            x = build.unit(unit, x, f"layer{index}_{number}")
    x = layers.GlobalAveragePooling2D(data_format=data_format, name="global_pool")(x)
    if config.drop_rate:
        x = layers.Dropout(config.drop_rate, name="head_drop")(x)
    assert isinstance(net.fc, nn.Linear)
    # (float32 under a mixed policy too, as Keras advises for outputs)
    return keras.Model(inputs, layers.Dense(net.fc.out_features, dtype=_outputs(), name="fc")(x), name="resnet")


def _outputs() -> str:
    """The dtype of logits: the variables' one, which a mixed policy keeps wider than what it computes in."""
    return str(keras.config.dtype_policy().variable_dtype)


class _Builder:
    """Applies the counterparts of modules to symbolic maps."""

    def __init__(self, data_format: DataFormat) -> None:
        self.data_format = data_format
        self.axis = -1 if data_format == "channels_last" else 1

    def unit(self, unit: Unit, x: Any, name: str) -> Any:
        """A residual unit, as :meth:`senet.models.units.Unit.forward` runs it."""
        branch = self._block(unit, x, name, at="pre")
        if isinstance(unit, BasicBlock):
            for part in ("conv1", "bn1", "act1", "conv2", "bn2"):
                branch = self.leaf(unit.get_submodule(part), branch, f"{name}_{part}")
        elif isinstance(unit, Bottleneck):
            for part in ("conv1", "bn1", "act1", "conv2", "bn2", "act2"):
                branch = self.leaf(unit.get_submodule(part), branch, f"{name}_{part}")
            branch = self._block(unit, branch, name, at="3x3")
            for part in ("conv3", "bn3"):
                branch = self.leaf(unit.get_submodule(part), branch, f"{name}_{part}")
        branch = self._block(unit, branch, name, at="standard")
        shortcut = x
        if isinstance(unit.downsample, PadShortcut):
            shortcut = self.leaf(unit.downsample, shortcut, f"{name}_downsample")
        elif isinstance(unit.downsample, nn.Sequential):
            for index, projection in enumerate(unit.downsample):
                shortcut = self.leaf(projection, shortcut, f"{name}_downsample_{index}")
        shortcut = self._block(unit, shortcut, name, at="identity")
        x = self.leaf(unit.act, layers.Add(name=f"{name}_add")([branch, shortcut]), f"{name}_act")
        return self._block(unit, x, name, at="post")

    def _block(self, unit: Unit, x: Any, name: str, *, at: Placement) -> Any:
        if unit.se is None or unit.placement != at:
            return x
        return layer_like(unit.se, data_format=self.data_format, name=f"{name}_se")(x)

    def leaf(self, part: nn.Module, x: Any, name: str) -> Any:
        """A module without parts.

        Raises:
            InputError: a kind, or an option of one, that is not known here.
        """
        more = {"data_format": self.data_format, "name": name}
        if isinstance(part, nn.Conv2d):
            x, padding = self._padded(
                x, part.kernel_size[0], part.stride[0], int(part.padding[0]), part.dilation[0], name
            )
            return layers.Conv2D(
                part.out_channels,
                part.kernel_size,
                strides=part.stride,
                padding=padding,
                dilation_rate=part.dilation,
                groups=part.groups,
                use_bias=part.bias is not None,
                **more,
            )(x)
        if isinstance(part, nn.BatchNorm2d):
            assert part.momentum is not None
            return layers.BatchNormalization(self.axis, 1 - part.momentum, part.eps, name=name)(x)
        if isinstance(part, nn.ReLU):
            return layers.ReLU(name=name)(x)
        if isinstance(part, nn.MaxPool2d) and not part.ceil_mode:
            # Behind a ReLU, where zeros around a map are as good as nothing
            x, padding = self._padded(x, part.kernel_size, part.stride, int(part.padding), 1, name)  # type: ignore[arg-type]
            return layers.MaxPooling2D(part.kernel_size, part.stride, padding=padding, **more)(x)
        if isinstance(part, PadShortcut):
            return ChannelPad(stride=part.stride, new_channels=part.new_channels, **more)(x)
        raise InputError(f"{name.replace('_', '.')} is {part}, which no Keras layer is made for here")

    def _padded(self, x: Any, kernel: int, stride: int, padding: int, dilation: int, name: str) -> tuple[Any, str]:
        """The map with zeros all around, and what is left to pad: with a stride Keras's ``"same"`` is lopsided."""
        if padding == 0:
            return x, "valid"
        if stride == 1 and 2 * padding == dilation * (kernel - 1):
            return x, "same"
        return layers.ZeroPadding2D(padding, data_format=self.data_format, name=f"{name}_pad")(x), "valid"
