"""The web page in a real browser, where one is installed."""

import io
import json
import shutil
import time

import pytest
from PIL import Image

from tests.apis.conftest import SCENES

webdriver = pytest.importorskip('selenium.webdriver', reason='selenium is not installed')
StaleElementReferenceException = pytest.importorskip(
    'selenium.common.exceptions'
).StaleElementReferenceException
CHROMIUM = (
    shutil.which('chromium') or shutil.which('chromium-browser') or shutil.which('google-chrome')
)
DRIVER = shutil.which('chromedriver')
pytestmark = pytest.mark.skipif(
    CHROMIUM is None or DRIVER is None,
    reason='no chromium with chromedriver (Debian: apt-get install chromium chromium-driver)',
)
OPTIONS = (
    '--headless',
    '--no-sandbox',
    '--disable-gpu',
    '--disable-quic',
    '--no-first-run',
    '--disable-background-networking',
    '--disable-component-update',
    '--disable-sync',
)


class Page:
    """The page, as somebody uses it."""

    def __init__(self, driver):
        self.driver = driver

    def at(self, css):
        return self.driver.find_element('css selector', css)

    def all(self, css):
        return self.driver.find_elements('css selector', css)

    def until(self, condition, seconds=30):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            try:
                if condition():
                    return
            except StaleElementReferenceException:
                pass  # the page drew this part again between finding and reading it
            time.sleep(0.05)
        raise AssertionError(f'still not so: {self.at("#status").text!r}')

    def answered(self):
        self.until(lambda: self.at('#status').text.endswith(('tags.', 'tag.', 'masks.')))
        # Every picture came.
        self.until(
            lambda: self.driver.execute_script(
                'return [...document.images].filter(i => i.offsetParent).every('
                'i => i.complete && i.naturalWidth > 0)'
            )
        )

    def tags(self):
        return [one.text.rsplit(' ', 1)[0] for one in self.all('#tags span')]

    def type(self, css, text):
        field = self.at(css)
        field.clear()
        field.send_keys(text)

    def errors(self):
        return [
            entry['message']
            for entry in self.driver.get_log('browser')
            if entry['level'] == 'SEVERE'
        ]


@pytest.fixture
def open_page(serve, model, tmp_path):
    from mmtagclip.web import make_app

    drivers = []

    def start(width=1280, height=1000, model=model):
        options = webdriver.ChromeOptions()
        options.binary_location = CHROMIUM
        for option in (*OPTIONS, f'--user-data-dir={tmp_path / "profile"}'):
            options.add_argument(option)
        (tmp_path / 'downloads').mkdir()
        options.add_experimental_option(
            'prefs', {'download.default_directory': str(tmp_path / 'downloads')}
        )
        driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
        drivers.append(driver)
        driver.execute_cdp_cmd(
            'Emulation.setDeviceMetricsOverride',
            {'width': width, 'height': height, 'deviceScaleFactor': 1, 'mobile': width < 600},
        )
        page = Page(driver)
        driver.get(serve(make_app(model, 'the demo')))
        page.until(lambda: page.all('#examples button'))
        return page

    yield start
    for driver in drivers:
        driver.quit()


def test_upload_type_see_tags_and_download(open_page, tmp_path):
    page = open_page()
    page.at('#file').send_keys(str(SCENES / '000040.jpg'))
    page.answered()
    assert page.tags() == ['bell', 'octopus', 'train']
    page.type('#classes', 'bell, zebra')
    page.at('#go').click()
    page.until(lambda: page.tags() == ['bell'])
    page.answered()
    assert [box.text for box in page.all('.stage h2')] == ['coarse', 'DMAR', 'CWR']
    assert len(page.all('.maps img')) == 2
    for kind in ('tags.json', 'masks.png'):
        page.at(f'a[href$="{kind}"]').click()
    folder = tmp_path / 'downloads'
    page.until(
        lambda: {path.name for path in folder.iterdir()} == {'000040_tags.json', '000040_masks.png'}
    )
    assert json.loads((folder / '000040_tags.json').read_text())['tags'] == ['bell']
    assert Image.open(folder / '000040_masks.png').width > 900
    assert not page.errors()


def test_sliders_answer_at_once(open_page):
    page = open_page()
    page.all('#examples button')[0].click()
    page.answered()
    before = page.tags()
    move(page, 'threshold', 0.95)
    page.until(lambda: len(page.tags()) < len(before))
    assert page.at('#threshold-value').text == '0.95'


def move(page, slider, value):
    page.driver.execute_script(
        'const slider = document.getElementById(arguments[0]); slider.value = arguments[1];'
        "slider.dispatchEvent(new Event('input'))",
        slider,
        value,
    )


def test_a_model_without_a_tagger(open_page):
    """Masks and their legend; nothing of tags, and the background's level when it is moved."""
    from mmtagclip.apis import SegInferencer

    page = open_page(model=SegInferencer('direct_demo', show_progress=False))
    assert not page.at('#threshold-row').is_displayed()
    assert page.at('#level-value').text == 'the model’s own'
    page.all('#examples button')[0].click()
    page.answered()
    assert not page.at('#steps').is_displayed()
    assert page.tags() == []
    assert page.at('#mask').is_displayed()
    names = [one.text.rsplit(' ', 1)[0] for one in page.all('#legend li')]
    assert 'pizza' in names
    assert [one.text for one in page.all('#downloads a')] == [
        'mask.png',
        'masks.png',
        'masks.json',
    ]
    move(page, 'level', 0.05)
    page.until(lambda: len(page.all('#legend li')) > len(names))
    assert page.at('#level-value').text == '0.05'
    page.type('#classes', 'train, "big, red bus"')
    page.at('#go').click()
    page.until(lambda: not any('pizza' in one.text for one in page.all('#legend li')))
    assert not page.errors()


def test_keyboard_alone(open_page):
    from selenium.webdriver.common.action_chains import ActionChains
    from selenium.webdriver.common.keys import Keys

    page = open_page()

    def focused():
        return page.driver.execute_script(
            'return document.activeElement.id || document.activeElement.title'
        )

    def tab_to(name):
        for _ in range(20):
            ActionChains(page.driver).send_keys(Keys.TAB).perform()
            if focused() == name:
                return
        raise AssertionError(f'{name} cannot be reached')

    tab_to('file')
    tab_to('Example 3')
    ActionChains(page.driver).send_keys(Keys.ENTER).perform()
    page.answered()
    tab_to('classes')
    ActionChains(page.driver).key_down(Keys.CONTROL).send_keys('a').key_up(Keys.CONTROL).send_keys(
        'train, zebra'
    ).perform()
    tab_to('go')
    ActionChains(page.driver).send_keys(Keys.SPACE).perform()
    page.until(lambda: page.tags() == ['train'])
    tab_to('threshold')
    ActionChains(page.driver).send_keys(Keys.HOME).perform()
    page.until(lambda: page.at('#threshold-value').text == '0.00')


def test_narrow_screen(open_page):
    """The results come into view by themselves, whichever asks for them."""
    page = open_page(width=390, height=800)

    def top(css):
        return page.driver.execute_script(
            'return document.querySelector(arguments[0]).getBoundingClientRect().top', css
        )

    page.all('#examples button')[0].click()
    page.answered()
    assert 0 <= top('#status') < 50
    assert top('#mask') < 400
    page.driver.execute_script('scrollTo(0, 0)')
    page.at('summary').click()
    page.type('#classes', 'pizza, ' + 'averyverylongname' * 2)
    page.at('#go').click()
    page.until(lambda: len(page.all('.stage li')) == 6)
    page.answered()
    assert 0 <= top('#status') < 50
    width = page.driver.execute_script('return document.documentElement.scrollWidth')
    assert width <= 390
    for box in page.all('.stage'):
        assert box.rect['x'] + box.rect['width'] <= 390


def test_which_names_were_used_is_said(open_page):
    page = open_page()
    page.all('#examples button')[0].click()
    page.answered()
    assert page.at('#used').text.startswith('Looked for the model’s own classes: dog, cat, ')
    assert page.at('#used').text.endswith(' and 38 more.')
    page.type('#classes', 'pizza, zebra')
    page.at('#go').click()
    page.until(lambda: page.at('#used').text == 'Looked for: pizza, zebra.')
    page.type('#classes', ' ')
    page.at('#go').click()
    page.until(lambda: page.at('#used').text.startswith('The field of classes is empty, so '))
    for step in page.all('.stage'):
        assert len(step.find_element('css selector', 'p').text.split()) > 8  # no bare jargon


def test_errors_are_shown(open_page, tmp_path):
    page = open_page()
    bad = tmp_path / 'bad.jpg'
    bad.write_bytes(b'no image')
    page.at('#file').send_keys(str(bad))
    page.until(lambda: 'not an image' in page.at('#status').text)
    assert 'error' in page.at('#status').get_attribute('class')
    page.at('#go').click()
    page.until(lambda: page.at('#status').text == 'Choose an image to begin.')


def test_a_busy_server_is_asked_again_five_times_in_all(open_page, monkeypatch):
    from starlette.exceptions import HTTPException

    from mmtagclip.web.guard import BUSY
    from mmtagclip.web.server import Line

    page = open_page()
    refusals, asked, place = 4, [], Line.place

    def busy(line, request):
        asked.append(request.url.path)
        if len(asked) <= refusals:
            raise HTTPException(429, BUSY, {'Retry-After': '0'})
        return place(line, request)

    monkeypatch.setattr(Line, 'place', busy)
    page.at('#examples button').click()
    page.answered()
    assert asked == ['/api/example/0'] * 5 + [asked[-1]]
    asked.clear()
    refusals = 5
    page.at('#examples button').click()
    page.until(lambda: 'The server is busy' in page.at('#status').text)
    assert asked == ['/api/example/0'] * 5


def test_a_dropped_image_is_taken(open_page):
    page = open_page()
    buffer = io.BytesIO()
    Image.open(SCENES / '000040.jpg').save(buffer, format='PNG')
    page.driver.execute_script(
        """
        const file = new File([new Uint8Array(arguments[0])], 'dropped.png', {type: 'image/png'});
        const data = new DataTransfer(); data.items.add(file);
        document.getElementById('drop').dispatchEvent(
            new DragEvent('drop', {dataTransfer: data, bubbles: true, cancelable: true}));
    """,
        list(buffer.getvalue()),
    )
    page.answered()
    assert 'dropped.png' in page.at('#name').text
