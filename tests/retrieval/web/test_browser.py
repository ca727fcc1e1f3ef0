"""The page in a real browser: typed into, played, filtered, uploaded to, with and without JavaScript, keys alone too.

Whatever a test does, it fails on a script's error, on anything that the content security policy stops, and on a request
that would leave 127.0.0.1.
"""

from __future__ import annotations

import base64
import re
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.retrieval.web.conftest import ENDLESS, GONE, HOSTILE, SCRIPT, TURNED
from tests.support.audio import write_tone

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
CHROMIUM = shutil.which("chromium")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")

FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
TIMEOUT_MS = 20_000
PHONE, DESKTOP = {"width": 360, "height": 780}, {"width": 1280, "height": 900}
PLAYING = "[...document.querySelectorAll('audio')].filter(a => !a.paused).map(a => a.closest('.clip')?.id ?? 'one')"
WATCH = "document.addEventListener('securitypolicyviolation', e => console.error('CSP: ' + e.violatedDirective))"

Open = Callable[..., Any]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """One browser with an empty profile that it makes itself; each test has a context of its own."""
    with sync_api.sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield started
        started.close()


@pytest.fixture
def visit(browser: Any, address: str) -> Iterator[Open]:
    """Open a page in a context of its own; what went wrong in any of them fails the test at its end."""
    wrong: list[str] = []
    contexts = []

    def listen(page: Any) -> None:
        page.on("pageerror", lambda error: wrong.append(f"error: {error}"))
        page.on("request", lambda request: wrong.extend(_outside(request.url)))
        page.on("console", lambda message: wrong.extend(_complaint(message)))

    def open_page(path: str = "/", **options: Any) -> Any:
        context = browser.new_context(base_url=address, **({"viewport": DESKTOP} | options))
        contexts.append(context)
        context.set_default_timeout(TIMEOUT_MS)
        context.on("page", listen)
        context.add_init_script(WATCH)
        page = context.new_page()
        page.goto(path)
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert wrong == []


def _outside(url: str) -> list[str]:
    parts = urlsplit(url)
    return [] if parts.scheme in ("data", "blob") or parts.hostname == "127.0.0.1" else [f"asked for {url}"]


def _complaint(message: Any) -> list[str]:
    expected = re.match(r"Failed to load resource: the server responded with a status of 4\d\d", message.text)
    return [message.text] if message.type in ("error", "warning") and not expected else []


def count(page: Any) -> str:
    return str(page.text_content("#count"))


def path(page: Any) -> str:
    parts = urlsplit(page.url)
    return parts.path + (f"?{parts.query}" if parts.query else "")


def until(page: Any, expression: str) -> None:
    """Wait until an expression is true; the driver's own way evaluates strings, which the page's policy forbids."""
    end = time.monotonic() + TIMEOUT_MS / 1000
    while not page.evaluate(expression):
        assert time.monotonic() < end, f"it did not come to {expression}"
        page.wait_for_timeout(20)


def play_round(page: Any) -> None:
    """Let sounds begin again at their end: none may be over before a slow machine looks."""
    page.eval_on_selector_all("audio", "all => all.forEach(each => { each.loop = true; })")


def wait_until_playing(page: Any, name: str) -> None:
    """Wait until a clip's sound has really gone on, and see that it is the only one."""
    until(page, f"document.querySelector({f'#{name} audio'!r}).currentTime > 0.1")
    assert page.evaluate(PLAYING) == [name]


@pytest.fixture
def tone(tmp_path: Path) -> Path:
    return write_tone(tmp_path / "my own tone.wav", seconds=0.7, freq=750.0)


def test_type_play_filter_and_go_back(visit: Open) -> None:
    page = visit()
    page.fill("#q", "a low tone")
    page.press("#q", "Enter")
    page.wait_for_selector(".clip")
    assert path(page) == "/?q=a+low+tone"
    assert count(page) == "1 to 10 of 18 clips, best first."
    assert page.title() == "a low tone · WavText5K"
    until(page, "document.querySelector('#live').textContent.startsWith('1 to 10 of 18')")

    play_round(page)
    first, second = (page.locator(".clip:has(audio)").nth(place) for place in (0, 1))
    names = [each.get_attribute("id") for each in (first, second)]
    for each, name in zip((first, second), names, strict=True):
        each.locator("audio").click(position={"x": 20, "y": 20})
        wait_until_playing(page, name)  # the other has stopped

    page.click(".clip .tags a:has-text('even')")
    page.wait_for_url("**tag=even")
    assert count(page) == "6 clips, best first."
    page.click(".filters summary")
    page.check("input[name=license][value='cc0-1.0']")
    page.fill("input[name=max_s]", "2.5")
    page.click(".filters button")
    page.wait_for_url("**license=cc0-1.0")
    assert path(page) == "/?q=a+low+tone&tag=even&max_s=2.5&license=cc0-1.0"
    assert count(page) == "1 clip, best first."
    page.click(".chips a:has-text('licence')")
    page.wait_for_url("**tag=even&max_s=2.5")
    assert count(page) == "4 clips, best first."

    for left in ("/?q=a+low+tone&tag=even&max_s=2.5&license=cc0-1.0", "/?q=a+low+tone&tag=even", "/?q=a+low+tone"):
        page.go_back()
        page.wait_for_selector(".clip")
        assert path(page) == left
        is_filtered = "license" in left  # the form says what the address does, and the next search asks for
        assert page.is_checked("input[name=license][value='cc0-1.0']") == is_filtered
        assert page.input_value("input[name=max_s]") == ("2.5" if is_filtered else "")
    assert page.input_value("#q") == "a low tone"
    page.go_forward()
    assert count(page) == "6 clips, best first."
    page.click(".chips a")
    page.click("a[rel=next]")
    page.wait_for_url("**page=2")
    assert count(page) == "11 to 18 of 18 clips, best first."


def test_more_like_this_and_the_clip_s_own_page(visit: Open) -> None:
    page = visit("/?q=a+low+tone&tag=even")
    page.click("#clip-soundbible-4 >> text=More like this")
    page.wait_for_url("**like=soundbible-4&tag=even")
    assert page.text_content(".subject h2") == "Tone 4"
    assert count(page) == "5 clips, best first."
    page.click(".subject h2 a")
    page.wait_for_url("**/clip/soundbible-4")
    page.locator("article audio").click(position={"x": 20, "y": 20})
    until(page, "document.querySelector('article audio').currentTime > 0.1")
    page.click(".pages a")
    page.wait_for_url("**like=soundbible-4")
    page.fill("#q", "something else")
    page.press("#q", "Enter")
    page.wait_for_url("**q=something+else")
    assert path(page) == "/?q=something+else"


def test_upload_a_sound_and_go_on_from_its_words(visit: Open, tone: Path) -> None:
    page = visit("/?tag=tone")
    page.click("#upload summary")
    page.set_input_files("#sound", tone)
    page.click("#upload button")
    page.wait_for_url("**sound=*&tag=tone")
    assert page.text_content("h1").strip() == "Clips that sound like my own tone.wav"
    assert count(page) == "1 to 10 of 12 clips, best first."
    assert page.locator(".fitting li").count() == 5
    page.click(".fitting li a >> nth=0")
    page.wait_for_url("**q=*")
    page.go_back()
    page.wait_for_url("**sound=*")
    assert page.text_content("#upload button") == "Find sounds like it"
    assert page.is_enabled("#upload button")


def drop(page: Any, name: str, content: bytes, *, repeat: int = 1) -> None:
    """Drop a file onto the page; its content may be repeated, rather than sent into the browser as often."""
    data = page.evaluate_handle(
        """([name, content, repeat]) => {
            const bytes = Uint8Array.from(atob(content), c => c.charCodeAt(0));
            const data = new DataTransfer();
            data.items.add(new File(Array(repeat).fill(bytes), name, {type: "audio/wav"}));
            return data;
        }""",
        [name, base64.b64encode(content).decode(), repeat],
    )
    page.dispatch_event("main", "dragover", {"dataTransfer": data})
    assert page.evaluate("document.body.classList.contains('dropping')")
    assert page.is_visible("#upload .drop")
    page.dispatch_event("main", "drop", {"dataTransfer": data})


def test_drop_a_sound_anywhere(visit: Open, tone: Path) -> None:
    page = visit("/?q=rain&split=train")
    drop(page, "dropped.wav", tone.read_bytes())
    page.wait_for_url("**sound=*&split=train")
    assert page.text_content("h1").strip() == "Clips that sound like dropped.wav"


def test_a_file_that_is_too_large_is_not_even_sent(visit: Open) -> None:
    page = visit()
    sent: list[str] = []
    page.on("request", lambda request: sent.append(request.method))
    drop(page, "large.wav", bytes(2**20), repeat=51)
    assert page.text_content("#upload-problem").startswith("That file has 51 MB; at most 50 are taken.")
    assert path(page) == "/"
    assert not page.evaluate("document.body.classList.contains('dropping')")
    assert "POST" not in sent


def test_what_is_no_sound_is_said_on_the_page(visit: Open) -> None:
    page = visit()
    drop(page, "notes.wav", b"no sound at all")
    page.wait_for_url("**/sound")
    assert page.text_content("[role=alert] h1") == "That sound could not be read"
    assert page.is_visible("#sound")


def test_copy_the_credit(visit: Open) -> None:
    page = visit("/clip/soundbible-2", permissions=["clipboard-read", "clipboard-write"])
    page.click("article .copy")
    page.wait_for_selector("article .copy:text-is('Copied')")
    assert page.evaluate("navigator.clipboard.readText()") == '"Bell" by Ann, CC BY 3.0'
    assert page.text_content("#live") == "Credit line copied."


def test_copy_where_a_page_may_not_write_to_the_clipboard(visit: Open) -> None:
    page = visit("/clip/soundbible-2")
    page.evaluate("Object.defineProperty(navigator, 'clipboard', {value: undefined})")
    page.click("article .copy")
    page.wait_for_selector("article .copy:text-matches('Copied|Press Ctrl')")
    assert page.evaluate("getSelection().toString()") == '"Bell" by Ann, CC BY 3.0'


def test_keys_alone(visit: Open) -> None:
    page = visit("/?q=a+low+tone&source=soundbible&tag=tone")
    assert page.is_visible("#keys")
    page.keyboard.press("/")
    assert page.evaluate("document.activeElement.id") == "q"
    page.keyboard.type("a/b j k")
    assert page.input_value("#q") == "a/b j k"
    page.keyboard.press("Enter")
    page.wait_for_url("**q=a%2Fb+j+k&**")
    play_round(page)
    names = page.evaluate("[...document.querySelectorAll('.clip')].map(c => c.id)")

    def here() -> str:
        return str(page.evaluate("document.activeElement.id"))

    page.keyboard.press("ArrowDown")
    assert here() == names[0]
    page.keyboard.press("Space")
    wait_until_playing(page, names[0])
    page.keyboard.press("j")
    assert here() == names[1]
    page.keyboard.press("Enter")
    wait_until_playing(page, names[1])
    page.keyboard.press("Space")
    until(page, f"({PLAYING}).length === 0")
    page.keyboard.press("k")
    page.keyboard.press("ArrowUp")
    assert here() == names[0]
    for _ in range(12):
        page.keyboard.press("ArrowDown")
    assert here() == names[-1]
    page.keyboard.press("j")  # there is none after it
    assert here() == names[-1]
    page.locator(f"#{names[2]} .links a").first.focus()
    page.keyboard.press("j")  # from a link within a clip, to the next
    assert here() == names[3]
    focused = page.locator(f"#{names[-1]} h3 a")
    focused.focus()
    page.keyboard.press("Enter")
    page.wait_for_url("**/clip/**")


def test_keys_are_left_to_what_has_the_focus(visit: Open) -> None:
    page = visit("/?q=a+low+tone&source=soundbible")
    page.click(".filters summary")

    def here() -> str:
        return str(page.evaluate("document.activeElement.closest('.clip')?.id ?? document.activeElement.tagName"))

    for selector, tag in (
        (".filters summary", "SUMMARY"),
        ("input[name=source]", "INPUT"),
        (".filters button", "BUTTON"),
    ):
        for key in ("ArrowDown", "ArrowUp", "j", "k", "/"):
            page.locator(selector).first.focus()
            page.keyboard.press(key)
            assert here() == tag, key
    page.locator(".brand").focus()  # neither a control nor among the results: "/" alone is ours
    page.keyboard.press("ArrowDown")
    assert here() == "A"
    page.keyboard.press("/")
    assert here() == "INPUT"
    page.locator("#content").focus()
    for held in ("Shift", "Control", "Alt", "Meta"):
        page.keyboard.press(f"{held}+ArrowDown")
        assert here() == "DIV"
    page.keyboard.press("ArrowDown")
    first = here()
    page.keyboard.press("Shift+J")
    assert here() == first == page.locator(".clip").first.get_attribute("id")


def test_keys_can_be_turned_off_for_good(visit: Open) -> None:
    page = visit("/?q=a+low+tone")
    switch = page.locator("#keys-switch")
    switch.click()
    assert switch.text_content() == "Keys: off"
    for path_ in ("/?q=a+low+tone", "/?q=another"):
        page.evaluate("document.activeElement.blur()")
        for key in ("j", "ArrowDown", "/"):
            page.keyboard.press(key)
            assert page.evaluate("document.activeElement.tagName") == "BODY"
        assert not page.is_visible("#keys")
        page.goto(path_)
    switch.click()
    assert page.is_visible("#keys")
    page.evaluate("document.activeElement.blur()")
    page.keyboard.press("j")
    assert page.evaluate("document.activeElement.className") == "clip"


def test_a_sound_that_cannot_be_played_says_so_beside_its_player(visit: Open) -> None:
    page = visit("/?q=a+low+tone&tag=even")
    page.route("**/audio.flac", lambda route: route.fulfill(body="no sound", content_type="audio/flac"))
    page.keyboard.press("j")
    for _ in range(2):
        page.keyboard.press("Space")
        page.wait_for_selector(".clip .sound .problem:visible")
        page.wait_for_timeout(200)
    assert page.locator(".problem:visible").all_text_contents() == ["This sound cannot be played."]
    assert page.text_content("#live") == "This sound cannot be played."


@pytest.mark.parametrize("scripted", [True, False])
def test_filters_that_were_only_ticked_go_along_with_a_sound(visit: Open, tone: Path, scripted: bool) -> None:
    page = visit("/?q=rain&tag=even", java_script_enabled=scripted)
    page.click(".filters summary")
    page.uncheck("input[name=tag][value=even]")
    page.check("input[name=license][value='cc0-1.0']")
    page.fill("input[name=max_s]", "1.1")
    page.click("#upload summary")
    page.set_input_files("#sound", tone)
    page.click("#upload button")
    page.wait_for_url("**sound=*")
    assert re.fullmatch(r"/\?sound=[0-9a-f]{32}&max_s=1.1&license=cc0-1.0", path(page))
    assert count(page) == "2 clips, best first."


@pytest.mark.parametrize("scripted", [True, False])
def test_enter_searches_for_the_text_though_a_sound_is_chosen(visit: Open, tone: Path, scripted: bool) -> None:
    page = visit(java_script_enabled=scripted)
    sent: list[str] = []
    page.on("request", lambda request: sent.append(f"{request.method} {request.url}"))
    page.click("#upload summary")
    page.set_input_files("#sound", tone)
    page.fill("#q", "a low tone")
    page.press("#q", "Enter")
    page.wait_for_selector(".clip")
    assert path(page) == "/?q=a+low+tone"
    page.click(".filters summary")
    page.fill("#tag", "even")
    page.press("#tag", "Enter")
    page.wait_for_url("**tag=even")
    assert path(page) == "/?q=a+low+tone&tag=even"
    assert not any(each.startswith("POST") for each in sent)
    assert not any("tone.wav" in each for each in sent if scripted)


def test_no_sound_chosen_is_said_at_once(visit: Open) -> None:
    page = visit()
    page.click("#upload summary")
    page.click("#upload button")
    assert page.text_content("#upload-problem") == "Choose a sound file first."
    assert path(page) == "/"
    without = visit(java_script_enabled=False)
    without.click("#upload summary")
    without.click("#upload button")
    without.wait_for_url("**/sound")
    assert without.text_content("[role=alert] p") == "No file was chosen."


def test_the_way_through_the_page_by_tab(visit: Open) -> None:
    page = visit("/?q=a+low+tone")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the content"
    assert page.evaluate("document.activeElement.getBoundingClientRect().top") >= 0
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "content"
    seen = []
    for _ in range(12):
        page.keyboard.press("Tab")
        seen.append(page.evaluate("document.activeElement.tagName"))
        ring = page.evaluate(
            "(s => [s.outlineStyle, parseFloat(s.outlineWidth)])(getComputedStyle(document.activeElement))"
        )
        assert seen[-1] == "AUDIO" or (ring[0] != "none" and ring[1] >= 1), seen
    assert {"A", "AUDIO"} <= set(seen)


def test_everything_but_drop_and_copy_works_without_javascript(visit: Open, tone: Path) -> None:
    page = visit(java_script_enabled=False)
    page.fill("#q", "a low tone")
    page.press("#q", "Enter")
    page.wait_for_url("**q=a+low+tone")
    assert count(page) == "1 to 10 of 18 clips, best first."
    assert not page.is_visible("#keys")
    assert not page.is_visible(".copy >> nth=0")
    assert not page.is_visible(".script")
    assert page.input_value(".credit input >> nth=0")
    page.click(".filters summary")
    page.check("input[name=source][value=soundbible]")
    page.fill("#tag", "even")
    page.click(".filters button")
    page.wait_for_url("**tag=even&source=soundbible")
    assert count(page) == "6 clips, best first."
    page.locator(".clip audio").first.click(position={"x": 20, "y": 20})
    until(page, "document.querySelector('.clip audio').currentTime > 0.1")
    page.click("#upload summary")
    page.set_input_files("#sound", tone)
    page.click("#upload button")
    page.wait_for_url("**sound=*")
    assert count(page) == "6 clips, best first."
    with page.expect_download() as download:
        page.click("text=Download >> nth=0")
    assert download.value.suggested_filename.startswith("Tone ")


CONTRAST = """() => {
    const canvas = document.createElement("canvas").getContext("2d", {willReadFrequently: true});
    const rgba = color => {
        canvas.clearRect(0, 0, 1, 1);
        canvas.fillStyle = color;
        canvas.fillRect(0, 0, 1, 1);
        return canvas.getImageData(0, 0, 1, 1).data;
    };
    const linear = v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
    const light = ([r, g, b]) => 0.2126 * linear(r / 255) + 0.7152 * linear(g / 255) + 0.0722 * linear(b / 255);
    const behind = element => {
        for (let e = element; e; e = e.parentElement) {
            const color = rgba(getComputedStyle(e).backgroundColor);
            if (color[3] === 255) return color;
        }
        return rgba("Canvas");
    };
    let worst = [99, ""];
    const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    while (walker.nextNode()) {
        const element = walker.currentNode.parentElement;
        if (!walker.currentNode.textContent.trim() || !element.checkVisibility()) continue;
        if (element.closest(".unseen, option")) continue;
        const [a, b] = [light(rgba(getComputedStyle(element).color)), light(behind(element))].sort((x, y) => y - x);
        const ratio = (a + 0.05) / (b + 0.05);
        if (ratio < worst[0]) worst = [ratio, walker.currentNode.textContent.trim().slice(0, 40)];
    }
    return worst;
}"""
"""The lowest contrast of any text with what is behind it (WCAG 2.2, 1.4.3), and that text."""
PAGES = (
    "/",
    "/?q=a+low+tone&tag=tone&max_s=3",
    "/?q=собака",
    f"/?like={GONE}&top=100",
    "/?q=x&tag=evne&min_s=60",
    "/?q=x&min_s=abc",
    "/?sound=beef",
    "/nowhere",
    f"/clip/{HOSTILE}",
    f"/clip/{ENDLESS}",
    "/api",
)


@pytest.mark.parametrize(("viewport", "scheme"), [(PHONE, "light"), (DESKTOP, "dark")], ids=["phone", "desktop"])
def test_pages_can_be_read_light_and_dark_and_never_scroll_sideways(
    visit: Open, viewport: dict[str, int], scheme: str, tone: Path
) -> None:
    page = visit(color_scheme=scheme, viewport=viewport)
    page.click("#upload summary")
    page.set_input_files("#sound", tone)
    page.click("#upload button")
    page.wait_for_url("**sound=*")
    for address in (path(page), *PAGES):
        page.goto(address)
        page.eval_on_selector_all("details", "all => all.forEach(each => { each.open = true; })")
        ratio, text = page.evaluate(CONTRAST)
        assert 4.5 <= ratio < 22, (address, text)
        assert not page.evaluate("document.documentElement.scrollWidth > innerWidth"), address
    brightness = page.evaluate("getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number)[0]")
    assert (brightness > 200) == (scheme == "light")


def test_pictures_keep_their_place_and_are_drawn(visit: Open) -> None:
    page = visit("/?q=a+low+tone")
    heights = "[...document.querySelectorAll('.picture')].map(i => i.getBoundingClientRect().height)"
    before = page.evaluate(heights)
    page.locator(".clip").last.scroll_into_view_if_needed()
    until(page, "[...document.querySelectorAll('.picture')].at(-1).naturalWidth === 480")
    assert page.evaluate(heights) == before
    assert min(before) > 60


def test_motion_is_left_out_where_it_is_not_wanted(visit: Open) -> None:
    longest = """Math.max(...[...document.querySelectorAll('*')].flatMap(
        each => getComputedStyle(each).transitionDuration.split(',').map(parseFloat)))"""
    assert visit("/", reduced_motion="reduce").evaluate(longest) == 0
    assert visit("/", reduced_motion="no-preference").evaluate(longest) > 0


def test_hostile_texts_run_nothing(visit: Open) -> None:
    page = visit()
    dialogs: list[str] = []
    page.on("dialog", lambda dialog: (dialogs.append(dialog.message), dialog.dismiss()))
    for address in (f"/clip/{HOSTILE}", f"/clip/{TURNED}", f"/?like={HOSTILE}&top=100", "/?" + "q=" + SCRIPT):
        page.goto(address)
        page.wait_for_selector(".clip")
    assert page.input_value("#q") == SCRIPT
    assert page.title() == f"{SCRIPT} · WavText5K"
    assert dialogs == []
