"""The JSON API: the page's searches for programs. What it takes and gives is described in ``schema``."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, replace
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from retrieval.index import Clip
from retrieval.web.errors import Refused
from retrieval.web.forms import PARAMETERS, SearchForm, parse, unknown_names
from retrieval.web.render import clip_address, license_link, web_link
from retrieval.web.schema import SOUND_NAMES, openapi
from retrieval.web.service import Found, Service
from retrieval.web.uploads import UploadLimits, receive_sound
from retrieval.web.views import helps

_NAMES = tuple(parameter.name for parameter in PARAMETERS)


class Api:
    """Endpoints that answer with JSON."""

    def __init__(self, service: Service, limits: UploadLimits) -> None:
        """Make the document that describes them."""
        self._service, self._limits = service, limits
        self._document = openapi()

    async def search(self, request: Request) -> Response:
        """Answer with the clips that an address asks for."""
        form = _form(request, _NAMES)
        if not form.is_question:
            raise Refused(400, "Say what to look for: q=TEXT, like=KEY or sound=TOKEN.")
        return JSONResponse(self._results(form, await self._service.find(form)))

    async def sound(self, request: Request) -> Response:
        """Take an uploaded sound and answer with the clips like it."""
        form = _form(request, SOUND_NAMES)
        sound = await receive_sound(request, sample_rate=self._service.sample_rate, limits=self._limits)
        stored = await self._service.keep(sound)
        form = replace(form, sound=stored.token)
        return JSONResponse(
            {
                "token": stored.token,
                "name": stored.name,
                "duration_s": stored.duration_s,
                "results": self._results(form, await self._service.find(form)),
            }
        )

    async def clip(self, request: Request) -> Response:
        """Answer with one clip."""
        clip, is_mute = await self._service.clip(request.path_params["key"])
        return JSONResponse(_clip(clip, is_mute))

    async def index(self, request: Request) -> Response:
        """Answer with what the index holds."""
        about, index = self._service.about, self._service.index
        return JSONResponse(
            {
                "clips": about.num_clips,
                "embed_dim": index.info.embed_dim,
                "model_sha256": index.info.model_sha256,
                "total_s": about.total_s,
                "longest_s": about.longest_s,
                "sources": about.sources,
                "licenses": about.licenses,
                "splits": about.splits,
                "tags": dict(about.common_tags),
                "changed": await self._service.run(index.changed),
            }
        )

    async def openapi(self, request: Request) -> Response:
        """Answer with the document that describes this API."""
        return JSONResponse(self._document)

    def _results(self, form: SearchForm, found: Found) -> dict[str, Any]:
        filters = [each.sentence for each in helps(form, found, self._service.about)]
        return {
            "total": found.total,
            "hits": [
                {"rank": hit.rank, "score": hit.score, "clip": _clip(hit.clip, hit.clip.key in found.mute)}
                for hit in found.hits
            ],
            "words": [asdict(word) for word in found.words],
            "notes": [*found.notes, *filters, *found.changed],
            "next": form.address("/api/search", page=form.page + 1) if found.has_more else None,
        }


def refusal(status: int, message: str) -> Response:
    """Return the answer that says why something was not done."""
    return JSONResponse({"error": message}, status_code=status)


def _form(request: Request, names: Iterable[str]) -> SearchForm:
    """Return what an address asks.

    Raises:
        Refused: If anything of it cannot be read: a program wants to know of a mistake at once.
    """
    pairs = request.query_params.multi_items()
    form = parse(pairs)
    if problems := [*unknown_names(pairs, names), *form.problems.values()]:
        raise Refused(400, " ".join(problems))
    return form


def _clip(clip: Clip, is_mute: bool) -> dict[str, Any]:
    return {
        "key": clip.key,
        "clip_id": clip.clip_id,
        "source": clip.source,
        "source_id": clip.source_id,
        "name": clip.name,
        "title": clip.title,
        "description": clip.description,
        "captions": list(clip.captions),
        "tags": list(clip.tags),
        "author": clip.author,
        "license": clip.license,
        "license_url": license_link(clip),
        "attribution": clip.attribution,
        "page_url": web_link(clip.page_url),
        "duration_s": clip.duration_s,
        "split": clip.split,
        "has_audio": not is_mute,
        "page": clip_address(clip),
        "audio": clip_address(clip, "audio.flac"),
        "thumbnail": clip_address(clip, "thumbnail.png"),
    }
