"""The pages for people: start and results, one clip, the API in short, and errors in the same design."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from urllib.parse import urlencode

from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from retrieval.web.errors import Refused
from retrieval.web.forms import PARAMETERS, SearchForm, parse
from retrieval.web.media import audio_response, thumbnail_response
from retrieval.web.render import Assets, Renderer, named
from retrieval.web.schema import SOUND_NAMES
from retrieval.web.service import Service
from retrieval.web.uploads import PAGE_FIELD, UploadLimits, receive_sound
from retrieval.web.views import page_values

LIKE_A_CLIP = 6
"""Clips that a clip's own page shows."""
_TITLES = {
    404: "There is no such page",
    405: "This address cannot be asked like that",
    408: "The upload took too long",
    413: "That sound is too large",
    503: "Too busy just now",
}


class Pages:
    """Endpoints that answer with HTML, and the files that those pages show."""

    def __init__(self, service: Service, limits: UploadLimits, assets: Assets) -> None:
        """Compile the templates."""
        self._service, self._limits, self._assets = service, limits, assets
        self._renderer = Renderer(assets, about=service.about, limits=limits)

    async def start(self, request: Request) -> Response:
        """Answer with the results of what the address asks, or, where it asks nothing, with what can be asked."""
        pairs = request.query_params.multi_items()
        if (kept := _tidy(pairs)) != pairs:  # a browser sends empty fields too, and addresses are for passing on
            return RedirectResponse(f"/?{urlencode(kept)}" if kept else "/", status_code=303)
        form = parse(kept)
        if form.problems:
            return self._results(form, title="That cannot be searched", sentences=form.problems.values(), status=400)
        if not (form.is_question or form.is_filtered):
            changed = await self._service.run(self._service.index.changed)
            return self._results(form, title="Find a sound", changed=changed)
        found = await self._service.find(form)
        return self._results(form, **page_values(form, found, self._service.about))

    async def sound(self, request: Request) -> Response:
        """Take an uploaded sound, and send the browser to its results, with the filters that came along."""
        if request.method != "POST":  # who loads the address of an upload that was refused
            return RedirectResponse("/", status_code=303)
        sound = await receive_sound(request, sample_rate=self._service.sample_rate, limits=self._limits)
        stored = await self._service.keep(sound)
        pairs = [(name, value) for name, value in _sent(request) if name in SOUND_NAMES]
        return RedirectResponse(f"/?{urlencode([('sound', stored.token), *pairs])}", status_code=303)

    async def clip(self, request: Request) -> Response:
        """Answer with the page of one clip."""
        form = SearchForm(like=request.path_params["key"], top=LIKE_A_CLIP)
        found = await self._service.find(form)
        assert found.clip is not None
        values = {"title": named(found.clip, 100), "clip": found.clip, "found": found, "changed": found.changed}
        return self._page("clip_page.html", {"form": SearchForm(), **values})

    async def audio(self, request: Request) -> Response:
        """Answer with a clip's FLAC."""
        return await audio_response(self._service.index, request.path_params["key"], request)

    async def thumbnail(self, request: Request) -> Response:
        """Answer with the picture of a clip's sound."""
        return await thumbnail_response(self._service.index, request.path_params["key"], request)

    async def static(self, request: Request) -> Response:
        """Answer with a file of the page itself, which a browser may keep for good."""
        try:
            content, media_type = self._assets.files[request.path_params["name"]]
        except KeyError as error:
            raise Refused(404, "There is no such file.") from error
        headers = {"cache-control": "public, max-age=31536000, immutable"}
        return Response(content, media_type=media_type, headers=headers)

    async def api(self, request: Request) -> Response:
        """Answer with the API in short."""
        base = f"{request.url.scheme}://{request.url.netloc}"
        values = {"title": "API", "base": base, "parameters": PARAMETERS, "example": self._example()}
        return self._page("api.html", {"form": SearchForm(), **values})

    def refusal(self, request: Request, status: int, message: str) -> Response:
        """Return the page that says why something was not done, with the form to try again."""
        form = parse(_sent(request))
        path = request.url.path
        title = _TITLES.get(status, "That did not work")
        if status == 404 and (form.like or path.startswith("/clip/")):
            title = "There is no such clip"
        elif form.sound and status == 404:
            title = "Not here any more"
        elif path == "/sound" and status not in _TITLES:
            title = "That sound could not be read"
        is_upload = bool(form.sound) or path == "/sound"
        form = replace(form, problems={})
        if status == 404:  # nor ask for it again, beside what is typed next
            form = replace(form, like="", sound="")
        return self._results(form, title=title, sentences=[message], is_upload=is_upload, status=status)

    def broken(self) -> Response:
        """Return the page for an error of ours; it needs neither index nor form."""
        return self._page("broken.html", {"title": "Something broke"}, status=500)

    def _example(self) -> str:
        return min(self._service.about.examples, key=len, default="rain on a tin roof")

    def _results(self, form: SearchForm, *, title: str, status: int = 200, **values: object) -> Response:
        nothing: dict[str, object] = {"found": None, "sentences": (), "changed": [], "is_upload": False}
        return self._page("results.html", {"form": form, "title": title, **nothing, **values}, status=status)

    def _page(self, template: str, values: dict[str, object], *, status: int = 200) -> Response:
        return HTMLResponse(self._renderer.page(template, values), status_code=status)


def _sent(request: Request) -> list[tuple[str, str]]:
    """Return names and values of an upload's form, as they stand there now; else those of the address."""
    return _tidy(getattr(request.state, "fields", None) or request.query_params.multi_items())


def _tidy(pairs: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """Return an address's pairs without empty ones; a text that was typed takes the place of another question.

    Nor with the name of a file that was chosen, which a browser without JavaScript sends along with a text.
    """
    kept = [(name, value) for name, value in pairs if value.strip() and name != PAGE_FIELD]
    if any(name == "q" for name, _ in kept):
        kept = [(name, value) for name, value in kept if name not in ("like", "sound")]
    return kept
