"""SoundBible's present layout (seen from September 2022 on), with what leaks and what is broken in it.

What a careless selector picks up here, as on the real site: tags in the footer, players of three related sounds
under the same repeated ids, ``meta author`` (the site's owner, never the uploader), keywords twice, a cut-off
description in ``meta description``. Broken on purpose: a start tag that swallows a comment, a list that is never
closed, a second ``</main>``. Listing pages are [likely], not known: their form follows scrapers' code.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from html import escape
from urllib.parse import quote

from demo.catalogue import Clip
from demo.pages.answers import (
    Answer,
    Shelf,
    audio,
    clip_meta,
    clip_page,
    description,
    hyphenate,
    invented,
    not_found,
    page,
    redirect,
    site_rules,
)
from demo.pages.notices import SOUNDBIBLE_ABOUT, SOUNDBIBLE_TERMS, notice_page

_NUMBER_BASE, _NUMBER_STEP = 500_000_000, 97
"""A file's running number is _NUMBER_BASE + _NUMBER_STEP * id: nine digits as on the real site, and the way back."""

HOST = "http://soundbible.com"
PER_PAGE = 9

DetailPage = Callable[[Shelf, Clip], str]
ListingPage = Callable[[Shelf, str, str, list[Clip], int], str]
"""Shelf, heading, beginning of the pages' addresses, clips of all pages, number of the page."""

ROBOTS = "User-agent: *\nDisallow: /search.php\nDisallow: /blog/wp-admin/\nCrawl-delay: 0\n"
FREE = ("Public Domain", "Attribution")
"""Beginnings of the licences whose sounds stand in the royalty-free listing."""


def respond(shelf: Shelf, path: str, query: dict[str, str]) -> Answer:
    """Return what the site answers; see demo.pages.answers.Layout."""
    return route(shelf, path, query, detail=_detail, listing=_listing)


def route(shelf: Shelf, path: str, query: dict[str, str], *, detail: DetailPage, listing: ListingPage) -> Answer:
    """Return the answer to an address; both SoundBible layouts have the same addresses."""
    if rules := site_rules(shelf, path, ROBOTS):
        return rules
    if path == "/":
        return page(listing(shelf, "Newest Sounds", "free-sound-effects", shelf.newest, 1))
    if match := re.fullmatch(r"/(free-sound-effects|royalty-free-sounds)-(\d{1,9})\.html", path):
        kind, number = match[1], int(match[2])
        clips = (
            shelf.newest if kind == "free-sound-effects" else [c for c in shelf.newest if c.license.startswith(FREE)]
        )
        return page(listing(shelf, kind.replace("-", " ").title(), kind, clips, number))
    if match := re.fullmatch(r"/tags-(.+)\.html", path):
        clips = [clip for tag, clips in shelf.by_tag.items() if tag_slug(tag) == match[1] for clip in clips]
        return page(listing(shelf, f"{match[1]} Sounds", f"tags-{match[1]}", clips, 1))
    if path == "/search.php":
        found = shelf.search(query.get("q", ""))
        return page(listing(shelf, "Search", "search", found, 1))
    if path == "/grab.php":
        return _grab(shelf, query)
    if match := re.fullmatch(r"/(wav|mp3)/(.+)", path):
        return _file(shelf, match[1], match[2])
    if (match := re.fullmatch(r"/(\d{1,12})-[^/]*\.html", path)) and (clip := shelf.by_id.get(int(match[1]))):
        return clip_page(detail(shelf, clip), clip)
    if path == "/about.php":
        return page(notice_page(SOUNDBIBLE_ABOUT))
    if path in ("/terms", "/terms.php"):
        return page(notice_page(SOUNDBIBLE_TERMS))
    return not_found("No such page")


def detail_path(clip: Clip) -> str:
    """Return the address of a clip's page, relative and quoted, as links give it."""
    return quote(f"{clip.id}-{hyphenate(clip.title)}.html")


def tag_slug(tag: str) -> str:
    """Return a tag as its address has it: a hyphen for each space, case kept, nothing that would end the path."""
    return re.sub(r"[\s/?#%]", "-", tag)


def tag_links(tags: tuple[str, ...], link: str) -> list[str]:
    """Return one link for each tag, made by the given format of address and text."""
    return [link.format(quote(f"tags-{tag_slug(tag)}.html"), escape(tag)) for tag in tags]


def wav_kind(clip: Clip) -> str | None:
    """Return the kind that the WAV link leads to: WAV where there is one, else what else is not MP3."""
    kinds = [kind for kind in clip.files if kind != "mp3"]
    return "wav" if "wav" in kinds else next(iter(kinds), None)


def file_name(clip: Clip, extension: str) -> str:
    """Return the name under which a file is served: spaces and a running number, as on the real site."""
    title = re.sub(r"[^\w .()&'-]", "", clip.title)
    return f"{title}-SoundBible.com-{_NUMBER_BASE + _NUMBER_STEP * clip.id}.{extension}"


def size_bytes(shelf: Shelf, clip: Clip) -> int:
    """Return the size that the page states: that of the first file."""
    return shelf.size(clip, next(iter(clip.files)))


def cut(text: str) -> str:
    """Return a description as the site cuts it for its meta element, in the middle of a word if need be."""
    return text[:78].rstrip()


def _grab(shelf: Shelf, query: dict[str, str]) -> Answer:
    number = query.get("id", "")
    clip = shelf.by_id.get(int(number)) if re.fullmatch(r"[0-9]{1,12}", number) else None
    if clip is None:
        return not_found("No such sound")
    folder = query.get("type", "")
    kind = {"mp3": "mp3", "wav": wav_kind(clip)}.get(folder)
    if kind is None or kind not in clip.files:
        return not_found("No such file")
    return redirect(f"/{folder}/{file_name(clip, kind)}", clip=clip, is_audio=True)


def _file(shelf: Shelf, folder: str, name: str) -> Answer:
    match = re.search(r"-(\d{1,18})\.\w+$", name)
    clip = shelf.by_id.get((int(match[1]) - _NUMBER_BASE) // _NUMBER_STEP) if match else None
    if clip is not None:
        kind = "mp3" if folder == "mp3" else wav_kind(clip)
        if kind is not None and name == file_name(clip, kind):
            return audio(shelf, clip, kind)
    return not_found("No such file")


def _detail(shelf: Shelf, clip: Clip) -> str:
    title = escape(clip.title)
    head_title = f"{title} Sounds | Effects | Sound Bites | Sound Clips from SoundBible.com"
    keywords = f'<meta name="keywords" content="{escape(", ".join(clip.tags))}"/>'
    tags = "".join(tag_links(clip.tags, '<li><i class="icofont-sound-wave icofont-1x"></i> <a href="{}">{}</a></li>'))
    author = escape(clip.author)
    related = "\n".join(_related(other) for other in shelf.others(clip, 3))
    head = f"""{clip_meta(clip)}  <title>{head_title}</title>
  <meta name="author" content="Mike Koenig" />
  <meta http-equiv="Cache-control" content="public">
  {keywords}
  <meta name="description" content="{head_title} Free. Get {escape(cut(description(clip)))}...."/>


  {keywords}
"""
    return _frame(
        shelf,
        head,
        f"""<!-- ======= Cource Details Section ======= -->
    <section id="course-details" class="course-details">
      <div class="container" data-aos="fade-up">
        <div class="row">
          <div class="col-lg-8">
              <h3>{title}</h3>
              <p>
              {escape(description(clip))}              </p>
    <!-- Start Sound Item-->
    <script>
    window.dzsvg_settings = {{ merge_share_and_embed_into_one: "on" }}
    </script>

    <div class="con-maindemo" id="a-demo" style="background-color: #fffffff;">
    {_player(clip, tag_end="")}
  </div>
    <!-- End Sound Item-->

            <div class="course-info d-flex justify-content-between align-items-center">
               <div id="icon_tags">
                <ul id="icon_tag_list">
                {tags}            </div>
            </div>
          </div>

          <div class="col-lg-4">
            <div class="course-info d-flex justify-content-between align-items-center">
                <img src="img/artist/avatar-large.jpg" class="img-fluid" alt="{author}" width="130" height="130">
              <p><i class="icofont-user-male"></i> <a href="#">{author}</a></p>
            </div>
            {_fact("license", "License", escape(clip.license))}
            {_fact("download", "Downloads", f"{invented(clip, 900, 400_000):,}")}
            {_fact("file-wave", "Size", f"{size_bytes(shelf, clip) / 1e6:.3f}MB")}

             <div class="course-info d-flex justify-content-between align-items-center">
                  <a href="{HOST}/grab.php?id={clip.id}&type=mp3"><img src="img/mp3-100px.png" title="Download MP3"></a>
                  <a href="{HOST}/grab.php?id={clip.id}&type=wav"><img src="img/wav-100px.png" title="Download WAV"></a>
            </div>
          </div>
        </div>

      </div>
    </section><!-- End Cource Details Section -->

    <!-- ======= Cource Details Tabs Section ======= -->
    <section id="cource-details-tabs" class="cource-details-tabs">
      <div class="container" data-aos="fade-up">
        <div class="row">
          <div class="col-lg-9 mt-4 mt-lg-0">
            <div class="tab-content">
              <div class="tab-pane active show" id="tab-1">
                <div class="row">
                  <div class="col-lg-8 details order-2 order-lg-1">
{related}
                  </div>
                </div>
              </div>
          </div>
        </div>
      </div>
    </section><!-- End Cource Details Tabs Section -->

  </main><!-- End #main -->
        </div>
      </div>
    </section><!-- End Courses Section -->
""",
    )


def _related(clip: Clip) -> str:
    return f"""        <!-- Start Sound Item-->
          <div class="course-item">
<a href='{detail_path(clip)}'>{escape(clip.title)}</a>
    <div class="con-maindemo" id="a-demo" style="background-color: #fffffff;">
    {_player(clip)}
            </div>
          </div>
          <!-- End Sound Item-->"""


def _player(clip: Clip, *, tag_end: str = ">") -> str:
    """The player; without the end of its start tag, as on detail pages, the comment becomes attributes."""
    return f"""<div class="ap-wrapper center-ap">
    <div id="ag1" class="audiogallery skin-wave auto-init" style="opacity:50;"
      data-options='{{ "cueFirstMedia": "on", "autoplayNext": "off" }}'{tag_end}
    <!-- options for playlist in data-options -->
    <div class="items">
    <div class="audioplayer-tobe  skin-wave button-aspect-noir"
    data-type="audio"
    data-source="mp3/{escape(file_name(clip, "mp3"))}"
    data-options='{{ "skinwave_wave_mode_canvas_waves_number": {clip.id} }}'><!-- options for player in data-options -->
          </div>
        </div>
      </div>
    </div>"""


def _fact(icon: str, label: str, value: str) -> str:
    return f"""<div class="course-info d-flex justify-content-between align-items-center">
              <h5><i class="icofont-{icon} icofont-1x"></i> {label}</h5>
              <p>{value}</p>
            </div>"""


def pages_around(number: int, last: int) -> list[int]:
    """Return the page numbers that a listing links to: the first, those around it, the last."""
    return sorted({1, last, *range(max(1, number - 2), min(last, number + 2) + 1)})


def _listing(shelf: Shelf, heading: str, kind: str, clips: list[Clip], number: int) -> str:
    last = max(1, -(-len(clips) // PER_PAGE))
    items = "\n".join(_card(clip) for clip in clips[(number - 1) * PER_PAGE : number * PER_PAGE] if number > 0)
    links = "".join(
        f'<li class="page-item"><a class="page-link" href="{quote(kind)}-{n}.html">{n}</a></li>'
        for n in pages_around(number, last)
    )
    head = f'  <title>{escape(heading)} | SoundBible.com</title>\n  <meta name="author" content="Mike Koenig" />\n'
    return _frame(
        shelf,
        head,
        f"""<section id="courses" class="courses">
      <div class="container" data-aos="fade-up">
        <h2>{escape(heading)}</h2>
        <div class="row" data-aos="zoom-in" data-aos-delay="100">
{items}
        </div>
        <nav aria-label="Page navigation"><ul class="pagination justify-content-center">{links}</ul></nav>
      </div>
    </section><!-- End Courses Section -->

  </main><!-- End #main -->
""",
    )


def _card(clip: Clip) -> str:
    return f"""        <!-- Start Sound Item-->
          <div class="col-lg-4 col-md-6 d-flex align-items-stretch">
            <div class="course-item">
    {_player(clip)}
              <div class="course-content">
                <div class="d-flex justify-content-between align-items-center mb-3">
                  <h4>{escape(clip.license)}</h4>
                </div>
                <h3><a href="{detail_path(clip)}">{escape(clip.title)}</a></h3>
                <p>{escape(cut(description(clip)))}</p>
                <div class="trainer d-flex justify-content-between align-items-center">
                  <div class="trainer-profile d-flex align-items-center"><span>{escape(clip.author)}</span></div>
                </div>
              </div>
            </div>
          </div>
        <!-- End Sound Item-->"""


def _footer_tags(shelf: Shelf) -> str:
    item = '<li><i class="bx bx-chevron-right"></i> <a href="' + HOST + '/{}">{} Sounds</a></li>'
    tags = (*list(shelf.by_tag)[:4], "gun", "fart", "funny", "laugh")
    return "\n              ".join(tag_links(tags, item))


def _frame(shelf: Shelf, head: str, main: str) -> str:
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
  <meta charset="utf-8">
  <meta content="width=device-width, initial-scale=1.0" name="viewport">
{head}
  <link href="assets/css/style.css" rel="stylesheet">
</head>
<body>

  <header id="header" class="fixed-top">
    <div class="container d-flex align-items-center">
      <div class="logo mr-auto"><a href="https://soundbible.com/"><img src="img/soundbible-logo.png"></a></div>
      <nav class="nav-menu d-none d-lg-block">
        <ul>
          <li><a href="/"><i class="icofont-home"></i> Home</a></li>
          <li><a href="free-sound-effects-1.html"><i class="icofont-listening"></i> Sound Effects</a></li>
          <li><a href="royalty-free-sounds-1.html"><i class="icofont-royal"></i> Royalty Free Sounds</a></li>
          <li><a href="about.php"><i class="icofont-info-circle"></i> About</a></li>
          <li><a href="https://soundbible.com/blog/"><i class="icofont-blogger"></i> Blog</a></li>
        </ul>
      </nav><!-- .nav-menu -->
    </div>
  </header><!-- End Header -->

   <main id="main">
    <div class="breadcrumbs">
      <div class="container">
        <form class="findit" action="search.php" autocomplete="off">
          <input type="text" placeholder="Search.." name="q">
        </form>
      </div>
    </div><!-- End Breadcrumbs -->
{main}
  </main><!-- End #main -->

  <footer id="footer">
    <div class="footer-top">
      <div class="container">
        <div class="row">
          <div class="col-lg-3 col-md-6 footer-links">
            <h4>Suggested Sounds</h4>
            <ul>
              {_footer_tags(shelf)}            <ul>
            </ul>
          </div>
        </div>
      </div>
    </div>
    <div class="copyright">&copy; <strong><span>SoundBible.com</span></strong> (a stand-in)
      <a href="/terms.php">Terms</a></div>
  </footer><!-- End Footer -->
</body>

</html>"""
