"""SoundBible's old layout (archived about 2014 to 2017): tables, RDFa, and in listings an ``</html>`` ahead.

Addresses are those of the present layout. What leaks: the link "all sounds" directly after the tags, ten newest
sounds in the side bar, a table of similar sounds with licences of their own; the heading says "<title> Sound".
The ZIP link is there and leads nowhere.
"""

from __future__ import annotations

from html import escape

from demo.catalogue import Clip
from demo.pages.answers import Answer, Shelf, clip_meta, description, invented
from demo.pages.soundbible import (
    HOST,
    PER_PAGE,
    cut,
    detail_path,
    file_name,
    pages_around,
    route,
    size_bytes,
    tag_links,
)


def respond(shelf: Shelf, path: str, query: dict[str, str]) -> Answer:
    """Return what the site answers; see demo.pages.answers.Layout."""
    return route(shelf, path, query, detail=_detail, listing=_listing)


def _detail(shelf: Shelf, clip: Clip) -> str:
    title, text = escape(clip.title), escape(description(clip))
    head_title = f"{title} Sounds | Effects | Sound Bites | Sound Clips from SoundBible.com"
    head = f"""{clip_meta(clip)}<title>{head_title}</title>
<meta http-equiv="content-type" content="application/xhtml+xml; charset=UTF-8" />
<meta name="author" content="Mike Koenig" />
  <meta name="description" content="{head_title} Free. Get {escape(cut(description(clip)))}..." />
  <meta name="keywords" content="{escape(", ".join(clip.tags))}" />
"""
    tags = "".join(f"{link}, " for link in tag_links(clip.tags, "<a href='{}'>{}</a>"))
    links = "\n\t\t".join(
        f'<a href="grab.php?id={clip.id}&type={kind}" rel="nofollow"><img src="images/{kind}.png" alt="{title}"></a>'
        for kind in ("wav", "mp3", "zip")
    )
    day = f"{1 + clip.id % 12:02}.{1 + clip.id % 28:02}.{9 + clip.id % 6:02}"
    similar = "\n".join(_row(other) for other in shelf.others(clip, 8))
    return _frame(
        shelf,
        head,
        f"""    <div><a href='{HOST}' title="Main Page">Main Page</a> &gt;
     <a href='free-sound-effects-1.html' title='All Sounds'>All Sounds</a> &gt;
     <a href='#{title} Sound' title='{title} Sound Effect'>{title} Sound Effect</a>
     &gt; <a href="embed.php?q={clip.id}" rel="gb_page_center[800, 400]">[share]</a>
    </div>
    <h2>{title} Sound</h2>
    <div class="float-right"  style="padding:25px;">
    <object classid="clsid:D27CDB6E-AE6D-11cf-96B8-444553540000" width="180" height="78" hspace="0">
      <param name="movie" value="flash/rateit.swf">
      <embed src="flash/rateit.swf" flashvars="id={clip.id}&xml=xml_settings.xml"></embed>
    </object>
    </div>
    <div>
    <p>
    <param name="movie" value="specPlayer.swf" />
    <embed src="specPlayer.swf" FlashVars="song=/mp3/{escape(file_name(clip, "mp3"))}" />

    </object>

        <a name="{title} Sound"></a>
    {links}
    <div xmlns:v="http://rdf.data-vocabulary.org/#" typeof="v:Review-aggregate">
    Title: <span property="v:itemreviewed">{title}</span><br/>
    About: <span property="v:summary">{text}</span><br/>
    Uploaded: {day} |
    License: {escape(clip.license)} |
            Recorded by {escape(clip.author)} |
        File Size: {max(1, size_bytes(shelf, clip) // 1024)} KB |
    Downloads: {invented(clip, 900, 400_000)}<br/>
        <span rel="v:rating"><span typeof="v:Rating"><span property="v:average">4.{clip.id % 100:02}</span> out of
    <span property="v:best">5</span> with
    <span property="v:count">{1 + clip.id % 90}</span> user reviews
    </p>
    </div></div>
    <h3>Sound Tags:</h3>
    <div><p>
    {tags}    <a href="free-sound-effects-1.html">all sounds</a>
    </p></div>
    <table width="520">
    <tr class="row-a">
        <th width="262">Similar Sound Effects</th>
        <th width="73">Listen</th>
        <th width="169">License</th>
    </tr>
{similar}
    </table>
    <h3>More</h3>
    <p><a href='{HOST}/free-sound-effects-1.html' title='All'>All</a> | <a hre='{HOST}/share.php'>Share</a> |
""",
    )


def _row(clip: Clip) -> str:
    song = escape(file_name(clip, "mp3"))
    return f"""    <tr class="row-b">
    <td><a href='{detail_path(clip)}'><strong>{escape(clip.title)}</strong></a></td>
    <td><object width="35" height="35" id="wimpybutton1">
      <param name="flashvars" value="theFile={HOST}/mp3/{song}&autoplay=no" />
      <embed src="wimpy_button.swf" flashvars="theFile={HOST}/mp3/{song}&autoplay=no" />
    </object></td>
    <td>{escape(clip.license)}</a></td>
    </tr>"""


def _listing(shelf: Shelf, heading: str, kind: str, clips: list[Clip], number: int) -> str:
    last = max(1, -(-len(clips) // PER_PAGE))
    links = " ".join(f"<a href='{escape(kind)}-{n}.html'>{n}</a>" for n in pages_around(number, last))
    items = "\n".join(_row(clip) for clip in clips[(number - 1) * PER_PAGE : number * PER_PAGE] if number > 0)
    head = f"<title>{escape(heading)} | SoundBible.com</title>\n"
    return _frame(
        shelf,
        head,
        f"""    <h2>{escape(heading)}</h2>
    <table>
    <tr><td>Pages</td><td>{links}</td></tr>
    <tr class="row-b"><td colspan="3">Sound Effect, Listen, License</td></tr>
{items}
    <tr class="row-b"><td colspan="3">Sound Effect, Listen, License</td></tr>
    </table>
""",
        before="<html><head></head><body></body></html>\n",
    )


def _frame(shelf: Shelf, head: str, main: str, *, before: str = "") -> str:
    newest = "".join(
        f"<li><a href='/{detail_path(clip)}' title='{escape(clip.title)}'>{escape(clip.title)}&nbsp;</a></li>"
        for clip in shelf.newest[:10]
    )
    return f"""<!DOCTYPE html PUBLIC "-//W3C//DTD XHTML 1.0 Strict//EN" "http://www.w3.org/TR/xhtml1/DTD/xhtml1-strict.dtd">
{before}<html xmlns="http://www.w3.org/1999/xhtml" xml:lang="en" lang="en">
<head>
{head}<link rel="stylesheet" href="/images/freesoundclips.css" type="text/css" />
</head>
<body>
<div id="wrap">
  <div id="header">
    <h1 id="logo-text"><a href="/" title="Sound Clips">SoundBible.com</a></h1>
    <p id="slogan" class="noadd">A stand-in for the site's old pages</p>
  </div>
  <div  id="nav">
    <ul>
      <li><a href="/">Home</a></li>
      <li><a href="/free-sound-effects-1.html">Sound Effects</a></li>
      <li><a href="/royalty-free-sounds-1.html">Royalty Free Sounds</a></li>
      <li><a href="/about.php">About</a></li>
    </ul>
  </div>        <div id="content">
    <div id="main">
{main}    </div>
    <div id="sidebar">
      <h3>Sound Clips</h3>
      <ul class="sidemenu">
         {newest} <li><a href="{HOST}/free-sound-effects-1.html">All Sound Effects >></a></li>
      </ul>
    </div>
  </div>
  <div id="footer"><p>&copy; <a href="{HOST}">SoundBible.com</a> (a stand-in) |
    <a href="/terms.php">Terms</a></p></div>
</div>
</body>
</html>
"""
