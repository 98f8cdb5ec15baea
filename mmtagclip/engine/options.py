"""Options of the command line tools."""

import argparse
import re
from collections.abc import Sequence
from typing import Any

from mmengine.config import DictAction


class CfgOptions(DictAction):
    """mmengine's ``--cfg-options``, which refuses what has no ``=``, and spaces between words.

    mmengine drops these, so that ``traffic light`` would become another class.
    """

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Sequence[str] | Any,
        option_string: str | None = None,
    ) -> None:
        """Check the values, then parse them."""
        for value in values:
            if '=' not in value:
                parser.error(f'{value}: an option is KEY=VALUE')
            if re.search(r'=.*\w\s+\w', value):
                parser.error(
                    f'{value}: its spaces would get lost; put names with spaces into a '
                    'file, one a line, and give its path'
                )
        super().__call__(parser, namespace, values, option_string)
