"""``mmtagclip models``."""

import argparse
import json
from typing import TYPE_CHECKING, Any

from ..files import default_cache_dir
from .common import OK, add_command

if TYPE_CHECKING:
    from ..apis import ModelEntry


def add_parser(commands: Any) -> None:
    """Add the command."""
    parser = add_command(
        commands,
        'models',
        'list the bundled models',
        run,
        """\
examples:
  mmtagclip models
  mmtagclip models demo
  mmtagclip models --json""",
    )
    parser.add_argument('pattern', nargs='?', default='', help='only names that contain this')
    parser.add_argument('--json', action='store_true', help='as JSON')


def run(args: argparse.Namespace) -> int:
    """``mmtagclip models``."""
    from ..apis.model_zoo import list_models

    entries = [entry for entry in list_models() if args.pattern in entry.name]
    if not entries:
        raise ValueError(f'no model has {args.pattern!r} in its name')
    found = [
        {
            'name': entry.name,
            'task': entry.task,
            'weights': weights_of(entry),
            'config': str(entry.config),
            'results': list(entry.results),
        }
        for entry in entries
    ]
    cache = default_cache_dir()
    features = list(cache.rglob('*.safetensors'))
    size = sum(path.stat().st_size for path in features)
    if args.json:
        text = {'folder': str(cache), 'classes': len(features), 'bytes': size}
        print(json.dumps({'models': found, 'text_features': text}, indent=2))
        return OK
    width = max(len(model['name']) for model in found)
    for model in found:
        line = f'{model["name"]:{width}}  {model["task"]:7}  {model["weights"]:16}'
        print(f'{line}  {"; ".join(model["results"])}'.rstrip())
    print(f'\ntext features of {len(features)} classes ({size / 1e6:.1f} MB) in {cache}')
    return OK


def weights_of(entry: 'ModelEntry') -> str:
    """Whether a model can run: where its weights are."""
    from ..clip.downloads import on_this_machine

    if entry.task == 'train':
        return 'to be trained'
    if not entry.weights:
        return 'bundled'
    here = all(map(on_this_machine, entry.weights))
    return 'on this machine' if here else 'to be downloaded'
