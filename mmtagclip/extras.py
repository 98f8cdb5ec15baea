"""How to install what only some commands need."""

from importlib.util import find_spec


def install(extra: str) -> str:
    """Say how to install an extra of this package; no package index has the package itself.

    Args:
        extra: Name of the extra, such as ``'web'``.

    Returns:
        ``pip install -e '.[web]' in your clone of mmtagclip``.
    """
    return f"pip install -e '.[{extra}]' in your clone of mmtagclip"


def require(module: str, extra: str, what: str) -> None:
    """Refuse what needs a package that is not installed, without importing it.

    Args:
        module: Name of the package.
        extra: The extra that brings it.
        what: What needs it, for the message.

    Raises:
        ImportError: The package is not installed.
    """
    if find_spec(module) is None:
        raise ImportError(f'{what} needs {module}: {install(extra)}')
