"""What vendors' tokens look like: data, one vendor a file, each with a constant ``PRESET``.

A file that is put here is a preset; nothing else has to name it. The name of the preset is the file's.
"""

from collections.abc import Mapping
from functools import cache
from importlib import import_module
from pkgutil import iter_modules
from types import MappingProxyType

from verifier.presets.preset import Preset


@cache
def presets() -> Mapping[str, Preset]:
    """Every preset by its name."""
    names = sorted(module.name for module in iter_modules(__path__) if module.name != "preset")
    return MappingProxyType({name: import_module(f"{__name__}.{name}").PRESET for name in names})
