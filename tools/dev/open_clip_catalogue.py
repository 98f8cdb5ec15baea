"""Walk all architectures of open_clip: which image towers are supported, and why others are not.

Builds each tower on the meta device, without memory or download. It takes about a minute.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import open_clip

from mmtagclip.clip.loading import check_vision_config

RECORD = Path(__file__).parents[2] / 'tests/clip/towers/catalogue.json'


def walk(names: list[str] | None = None) -> dict[str, str | None]:
    """Why each architecture is refused; None if it is accepted.

    Args:
        names: The architectures; all if None.
    """
    found: dict[str, str | None] = {}
    for name in open_clip.list_models() if names is None else names:
        try:
            check_vision_config(open_clip.get_model_config(name), name)
            found[name] = None
        except ImportError:  # of the text tower's library; the image tower is supported
            found[name] = None
        except ValueError as error:
            found[name] = str(error)
    return found


def counts(found: dict[str, str | None]) -> dict[str, Any]:
    """Numbers of architectures and of tags of weights, accepted and all."""
    tags = {name: len(open_clip.list_pretrained_tags_by_model(name)) for name in found}
    accepted = [name for name, why in found.items() if why is None]
    return {
        'architectures': [len(accepted), len(found)],
        'tags': [sum(tags[name] for name in accepted), sum(tags.values())],
    }


def lost(before: dict[str, str | None], now: dict[str, str | None]) -> list[str]:
    """Architectures that were accepted and are no longer, with the reason."""
    return [
        f'{name}: {now.get(name, "open_clip has it no more")}'
        for name, why in before.items()
        if why is None and now.get(name, '') is not None
    ]


def main() -> None:
    """Print the table; compare or write the recorded one."""
    parser = argparse.ArgumentParser(description=__doc__)
    choice = parser.add_mutually_exclusive_group()
    choice.add_argument('--check', action='store_true', help='exit 1 if an accepted name is lost')
    choice.add_argument('--write', action='store_true', help=f'write {RECORD.name}')
    args = parser.parse_args()
    found = walk()
    for name, why in found.items():
        print(f'{name:40} {"accepted" if why is None else why}')
    numbers = counts(found)
    for what, (some, everything) in numbers.items():
        print(f'{some} of {everything} {what}')
    if args.write:
        content = {'open_clip': open_clip.__version__, **numbers, 'refused': found}
        RECORD.write_text(json.dumps(content, indent=1) + '\n')
    if args.check:
        gone = lost(json.loads(RECORD.read_text())['refused'], found)
        sys.exit('\n'.join(['no longer accepted:', *gone]) if gone else 0)


if __name__ == '__main__':
    main()
