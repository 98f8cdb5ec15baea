"""Make the pictures of README and docs: docs/pictures.

python tools/dev/make_pictures.py              # all
python tools/dev/make_pictures.py demo method  # some

The pages need chromium and chromedriver (Debian: apt-get install chromium chromium-driver), and
pip install -e '.[web,dev]'; the notebook also needs pip install nbconvert
ipykernel.
"""

import argparse
import io
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from PIL import Image

from mmtagclip.cli.common import DEMO

ROOT = Path(__file__).resolve().parents[2]
OUT = ROOT / 'docs/pictures'
SCENE = '000051'


def main() -> int:
    """Run the script."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('which', nargs='*', choices=[*PICTURES, []], help='which (default: all)')
    args = parser.parse_args()
    OUT.mkdir(exist_ok=True)
    for name in args.which or PICTURES:
        for path in PICTURES[name]():
            print(f'{path.relative_to(ROOT)}: {path.stat().st_size / 1000:.0f} kB')
    return 0


def save(name: str, image: Image.Image, width: int) -> Path:
    """Write a picture of this width."""
    height = round(image.height * width / image.width)
    path = OUT / f'{name}.jpg'
    small = image.convert('RGB').resize((width, height), Image.Resampling.LANCZOS)
    small.save(path, quality=86, subsampling=0, optimize=True)
    return path


def demo() -> Iterator[Path]:
    """A scene of `mmtagclip demo`."""
    from mmtagclip import cli

    with tempfile.TemporaryDirectory() as folder:
        cli.main(['demo', '--out', folder])
        with Image.open(f'{folder}/{SCENE}.png') as drawn:
            yield save('demo', drawn, 1600)


# Boxes of the diagram: left, top, width, height, colour, and lines of text.
BLUE, GREEN, ORANGE, PINK, GREY = '#0072b2', '#00795a', '#b35000', '#a0457a', '#5f6670'
BOXES = (
    (20, 20, 290, 64, GREY, 'image'),
    (340, 20, 290, 64, GREY, 'class names, background names'),
    (20, 128, 290, 84, BLUE, 'CLIP, image encoder', 'last block changed', 'features of patches'),
    (340, 128, 290, 84, BLUE, 'CLIP, text encoder', 'prompts', 'a feature for each name'),
    (20, 262, 610, 64, GREEN, 'compare: a score for each name at each patch'),
    (20, 376, 290, 84, ORANGE, 'DMAR', 'spread scores along the attention', 'between patches'),
    (
        20,
        504,
        290,
        84,
        ORANGE,
        'CWR',
        'crop the region of each candidate,',
        'show it to CLIP again',
    ),
    (20, 632, 290, 60, ORANGE, 'tags'),
    (
        340,
        376,
        290,
        84,
        PINK,
        'direct segmentation',
        'the best name at each pixel,',
        'of all names or of the tags',
    ),
    (
        340,
        504,
        290,
        84,
        PINK,
        'CLS-SEG',
        'a class activation map for each tag,',
        'spread along the attention',
    ),
    (340, 632, 290, 60, PINK, 'masks'),
)
ARROWS = (
    ((165, 84), (165, 128)),
    ((485, 84), (485, 128)),
    ((165, 212), (165, 262)),
    ((485, 212), (485, 262)),
    ((165, 326), (165, 376)),
    ((485, 326), (485, 376)),
    ((165, 460), (165, 504)),
    ((165, 588), (165, 632)),
    ((310, 662), (325, 662), (325, 418), (340, 418)),
    ((325, 546), (340, 546)),
    ((630, 418), (646, 418), (646, 662), (630, 662)),
    ((485, 588), (485, 632)),
)


def method() -> Iterator[Path]:
    """The diagram of the method, as SVG that is readable on light and dark pages."""
    parts = [
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 666 712" role="img" '
        'font-family="system-ui, sans-serif" text-anchor="middle">',
        '<title>Patches of an image are compared with class names; the scores become tags and '
        'masks.</title>',
        '<defs><marker id="end" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="7" '
        'markerHeight="7" orient="auto-start-reverse"><path d="M0 0 10 5 0 10z" fill="#888"/>'
        '</marker></defs>',
    ]
    for points in ARROWS:
        path = ' '.join(f'{x},{y}' for x, y in points)
        parts.append(
            f'<polyline points="{path}" fill="none" stroke="#888" stroke-width="2.5" '
            'marker-end="url(#end)"/>'
        )
    for left, top, width, height, colour, title, *lines in BOXES:
        parts.append(
            f'<rect x="{left}" y="{top}" width="{width}" height="{height}" rx="10" '
            f'fill="{colour}"/>'
        )
        middle = left + width / 2
        first = top + height / 2 + 6 - 9.5 * len(lines)
        parts.append(
            f'<text x="{middle}" y="{first}" fill="#fff" font-size="16" font-weight="600">'
            f'{title}</text>'
        )
        for number, line in enumerate(lines, 1):
            parts.append(
                f'<text x="{middle}" y="{first + 20 * number}" fill="#fff" font-size="15">'
                f'{line}</text>'
            )
    path = OUT / 'method.svg'
    path.write_text('\n'.join([*parts, '</svg>', '']))
    yield path


@contextmanager
def browser(width: int, height: int, dark: bool = False, scale: float = 1) -> Iterator[Any]:
    """A browser without a window."""
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which('chromium') or shutil.which('google-chrome')
    with tempfile.TemporaryDirectory() as profile:
        for option in (
            '--headless',
            '--no-sandbox',
            '--disable-gpu',
            '--hide-scrollbars',
            f'--user-data-dir={profile}',
        ):
            options.add_argument(option)
        service = webdriver.ChromeService(shutil.which('chromedriver'))
        driver = webdriver.Chrome(options=options, service=service)
        try:
            driver.execute_cdp_cmd(
                'Emulation.setDeviceMetricsOverride',
                {
                    'width': width,
                    'height': height,
                    'deviceScaleFactor': scale,
                    'mobile': width < 600,
                },
            )
            scheme = {'name': 'prefers-color-scheme', 'value': 'dark' if dark else 'light'}
            driver.execute_cdp_cmd('Emulation.setEmulatedMedia', {'features': [scheme]})
            yield driver
        finally:
            driver.quit()


def screenshot(driver: Any) -> Image.Image:
    """What the browser shows."""
    return Image.open(io.BytesIO(driver.get_screenshot_as_png()))


def page() -> Iterator[Path]:
    """The web page: wide, dark, and on a telephone."""
    from mmtagclip.apis import SegInferencer
    from mmtagclip.web.connections import make_server
    from mmtagclip.web.server import make_app

    app = make_app(SegInferencer(DEMO['segment'], show_progress=False), DEMO['segment'])
    server = make_server(app, app.state.server.limits)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        thread.join(0.05)
    address = f'http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}'
    try:
        for name, width, height, dark, scale in (
            ('page_wide', 1280, 1000, False, 1),
            ('page_dark', 1280, 1000, True, 1),
            ('page_narrow', 390, 844, False, 2),
        ):
            with browser(width, height, dark, scale) as driver:
                driver.get(address)
                until(driver, "return document.querySelectorAll('#examples button').length")
                driver.execute_script("document.querySelector('#examples button').click()")
                until(
                    driver, "return /tags?\\.$/.test(document.getElementById('status').textContent)"
                )
                until(driver, SHOWN)
                yield save(name, screenshot(driver), width)
    finally:
        server.should_exit = True
        thread.join(10)


ANSWERED = "return /tags?\\.$/.test(document.getElementById('status').textContent)"
SHOWN = (
    'return [...document.images].filter(i => i.offsetParent)'
    '.every(i => i.complete && i.naturalWidth > 0)'
)


def until(driver: Any, condition: str, seconds: float = 120) -> None:
    """Wait for a condition in JavaScript."""
    end = time.monotonic() + seconds
    while not driver.execute_script(condition):
        if time.monotonic() > end:
            raise TimeoutError(condition)
        time.sleep(0.1)


def notebook() -> Iterator[Path]:
    """The bundled notebook, with its outputs."""
    import nbformat
    from nbclient import NotebookClient
    from nbconvert import HTMLExporter

    book = nbformat.read(ROOT / 'demo/tagclip.ipynb', as_version=4)
    if not any(cell.get('outputs') for cell in book.cells):
        NotebookClient(book, timeout=600, resources={'metadata': {'path': str(ROOT)}}).execute()
    for cell in book.cells:  # no warnings of other packages
        if 'outputs' in cell:
            cell.outputs = [one for one in cell.outputs if one.get('name') != 'stderr']
    body, _ = HTMLExporter().from_notebook_node(book)
    with tempfile.TemporaryDirectory() as folder, browser(1000, 1400) as driver:
        path = Path(folder, 'notebook.html')
        path.write_text(body, encoding='utf-8')
        driver.get(path.as_uri())
        until(driver, SHOWN)
        yield save('notebook', screenshot(driver), 1000)


PICTURES = {'method': method, 'demo': demo, 'page': page, 'notebook': notebook}

if __name__ == '__main__':
    sys.exit(main())
