"""A module with a block behind it, in the place of the module alone."""

from __future__ import annotations

from collections.abc import Callable, MutableMapping
from typing import Any

from torch import Tensor, nn

__all__ = ["Attached"]


class Attached(nn.Module):
    """block(module(x)), in the place of the module.

    Both are plain parts, so that whatever looks for convolutions, norms or blocks finds them. A state_dict names them
    as before: the module's keys are its own, and the block's begin with the block's name, as if it were a part of the
    module. Attributes that are not the wrapper's own are the module's, read or set. Only the names that PyTorch makes
    by walking, those of ``named_modules`` and ``named_parameters``, have ``.module`` in them: tools that change a
    module's parameters, as pruning does, want ``model.conv2.module``, and ``torch.func.functional_call`` the names of
    ``named_parameters``.

    A norm in here does not find the version of what is loaded, and takes a missing ``num_batches_tracked`` for that of
    an old file, which is passed over without a word.

    It can be indexed where the module can, but not iterated over, as that would lead around the block.

    Args:
        module: takes one tensor, gives a map.
        block: takes the map, gives one of the same shape.
        name: of the block; another is taken where the module has an attribute of that name.

    Shapes: (N, ...) -> (N, C, ...), with one to three axes of positions.
    """

    block_name: str = ""
    _loaded_prefix: str = ""
    __iter__ = None

    def __init__(self, module: nn.Module, block: nn.Module, name: str) -> None:
        super().__init__()
        self.training = module.training
        self.block_name = f"attached_{name}" if hasattr(module, name) else name
        self.module = module
        self.add_module(self.block_name, block)
        self.register_state_dict_post_hook(_save_plainly)
        self.register_load_state_dict_pre_hook(_load_plain)
        self.register_load_state_dict_post_hook(_report_plainly)

    @property
    def block(self) -> nn.Module:
        """The block behind the module."""
        return self.get_submodule(self.block_name)

    def forward(self, x: Tensor) -> Tensor:
        return getattr(self, self.block_name)(self.module(x))

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            if name.startswith("__"):  # how the module is copied, say, is not how the wrapper is
                raise
            return getattr(super().__getattr__("module"), name)

    def __setattr__(self, name: str, value: Any) -> None:
        module = self.__dict__.get("_modules", {}).get("module")
        own = name in self.__dict__ or name in self.__dict__.get("_modules", ()) or hasattr(type(self), name)
        if module is not None and not own and hasattr(module, name):
            setattr(module, name, value)
        else:
            super().__setattr__(name, value)

    def __getitem__(self, index: Any) -> Any:
        return self.module[index]  # type: ignore[index]


def _plain(name: str, prefix: str) -> str:
    """A key below a wrapper as it is without the wrapper: ``bn.module.weight`` is ``bn.weight``."""
    return prefix + name.removeprefix(f"{prefix}module.") if name.startswith(f"{prefix}module.") else name


def _rename(names: MutableMapping[str, Any], prefix: str, renamed: Callable[[str], str]) -> None:
    """Renames the keys that begin with a prefix, all of them anew, so that their order stays."""
    for name in [name for name in names if name.startswith(prefix)]:
        names[renamed(name)] = names.pop(name)


def _save_plainly(_wrapper: nn.Module, state_dict: Any, prefix: str, _metadata: Any) -> None:
    _rename(state_dict, prefix, lambda name: _plain(name, prefix))
    versions = getattr(state_dict, "_metadata", {})
    _rename(versions, prefix, lambda name: _plain(name, prefix))
    if f"{prefix}module" in versions:
        versions[prefix[:-1]] = versions.pop(f"{prefix}module")


def _load_plain(wrapper: Attached, state_dict: MutableMapping[str, Any], prefix: str, *_rest: Any) -> None:
    wrapper._loaded_prefix = prefix  # the hook after loading is told none

    def inside(name: str) -> str:
        of_block = name.startswith(f"{prefix}{wrapper.block_name}.")
        return name if of_block else f"{prefix}module.{name.removeprefix(prefix)}"

    _rename(state_dict, prefix, inside)


def _report_plainly(wrapper: Attached, incompatible: Any) -> None:
    for names in (incompatible.missing_keys, incompatible.unexpected_keys):
        names[:] = [_plain(name, wrapper._loaded_prefix) for name in names]
