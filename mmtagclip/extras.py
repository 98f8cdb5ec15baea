"""How to install what only some commands need."""


def install(extra: str) -> str:
    """Say how to install an extra of this package; no package index has the package itself.

    Args:
        extra: Name of the extra, such as ``'web'``.

    Returns:
        ``pip install -e '.[web]' in your clone of mmtagclip``.
    """
    return f"pip install -e '.[{extra}]' in your clone of mmtagclip"
