"""What a tree shows to the outside: public signatures, and configurations by official name."""

import importlib
import inspect
import pkgutil
import re
from collections.abc import Iterator
from types import ModuleType
from typing import Any

from validation.architectures.records import Parameter, Surface

_PACKAGE = "transformer_lens"
_ADDRESS = re.compile(r" at 0x[0-9a-f]+")


def look_at_surface() -> Surface:
    """Of the tree that is imported."""
    import transformer_lens

    signatures: dict[str, tuple[Parameter, ...]] = {}
    unimportable: list[str] = []
    for module in _modules(transformer_lens, unimportable):
        for name, member in _public(module):
            if (found := _signature(member)) is not None:
                signatures[f"{module.__name__}.{name}"] = found
    return Surface(
        signatures=signatures,
        unimportable=tuple(unimportable),
        configurations=_official_configurations(),
    )


def _modules(package: ModuleType, unimportable: list[str]) -> Iterator[ModuleType]:
    yield package
    for found in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
        if found.name.endswith("__main__"):
            continue
        try:
            yield importlib.import_module(found.name)
        except Exception:  # it needs what is not installed, in both trees or in one
            unimportable.append(found.name)


def _public(module: ModuleType) -> Iterator[tuple[str, Any]]:
    """Functions and classes that the module defines itself; their methods, inherited ones too."""
    for name, member in vars(module).items():
        if name.startswith("_") or getattr(member, "__module__", None) != module.__name__:
            continue
        if inspect.isfunction(member):
            yield name, member
        elif inspect.isclass(member):
            yield name, member
            for own in dir(member):
                method = _bare(inspect.getattr_static(member, own))
                if not own.startswith("_") and _is_upstreams(method):
                    yield f"{name}.{own}", method


def _is_upstreams(method: Any) -> bool:
    """Whether it is a function of the package's own, and not of a class that it inherits from."""
    is_function = inspect.isfunction(inspect.unwrap(method))
    return is_function and str(method.__module__).startswith(_PACKAGE)


def _bare(method: Any) -> Any:
    return getattr(method, "__func__", method)


def _signature(member: Any) -> tuple[Parameter, ...] | None:
    try:
        parameters = inspect.signature(member).parameters.values()
    except (TypeError, ValueError):  # written in C
        return None
    return tuple(
        Parameter(
            name=parameter.name,
            kind=parameter.kind.name,
            default=_shown(parameter.default),
        )
        for parameter in parameters
    )


def _shown(default: Any) -> str | None:
    return None if default is inspect.Parameter.empty else _ADDRESS.sub("", repr(default))


def _official_configurations() -> dict[str, dict[str, str]]:
    """Every official name's that is written in the tree; others are the hub's."""
    from transformer_lens import loading_from_pretrained as loading

    found = {}
    for name in loading.OFFICIAL_MODEL_NAMES:
        try:
            cfg = loading.get_pretrained_model_config(name, device="cpu")
        except Exception:  # it asks the hub, which is offline; each library says so its own way
            continue
        found[name] = shown_configuration(cfg)
    return found


def shown_configuration(cfg: Any) -> dict[str, str]:
    """Every field in text, exact to the last bit."""
    return {name: _exact(value) for name, value in cfg.to_dict().items()}


def _exact(value: Any) -> str:
    # 10000 and 10000.0 are one number.
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return repr(float(value) if is_number else value)
