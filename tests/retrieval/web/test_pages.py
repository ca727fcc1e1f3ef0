"""The pages as any client gets them: what they say in every state, and that no text of a clip becomes markup."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote, urlencode

import pytest
from parsel import Selector

from curation.manifest import write_manifest
from retrieval.building import build_index
from retrieval.index import Index
from retrieval.web.about import describe
from retrieval.web.app import make_app
from retrieval.web.render import duration, plain, shown, web_link
from tests.retrieval.web.conftest import ENDLESS, FILE, GONE, HOSTILE, OTHER, SCRIPT, SILENT, TEXTS, TURNED, write_clip
from tests.support.webserver import Answer, ask, form, running_server
from training.models.clap import Clap

CROSS = "\N{MULTIPLICATION SIGN}"


def page(address: str, path: str, status: int = 200) -> Selector:
    answer = ask(address, path)
    assert (answer.status, answer.headers["content-type"]) == (status, "text/html; charset=utf-8"), answer.text
    return Selector(answer.text)


def search(address: str, status: int = 200, **parameters: object) -> Selector:
    return page(address, f"/?{urlencode(parameters, doseq=True)}", status)


def words(selector: Selector, query: str) -> list[str]:
    """Return the texts of elements, white space collapsed."""
    return [" ".join(" ".join(each.css("::text").getall()).split()) for each in selector.css(query)]


def card(found: Selector, key: str) -> Selector:
    [one] = found.xpath(f"//li[@id='clip-{key}']")
    return one


def test_the_start_page_says_what_can_be_asked(address: str, index: Index) -> None:
    start = page(address, "/")
    assert start.css("title::text").get() == "Find a sound · WavText5K"
    assert words(start, "dt") == ["Clips", "Sources", "Licences", "Tags"]
    assert words(start, "dd")[0].startswith("18, ")
    assert words(start, "dd")[1] == "soundbible 17 bigsoundbank 1"
    examples = start.css(".examples a::attr(href)").getall()
    assert examples
    for example in examples:
        assert page(address, example).css(".clip")
    assert start.css("html::attr(lang)").get() == "en"


def test_a_card_tells_all_that_is_known_of_a_clip(address: str) -> None:
    found = search(address, q="a low tone", top=100)
    assert found.css("title::text").get() == "a low tone · WavText5K"
    assert words(found, "#count") == ["18 clips, best first."]
    assert words(found, ".rank") == [str(rank) for rank in range(1, 19)]
    tone = card(found, "soundbible-2")
    assert words(tone, "h3") == [f"{words(tone, '.rank')[0]} Tone 2"]
    assert words(tone, ".description") == ["A steady tone, the 2th of its kind."]
    assert words(tone, ".facts span") == ["1.0 s", "soundbible", "by Ann", "CC0 1.0"]
    assert tone.css(".facts a::attr(href)").get() == "https://creativecommons.org/publicdomain/zero/1.0/"
    assert tone.css(".credit input::attr(value)").get() == '"Bell" by Ann, CC BY 3.0'
    assert tone.css(".credit button[hidden]")
    assert tone.css("audio").attrib["preload"] == "none"
    assert tone.css("audio").attrib["src"] == "/clip/soundbible-2/audio.flac"
    picture = tone.css("img").attrib
    assert (picture["width"], picture["height"], picture["loading"]) == ("480", "120", "lazy")
    assert picture["alt"] == "Waveform and spectrogram of Tone 2"
    links = dict(zip(words(tone, ".links a"), tone.css(".links a"), strict=True))
    assert list(links) == ["More like this", "Download", "Page of origin"]
    assert links["More like this"].attrib["href"] == "/?like=soundbible-2&top=100"
    assert links["Page of origin"].attrib["href"] == "https://sounds.example/2"
    assert links["Page of origin"].attrib["rel"] == "noopener noreferrer"
    assert [each.attrib["aria-label"] for each in tone.css(".links a, .credit input, .credit button, .tags")] == [
        "Tags of Tone 2",
        "Credit of Tone 2",
        "Copy credit of Tone 2",
        "More like this: Tone 2",
        "Download Tone 2",
        "Page of origin of Tone 2",
    ]
    download = ask(address, links["Download"].attrib["href"])
    assert download.headers["content-disposition"].startswith("attachment")


def test_scores_are_told_and_drawn(address: str) -> None:
    found = search(address, q="a low tone", top=100)
    hits = json.loads(ask(address, "/api/search?q=a+low+tone&top=100").body)["hits"]
    assert words(found, ".clip .number") == [f"{hit['score']:.3f}" for hit in hits]
    bars = [float(width) for width in found.css(".fill::attr(width)").getall()]
    assert bars == [max(round(hit["score"] * 100, 1), 0) for hit in hits]


def test_tags_filter_and_chips_lift(address: str) -> None:
    found = search(address, q="a low tone")
    tag = next(
        each for each in found.css(".tags a") if words(each, "*") == ["even"] or each.css("::text").get() == "even"
    )
    filtered = page(address, tag.attrib["href"])
    assert words(filtered, "#count") == ["6 clips, best first."]
    assert filtered.css("#q").attrib["value"] == "a low tone"
    assert filtered.css("input[name=tag][checked]").attrib["value"] == "even"
    narrowed = search(address, q="a low tone", tag="even", source="soundbible", license="cc-by-3.0", max_s=2)
    assert words(narrowed, ".chips a") == [
        f"Remove the filter tag even {CROSS}",
        f"Remove the filter from soundbible {CROSS}",
        f"Remove the filter licence CC BY 3.0 {CROSS}",
        f"Remove the filter at most 2 s {CROSS}",
        "Clear all",
    ]
    lifted = page(address, narrowed.css(".chips a::attr(href)").getall()[2])
    assert words(lifted, ".filters .count")[0] == "3 set"
    assert words(page(address, narrowed.css(".chips a::attr(href)").getall()[4]), "#count") == [
        "1 to 10 of 18 clips, best first."
    ]


def test_filters_count_clips_and_need_no_question(address: str) -> None:
    found = search(address, source="bigsoundbank")
    assert words(found, "#count") == ["1 clip, in the index's order. Describe a sound to rank them."]
    assert not found.css(".clip .score")
    boxes = {
        box.attrib["value"]: words(label, ".count")[0]
        for label in found.css(".choices label")
        if (box := label.css("input"))
    }
    assert boxes == {
        "soundbible": "17",
        "bigsoundbank": "1",
        "cc-by-3.0": "14",
        "cc0-1.0": "3",
        "unknown": "1",
        "train": "17",
        "test": "1",
    }
    assert found.css("#tags option[value=even]::text").get() == "6 clips"
    assert search(address, tag="tone", page=2).css(".clip h3 a::attr(href)").getall() == [
        "/clip/soundbible-8",
        "/clip/soundbible-9",
    ]


def test_more_results_come_by_pages(address: str) -> None:
    first = search(address, q="a low tone")
    assert words(first, "#count") == ["1 to 10 of 18 clips, best first."]
    second = page(address, first.css("a[rel=next]").attrib["href"])
    assert words(second, "#count") == ["11 to 18 of 18 clips, best first."]
    assert words(second, ".rank")[0] == "11"
    assert not second.css("a[rel=next]")
    assert (
        page(address, second.css("a[rel=prev]").attrib["href"]).css("#count::text").get()
        == first.css("#count::text").get()
    )
    beyond = search(address, q="a low tone", page=9)
    assert words(beyond, "#count") == ["There is no page 9: 18 clips were found."]
    assert beyond.css("#content > p a").attrib["href"] == "/?q=a+low+tone"
    assert not beyond.css(".pages a")  # the page before is empty, too
    assert words(search(address, q="a low tone", page=3), ".pages a") == ["← Better matches"]
    assert words(search(address, source="bigsoundbank", page=2), "#count") == ["There is no page 2: 1 clip was found."]


def test_nothing_found_says_which_filter_leaves_nothing(address: str) -> None:
    found = search(address, q="rain", tag=["evne", "tone"], max_s=1, source="soundbible")
    assert words(found, "#count") == ["No clip found."]
    assert words(found, ".helps li") == [
        "No clip has the tag “evne”. Try “even” Search without it (2 clips)",
        "12 clips have the tag “tone”.",
        "17 clips come from soundbible.",
        "2 clips last 1 s or less.",
    ]
    links = {
        words(each, "*")[0] if words(each, "*") else each.css("::text").get(): each.attrib["href"]
        for each in found.css(".helps a")
    }
    assert words(page(address, links["Search without it (2 clips)"]), "#count") == ["2 clips, best first."]
    assert words(page(address, links["Try “even”"]), "#count") == ["1 clip, best first."]
    lonely = search(address, q="rain", min_s=60, license=["personal-use", "x"])
    assert words(lonely, ".helps li") == ["No clip is under personal use only or x.", "No clip lasts 60 s or longer."]
    assert words(lonely, ".message > p a") == ["Search without any filter"]


@pytest.mark.parametrize(
    ("query", "sentence"),
    [
        ("q=" + "x" * 1200, "The query has 1,200 characters; at most 1,000 are read. Shorten it."),
        ("q=a&max_s=abc", "The longest duration must be a number of seconds, such as 2 or 0.5; “abc” is none."),
        ("q=a&min_s=5&max_s=2", "The shortest duration, 5 s, is above the longest, 2 s: no clip can be both."),
        ("q=a&page=0", "page must be a whole number from 1 to 1000; “0” is none."),
        ("like=a&sound=b", "Ask one thing at a time: like and sound were given together."),
    ],
)
def test_what_cannot_be_read_is_said_above_the_form(address: str, query: str, sentence: str) -> None:
    found = page(address, f"/?{query}", 400)
    assert found.css("title::text").get() == "That cannot be searched · WavText5K"
    assert words(found, "[role=alert] p")[0].startswith(sentence)
    assert found.css("form.search")
    assert not found.css(".clip")
    if "abc" in query:
        assert found.css("details.filters[open] [aria-invalid]").attrib["value"] == "abc"
        assert found.css("#problem-max_s")


@pytest.mark.parametrize(
    ("path", "title", "sentence"),
    [
        ("/?like=no-1", "There is no such clip", "There is no such clip in this index. It may have been made again"),
        ("/clip/no-1", "There is no such clip", "There is no such clip in this index."),
        ("/clip/no-1/audio.flac", "There is no such clip", "There is no such clip in this index."),
        ("/clip/" + GONE + "/thumbnail.png", "There is no such clip", "The audio of this clip can no longer be read"),
        ("/?sound=beef", "Not here any more", "That upload is not here any more: the latest 256 are kept."),
        ("/nowhere", "There is no such page", "Nothing lies at this address."),
        ("/static/style.css", "There is no such page", "There is no such file."),
        ("/static/%2fetc%2fpasswd", "There is no such page", "Nothing lies at this address."),
    ],
)
def test_what_is_not_there_is_a_page_that_helps(address: str, path: str, title: str, sentence: str) -> None:
    found = page(address, path, 404)
    assert found.css("title::text").get() == f"{title} · WavText5K"
    assert words(found, "[role=alert] p")[0].startswith(sentence)
    assert found.css("form.search")
    assert found.css(".examples a")
    assert bool(found.css("#upload details[open]")) == ("sound=" in path)


def test_empty_fields_leave_the_address_and_a_text_replaces_another_question(address: str) -> None:
    for sent, kept in (
        ("/?q=dog&tag=&tag=even&min_s=&max_s=", "/?q=dog&tag=even"),
        ("/?q=&tag=", "/"),
        ("/?q=dog&like=soundbible-1&split=test", "/?q=dog&split=test"),
        ("/?q=" + quote("собака") + "&min_s=", "/?q=" + quote("собака")),
    ):
        answer = ask(address, sent)
        assert (answer.status, answer.headers["location"]) == (303, kept)


def test_a_query_in_another_script_is_ranked_with_a_note(address: str) -> None:
    for query in ("собака лает", "犬が吠える", "كلب", "🐕 собака 808"):
        found = search(address, q=query)
        assert "few Latin letters" in words(found, ".notice")[0]
        assert len(found.css(".clip")) == 10
    for query in ("a dog", "ein Käfer, größer", "犬 dog barks", "🐕🐕", "808", "?!"):
        assert not search(address, q=query).css(".notice")


def upload(address: str, content: bytes, *, name: str = "tone.wav", path: str = "/sound") -> Answer:
    kind, body = form(("sound", name, content))
    return ask(address, path, method="POST", headers={"Content-Type": kind}, body=body)


def test_an_uploaded_sound_leads_to_its_results_and_words(address: str, collection: list[Path]) -> None:
    flac = (collection[0] / "audio" / "soundbible-5.flac").read_bytes()
    answer = upload(address, flac, name="<b>tone & co.flac", path="/sound?tag=tone&q=rain&top=5")
    assert answer.status == 303
    location = answer.headers["location"]
    assert re.fullmatch(r"/\?sound=[0-9a-f]{32}&tag=tone&top=5", location)
    found = page(address, location)
    assert words(found, "h1") == ["Clips that sound like <b>tone & co.flac"]
    assert found.css("title::text").get() == "Like <b>tone & co.flac · WavText5K"
    assert card(found, "soundbible-5").css(".rank::text").get() == "1"
    assert words(card(found, "soundbible-5"), ".number") == ["1.000"]
    fitting = found.css(".fitting li a")
    assert len(fitting) == 5
    again = page(address, fitting[0].attrib["href"])
    assert again.css("#q").attrib["value"]
    assert words(again, ".chips a") == [f"Remove the filter tag tone {CROSS}"]
    assert found.css("#upload button").attrib["formaction"] == "/sound?tag=tone&top=5"
    assert found.css("form.search input[type=hidden][name=sound]")


def test_a_file_that_is_no_sound_is_refused_on_the_page(address: str) -> None:
    for content in (b"no sound at all", b""):
        answer = upload(address, content)
        found = Selector(answer.text)
        assert 400 <= answer.status < 500
        assert words(found, "[role=alert] p")[0]
        assert found.css("#upload details[open]")
    assert Selector(upload(address, b"no sound").text).css("h1::text").get() == "That sound could not be read"
    for method in ("GET", "HEAD"):
        answer = ask(address, "/sound?tag=even", method=method)
        assert (answer.status, answer.headers["location"]) == (303, "/")


def test_a_file_uploaded_twice_has_two_names_that_others_do_not_learn(address: str, collection: list[Path]) -> None:
    content = (collection[0] / "audio" / "soundbible-5.flac").read_bytes()
    mine, theirs = (upload(address, content, name=name).headers["location"] for name in ("mine.flac", "theirs.flac"))
    assert mine != theirs
    assert words(page(address, mine), "h1") == ["Clips that sound like mine.flac"]
    assert words(page(address, theirs), "h1") == ["Clips that sound like theirs.flac"]
    page(address, f"/?sound={hashlib.sha256(content).hexdigest()[:32]}", 404)


def test_filters_that_were_not_applied_yet_go_along_with_a_sound(address: str, collection: list[Path]) -> None:
    """The page sends its whole form: what is ticked now counts, not what the address that it is sent to says."""
    content = (collection[0] / "audio" / "soundbible-5.flac").read_bytes()
    fields = [("q", "rain"), ("sound", "beef"), ("top", "5"), ("tag", "even"), ("tag", ""), ("min_s", "2,5")]
    for file, target in ((("file", "a.flac", content), "/?sound="), (("file", "a.flac", b"no sound"), "")):
        kind, body = form(*((name, None, value.encode()) for name, value in fields), file)
        answer = ask(address, "/sound?tag=tone", method="POST", headers={"Content-Type": kind}, body=body)
        if target:
            assert re.fullmatch(r"/\?sound=[0-9a-f]{32}&top=5&tag=even&min_s=2%2C5", answer.headers["location"])
            assert words(page(address, answer.headers["location"]), "#count") == ["3 clips, best first."]
            continue
        found = Selector(answer.text)
        assert found.css("#q").attrib["value"] == "rain"
        assert found.css("input[name=tag][checked]::attr(value)").getall() == ["even"]
        assert found.css("input[name=min_s]").attrib["value"] == "2.5"
        assert not found.css("input[type=hidden][name=sound]")
    refused = upload(address, b"no sound", path="/sound?tag=tone")
    assert Selector(refused.text).css("input[name=tag][checked]::attr(value)").getall() == ["tone"]


def test_the_name_of_a_file_that_was_not_sent_leaves_the_address(address: str) -> None:
    answer = ask(address, "/?q=dog&tag=&file=my+secret.wav")
    assert (answer.status, answer.headers["location"]) == (303, "/?q=dog")


def test_a_dead_question_is_not_asked_again(address: str) -> None:
    for path in ("/?like=no-1&tag=even", "/?sound=beef&tag=even"):
        found = page(address, path, 404)
        assert not found.css("form.search input[type=hidden]")
        assert found.css("input[name=tag][checked]").attrib["value"] == "even"


def test_a_tag_that_is_too_long_is_shown_again(address: str) -> None:
    found = page(address, "/?q=a&tag=even&tag=" + "x" * 301, 400)
    assert found.css("#tag[aria-invalid]").attrib["value"] == "x" * 301
    assert found.css("input[name=tag][checked]").attrib["value"] == "even"


def test_headings_and_alerts_lie_in_the_main_part(address: str) -> None:
    for path, status in (
        ("/", 200),
        ("/?q=a", 200),
        ("/?q=a&min_s=x", 400),
        ("/nowhere", 404),
        ("/clip/" + OTHER, 200),
    ):
        found = page(address, path, status)
        assert len(found.css("main h1")) == len(found.css("h1")) == 1
        assert len(found.css("main [role=alert]")) == len(found.css("[role=alert]"))
        assert found.css("main #content")
        assert found.css(".skip").attrib["href"] == "#content"


@pytest.mark.parametrize("key", [*TEXTS, OTHER])
def test_no_text_of_a_clip_becomes_markup(address: str, key: str) -> None:
    for path in (f"/clip/{key}", f"/?like={key}&top=100", "/?q=tone&top=100", "/?source=soundbible&top=100"):
        answer = ask(address, path)
        assert answer.status == 200, path
        found = Selector(answer.text)
        assert found.css("script").getall() == [found.css("script").get()]
        assert found.css("script").attrib["src"].startswith("/static/page.")
        assert not found.css("svg svg, b, [style]")
        for element in found.xpath("//*"):
            assert not [name for name in element.attrib if name.startswith("on")], element.get()
            for name in ("href", "src", "action"):
                link = element.attrib.get(name, "/")
                assert link.startswith(("/", "https://", "http://", "#")), link
                assert not link.startswith("//")
        assert "\u202e" not in found.css("title::text").get("")


def test_hostile_texts_stand_there_as_texts(address: str) -> None:
    found = page(address, f"/clip/{HOSTILE}")
    texts = TEXTS[HOSTILE]
    assert found.css("title::text").get() == f"{SCRIPT} · WavText5K"
    assert words(found, "article h1") == [SCRIPT]
    assert words(found, "article .description") == [texts["description"], *texts["captions"]]
    assert words(found, "article .tags a") == texts["tags"]
    assert [
        page(address, link).css(".clip")[0].attrib["id"] for link in found.css("article .tags a::attr(href)").getall()
    ] == [f"clip-{HOSTILE}"] * 3
    assert found.css("article .credit input").attrib["value"] == texts["attribution"]
    assert texts["author"] in words(found, "article .facts")[0]
    assert words(found, "article .links a") == ["Download"]
    assert found.css("article .facts a").attrib["href"] == "https://creativecommons.org/licenses/by/3.0/"


def test_long_turned_and_missing_texts(address: str) -> None:
    endless = page(address, f"/clip/{ENDLESS}")
    assert len(endless.css("title::text").get("")) < 150
    assert words(endless, "article h1")[0] == "x" * 399 + "…"
    assert words(endless, "article .tags a") == ["y" * 39 + "…"]
    assert words(endless, "article .tags li") == ["t" * 39 + "…", "y" * 39 + "…"]  # one is too long to filter by
    assert words(endless, "article .description") == [("word " * 1000).strip()]
    turned = page(address, f"/clip/{TURNED}")
    assert turned.css("title::text").get() == "photo gnp.exe · WavText5K"
    assert words(turned, "article h1[dir=auto]") == ["photo gnp.exe"]
    assert turned.css("article .facts bdi")
    assert words(turned, "article .links a") == ["Download"]
    silent = page(address, f"/clip/{SILENT}")
    assert words(silent, "article h1") == [SILENT]
    assert not silent.css("article .description, article .tags, article .credit")
    assert words(silent, "article .facts span") == ["1.5 s", "soundbible", "licence unknown"]
    assert words(page(address, f"/clip/{HOSTILE}"), "article .facts .file") == [FILE]
    other = page(address, f"/?like={OTHER}")
    assert words(other, ".subject h2") == ["A bell rings two times."]
    found = search(address, source="bigsoundbank")
    assert words(found, ".more summary") == ["1 more caption"]
    assert words(found, ".clip .description") == [f"A bell rings {times} times." for times in ("three", "four", "five")]


def test_a_clip_whose_file_is_gone_says_so_and_has_no_player(address: str) -> None:
    for found in (page(address, f"/clip/{GONE}").css("article"), card(search(address, q="x", top=100), GONE)):
        assert words(found, ".mute") == ["The audio of this clip cannot be read: its file has been moved or removed."]
        assert not found.css("audio, img")
        assert "Download" not in words(found, ".links a")
    assert page(address, f"/?like={GONE}").css(".subject .mute")


def test_the_page_of_a_clip_shows_others_like_it(address: str) -> None:
    found = page(address, "/clip/soundbible-4")
    assert found.css("title::text").get() == "Tone 4 · WavText5K"
    likes = json.loads(ask(address, "/api/search?like=soundbible-4&top=6").body)["hits"]
    assert [each.attrib["id"] for each in found.css(".clip")] == [f"clip-{hit['clip']['key']}" for hit in likes]
    assert words(page(address, found.css(".pages a").attrib["href"]), "#count") == ["1 to 10 of 17 clips, best first."]


def test_the_page_of_the_api_names_every_parameter(address: str) -> None:
    found = page(address, "/api")
    document = json.loads(ask(address, found.css("main a::attr(href)").get("")).body)
    assert words(found, "tbody th") == [each["name"] for each in document["paths"]["/api/search"]["get"]["parameters"]]
    assert f"curl --get {address}/api/search" in words(found, "pre")[0]


def test_all_captions_tags_and_sources_can_be_reached(run: Path, tmp_path: Path) -> None:
    many = {
        "captions": [f"A bell rings {times} times." for times in range(291)],
        "tags": [f"tag{number}" for number in range(40)],
    }
    rows = [
        write_clip(tmp_path, f"site{number}-1", hertz=300 + number, duration_s=0.2, **(many if not number else {}))
        for number in range(60)
    ]
    write_manifest(tmp_path, rows)
    build_index(run, tmp_path, tmp_path / "index")
    index = Index.open(tmp_path / "index")
    with running_server(make_app(index, index.load_model())) as address:
        found = search(address, q="a", source="site0")
        assert len(found.css("input[name=source]")) == 60
        assert words(found, ".tags a")[12:] == ["28 more tags of Bell"]
        whole = page(address, found.css(".tags a::attr(href)").getall()[-1])
        assert words(whole, "article .tags a") == many["tags"]
        assert words(found, ".more summary") == ["289 more captions"]
        assert words(found, ".more a") == ["All 291 captions"]
        assert found.css(".more a").attrib["href"] == "/clip/site0-1"
        assert words(whole, "article .description")[-291:] == many["captions"]
        assert words(found, "#tags option")[-1] == "1 clip"
        assert str(tmp_path) not in found.get() + ask(address, "/api/index").text + page(address, "/").get()


@pytest.fixture
def own(run: Path, tmp_path: Path) -> Iterator[tuple[str, Path, Clap]]:
    """The page of two clips without any text, the manifest it was made from, and the model."""
    bare = {
        "title": "",
        "description": "",
        "tags": [],
        "author": "",
        "attribution": "",
        "page_url": "",
        "source": "mine",
    }
    folder = tmp_path / "own"
    bare["source_id"] = f"{'a folder/' * 30}creak.wav"
    write_manifest(folder, [write_clip(folder, f"mine-{n}", hertz=300 * n, duration_s=0.5, **bare) for n in (1, 2)])
    build_index(run, folder, tmp_path / "index")
    index = Index.open(tmp_path / "index")
    model = index.load_model()
    with running_server(make_app(index, model)) as address:
        yield address, folder, model


def test_an_index_without_any_text_is_searched_too(own: tuple[str, Path, Clap]) -> None:
    address, folder, _ = own
    start = page(address, "/")
    assert words(start, ".examples span") == ["Try:"]
    assert "Tags" not in words(start, "dt")
    found = page(address, start.css(".examples a").attrib["href"])
    assert sorted(words(found, ".clip h3 a")) == ["mine-1", "mine-2"]
    assert not search(address, q="собака").css(".notice")
    location = upload(address, (folder / "audio" / "mine-2.flac").read_bytes()).headers["location"]
    assert words(page(address, location), ".clip h3 a")[0] == "mine-2"
    assert not page(address, location).css(".fitting")
    file = words(found, ".clip .file")[0]
    assert file.startswith("…")
    assert file.endswith("a folder/creak.wav")
    assert len(file) == 120


def test_a_manifest_that_changed_is_told_on_every_page(own: tuple[str, Path, Clap]) -> None:
    address, folder, _ = own
    assert not page(address, "/").css(".notice")
    (folder / "manifest.parquet").unlink()
    for path in ("/", "/?q=rain", "/?source=mine", "/clip/mine-1", "/?like=mine-1"):
        assert "the manifest is gone" in words(page(address, path), ".notice")[0]
        assert str(folder.parent) not in ask(address, path).text  # where it lies is the server's affair
    assert "the manifest is gone" in json.loads(ask(address, "/api/search?q=a").body)["notes"][0]
    assert "the manifest is gone" in json.loads(ask(address, "/api/index").body)["changed"][0]


def test_examples_come_from_all_over_the_index(index: Index) -> None:
    examples = describe(index).examples
    assert 1 < len(examples) <= 6
    assert all(len(text) <= 80 for text in examples)
    assert len({" ".join(text.split()[:2]) for text in examples}) == len(examples)


@pytest.mark.parametrize(
    ("address", "link"),
    [
        ("https://a.example/x?y=1", True),
        ("http://127.0.0.1:80/", True),
        ("javascript:alert(1)", False),
        (" https://a.example", False),
        ("https://a.example/a b", False),
        ("java\nscript:alert(1)", False),
        ("https:\n//a.example", False),
        ("//a.example", False),
        ("/clip/1", False),
        ("https://", False),
        ("http://[broken", False),
        ("data:text/html,x", False),
        ("", False),
    ],
)
def test_only_addresses_of_the_web_become_links(address: str, link: bool) -> None:
    assert web_link(address) == (address if link else "")


def test_numbers_and_texts_are_shown_short() -> None:
    assert [duration(seconds) for seconds in (0.123, 2.25, 59.94, 65, 3600, 7325.4)] == [
        "0.12 s",
        "2.2 s",
        "59.9 s",
        "1:05 min",
        "1:00:00 h",
        "2:02:05 h",
    ]
    assert [shown(text, 3) for text in ("abc", "abcd", "ab cd", " a\u202e ")] == ["abc", "ab…", "ab…", "a"]
    assert plain("a\u202eb\n\u200bc") == "a b c"
