"""The page of serve.py in a real Chromium: `make test-browser`, which needs chromium and chromedriver."""

import base64
import math
import os
import shutil
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import parse_qs, quote, urlsplit

import pytest
import uvicorn
from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import Select, WebDriverWait
from served_folder import EVIL, EVIL_ID, make_served_folder

import predict_price
import serve
from marketplace.data_folder import DataFolder

PHOTO_LOST = "This search had a photo, which an address cannot hold: add it again."
SECONDS = 60  # at most, of one answer
DROP = """
const data = new DataTransfer();
data.items.add(new File([Uint8Array.from(atob(arguments[0]), (c) => c.charCodeAt(0))], "dropped.jpg"));
const drop = new DragEvent("drop", {dataTransfer: data, bubbles: true, cancelable: true});
document.querySelector(arguments[1]).dispatchEvent(drop);
return drop.defaultPrevented;
"""


def found_program(variable: str, *names: str) -> str:
    """Path of a program: that in an environment variable, or the first of `names` on PATH."""
    path = os.environ.get(variable) or next(filter(None, map(shutil.which, names)), None)
    if path is None:
        pytest.fail(f"{names[0]} is missing: install chromium and chromium-driver, or give its path in {variable}.")
    return path


@pytest.fixture(scope="module")
def folder(sample_folder, tmp_path_factory) -> DataFolder:
    return make_served_folder(sample_folder, tmp_path_factory.mktemp("page") / "data")


@pytest.fixture(scope="module")
def api(folder) -> serve.Api:
    return serve.Api(folder)


@pytest.fixture(scope="module")
def address(api) -> Iterator[str]:
    server = uvicorn.Server(uvicorn.Config(serve.create_app(api), port=0, **serve.SERVER))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        assert thread.is_alive()
        time.sleep(0.05)
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}/"
    server.should_exit = True
    thread.join()


@pytest.fixture(scope="module")
def browser() -> Iterator[webdriver.Chrome]:
    options = webdriver.ChromeOptions()
    options.binary_location = found_program("CHROMIUM", "chromium", "chromium-browser", "google-chrome")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    for argument in ("--headless=new", "--disable-dev-shm-usage", "--window-size=1200,1000"):
        options.add_argument(argument)
    options.add_argument("--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1")  # nothing from other hosts
    if os.geteuid() == 0:
        options.add_argument("--no-sandbox")  # Chromium refuses to run as root with it
    with webdriver.Chrome(options, Service(found_program("CHROMEDRIVER", "chromedriver"))) as browser:
        yield browser


class Page:
    """The page in the browser, and what a visitor does with it."""

    def __init__(self, browser: webdriver.Chrome, address: str):
        self.browser, self.address = browser, address
        self.expected_messages = 0  # in the console
        self.open("")

    def open(self, query: str) -> None:
        self.browser.get("about:blank")
        self.browser.get(self.address + query)
        self.wait(lambda: len(self.all("#category option")) > 1)
        self.settle()

    def one(self, selector: str):
        return self.browser.find_element(By.CSS_SELECTOR, selector)

    def all(self, selector: str):
        return self.browser.find_elements(By.CSS_SELECTOR, selector)

    def text(self, selector: str) -> str:
        return self.one(selector).text

    def texts(self, selector: str) -> list[str]:
        script = "return [...document.querySelectorAll(arguments[0])].map((element) => element.innerText)"
        return self.browser.execute_script(script, selector)

    def wait(self, condition) -> None:
        WebDriverWait(self.browser, SECONDS, 0.05).until(lambda _: condition())

    def settle(self) -> None:
        """Wait until the page has stopped working."""
        self.wait(lambda: not self.all("[aria-busy=true]") and not self.text("#status").startswith("Looking"))

    def search(self, text: str) -> None:
        self.one("#text").clear()
        self.one("#text").send_keys(text, Keys.ENTER)
        self.settle()

    def shown_photos(self) -> int:
        script = "return [...document.querySelectorAll('.cards img')].filter((image) => image.naturalWidth).length"
        return self.browser.execute_script(script)

    def query(self) -> dict[str, list[str]]:
        return parse_qs(urlsplit(self.browser.current_url).query)

    def console(self) -> list[str]:
        return [entry["message"] for entry in self.browser.get_log("browser")]


@pytest.fixture
def page(browser, address) -> Iterator[Page]:
    """The page, newly opened; at the end the console must hold only the messages that a test expects."""
    browser.get_log("browser")
    page = Page(browser, address)
    yield page
    messages = page.console()
    assert len(messages) == page.expected_messages, messages


@pytest.fixture(scope="module")
def photo(folder) -> Path:
    return sorted(folder.images.glob("*.jpg"))[5].resolve()


def test_a_text_gives_categories_a_price_and_listings(page, api):
    assert not page.one("#rank-answer").is_displayed()
    page.search("a small red bicycle")
    assert page.query() == {"text": ["a small red bicycle"]}
    bars = [float(bar.get_attribute("value")) for bar in page.all(".bars meter")]
    assert len(bars) == 5 and bars == sorted(bars, reverse=True) and bars[0] > 0
    assert page.texts(".bars li")[0].endswith("%")
    estimate = api.price_model.estimate("a small red bicycle", page.texts(".bars li span")[0])
    low, price, high = map(predict_price.pounds, (estimate.low, estimate.price, estimate.high))
    assert page.text(".price") == price and f"80% of such listings: {low} to {high}" in page.text("#price-answer")
    assert page.texts(".estimate li") == [f"× {factor.factor:.2f} {factor.feature}" for factor in estimate.factors]
    left, width = (float(page.one(".interval .range").get_attribute(name)) for name in ("x", "width"))
    assert left == pytest.approx(25 * math.log10(estimate.low))
    assert width == pytest.approx(25 * math.log10(estimate.high / estimate.low))
    assert estimate.category in page.texts(".bars li")[0] and f"in {estimate.category}" in page.text("#price-answer")
    assert len(page.all(".cards li")) == 12 and page.text("#status").startswith("The best 12 of ")
    page.wait(lambda: page.shown_photos() > 0)


def test_a_photo_gives_categories_and_listings(page, photo):
    page.one("#photo").send_keys(str(photo))
    page.settle()
    assert page.query() == {"photo": [photo.name]} and page.text("#photo-name") == photo.name
    assert page.one("#preview").is_displayed() and page.browser.execute_script(
        "return document.getElementById('preview').naturalWidth > 0"
    )
    assert len(page.all(".bars meter")) == 5 and len(page.all(".cards li")) == 12
    assert not page.one("#price-answer").is_displayed()  # a price needs words
    with_photo = page.texts(".cards h3")
    page.all(".cards button")[0].click()
    page.settle()
    page.browser.back()
    page.wait(lambda: page.texts(".cards h3") == with_photo)
    assert page.one("#preview").is_displayed()
    page.settle()
    page.browser.refresh()
    page.wait(lambda: page.text("#fault") == PHOTO_LOST)
    page.one("#photo").send_keys(str(photo))
    page.settle()
    page.one("#remove-photo").click()
    assert not page.one("#preview").is_displayed()
    page.one("#search").click()
    assert page.text("#fault") == "A text or a photo is required."


def test_a_dropped_photo_is_taken(page, photo):
    page.browser.execute_script(DROP, base64.b64encode(photo.read_bytes()).decode(), "#drop")
    page.settle()
    assert page.query() == {"photo": ["dropped.jpg"]} and len(page.all(".cards li")) == 12
    assert page.browser.execute_script(DROP, "", "h1")  # beside the box it does not open


def test_a_name_stands_beside_the_text_or_alone(page):
    page.one("#name").send_keys("Oak chair", Keys.ENTER)
    page.settle()
    assert page.query() == {"name": ["Oak chair"]} and page.all(".bars li") and page.all(".cards li")
    alone = page.text(".price")
    page.search("Some marks. " + "mahogany antique " * 20)
    assert page.query().keys() == {"name", "text"} and page.text(".price") != alone
    page.all(".cards button")[0].click()
    assert page.one("#name").get_property("value") == ""
    page.settle()


def test_filters_are_kept_and_shown(page):
    page.search("lamp")
    Select(page.one("#category")).select_by_index(3)
    chosen = Select(page.one("#category")).first_selected_option.text
    page.one("#max_price").send_keys("100")
    page.one("#near").send_keys("Reading, Berkshire")
    page.one("#within").send_keys("2000", Keys.ENTER)
    page.settle()
    assert page.query()["category"] == [chosen] and page.query()["max_price"] == ["100"]
    assert page.all(".cards li")
    for card in page.texts(".cards li"):
        assert chosen in card and " km" in card
        assert float(card.split("£")[1].split("\n")[0].replace(",", "")) <= 100
    assert f"in {chosen}, at Reading, Berkshire" in page.text("#price-answer")


def test_more_like_this_then_back_and_forward(page):
    page.search("a wooden chair")
    first = page.texts(".cards h3")
    button = page.all(".cards button")[1]
    button.send_keys(Keys.ENTER)  # by keyboard
    page.settle()
    assert first[1] in page.text("#like") and page.query().keys() == {"product"}
    liked = page.texts(".cards h3")
    assert liked != first and not page.one("#category-answer").is_displayed()
    assert page.browser.switch_to.active_element == page.one("#rank-head")
    page.browser.back()
    page.wait(lambda: page.one("#text").get_property("value") == "a wooden chair")
    page.wait(lambda: page.texts(".cards h3") == first)
    assert not page.one("#like").is_displayed() and page.one("#category-answer").is_displayed()
    page.browser.forward()
    page.wait(lambda: page.texts(".cards h3") == liked)
    assert first[1] in page.text("#like")
    page.settle()


def test_an_address_can_be_shared(page):
    page.search("blue lamp & shade")
    shown, address = page.texts(".cards h3"), page.browser.current_url
    page.open(address.removeprefix(page.address))
    assert page.texts(".cards h3") == shown
    assert page.one("#text").get_property("value") == "blue lamp & shade"
    page.open("?photo=mine.jpg")
    assert page.text("#fault") == PHOTO_LOST


def test_whatever_is_shown_is_text(page):
    page.open(f"?text={quote(EVIL)}&max_price=0.5")
    assert EVIL in page.texts(".cards h3")
    assert page.one("#text").get_property("value") == EVIL
    page.open(f"?product={EVIL_ID}")
    assert EVIL in page.text("#like")
    assert not page.all("main script") and not page.all("img[onerror]")


def test_an_error_is_a_sentence_in_its_place(page):
    page.open("?text=lamp&near=Atlantis%2C+Nowhere")
    for section in ("price", "rank"):
        assert "The place 'Atlantis, Nowhere' is unknown" in page.text(f"#{section}-answer .fault")
    assert page.text("#status") == "" and not page.all(".cards li")
    assert len(page.all(".bars meter")) == 5  # the other answers stand
    page.expected_messages = 2  # those of the answers 422
    page.open("?text=lamp&max_price=0.01")
    assert page.text("#rank-answer .fault").startswith("No listing meets these filters: allow a higher price")
    assert page.text("#status") == "No listings." and not page.all(".cards li")


def test_a_photo_that_is_too_large_is_a_sentence(page, tmp_path):
    (tmp_path / "large.jpg").write_bytes(bytes(10_000_001))
    page.one("#photo").send_keys(str(tmp_path / "large.jpg"))
    assert page.text("#fault") == "large.jpg has more than 10 MB: choose a smaller photo."


def test_a_server_that_does_not_answer_is_a_sentence(page):
    page.browser.execute_cdp_cmd("Network.enable", {})
    conditions = {"offline": True, "latency": 0, "downloadThroughput": -1, "uploadThroughput": -1}
    page.browser.execute_cdp_cmd("Network.emulateNetworkConditions", conditions)
    try:
        page.search("lamp")
        assert page.text("#rank-answer .fault") == "The server does not answer: start serve.py again."
        assert page.text("#status") == ""
    finally:
        page.browser.execute_cdp_cmd("Network.emulateNetworkConditions", conditions | {"offline": False})
    page.expected_messages = 3  # one a request


def test_a_narrow_screen_needs_no_scrolling_sideways(page):
    width = 360
    metrics = {"width": width, "height": 740, "deviceScaleFactor": 2, "mobile": True}
    page.browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    try:
        page.open("?text=" + "lamp" * 60 + "&near=Reading%2C+Berkshire")
        assert page.browser.execute_script("return document.documentElement.scrollWidth") <= width
        assert len(page.all(".cards li")) == 12
    finally:
        page.browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_the_keyboard_reaches_everything(page):
    page.search("lamp")
    page.one("#name").click()
    reached = set()
    for _ in range(30):
        ActionChains(page.browser).send_keys(Keys.TAB).perform()
        active = page.browser.switch_to.active_element
        reached.add(active.get_attribute("id") or active.text)
    assert reached >= {"text", "photo", "category", "max_price", "within", "near", "search", "More like this"}
