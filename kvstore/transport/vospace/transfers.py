"""Where the bytes of a node are to be fetched, or sent: transfers as the service arranges them."""

from __future__ import annotations

from kvstore.errors import TransportError
from kvstore.profiles.xmltext import attribute, text_of
from kvstore.transport.bodies import MAX_DOCUMENT
from kvstore.transport.vospace.faults import error_for, fault_name
from kvstore.transport.vospace.markup import below, document, text_in
from kvstore.transport.vospace.names import CORE, VOS, VOS_TOO
from kvstore.transport.vospace.talk import XML, Asked, FaultError, Talk, read_text

PULL, PUSH = "pullFromVoSpace", "pushToVoSpace"
_WORDS = {PULL: "get", PUSH: "put"}
_DETAILS = "/results/transferDetails"
_SMALL = 1 << 14
#: Endpoints that are looked at.
_MOST = 100


def endpoint(talk: Talk, key: str, direction: str) -> str:
    """Return the URL that a transfer goes by: of those offered the first at the service itself.

    Raises:
        FaultError: why there is none.
        StoreError: no answer came, or none that is followed.
    """
    service = talk.service()
    if service.sync is None:
        raise talk.unsupported("transfers that are arranged at once: it names no synctrans", key)
    uri = talk.uri(talk.path(key))
    body = _request(uri, direction, is_secure=service.sync.startswith("https:"))
    # Twice is as once: nothing is moved yet.
    asked = Asked(key, body, {"Content-Type": XML}, (200, 303), repeatable=True)
    answer = talk.try_to("POST", service.sync, asked)
    job = None
    if answer.status == 303:
        details = talk.target_of(answer)
        if not talk.same_origin(details):
            raise TransportError(f"The service arranged a transfer elsewhere: {details!r:.200}.")
        job = details.removesuffix(_DETAILS) if details.endswith(_DETAILS) else None
        answer = talk.try_to("GET", details, Asked(key))
    root = document(answer.read(MAX_DOCUMENT), "transfer", VOS, VOS_TOO)
    found = [text_in(one, "endpoint") for one in below(root, "protocol")][:_MOST]
    urls = [url for url in found if url]
    if not urls:
        raise _why_none(talk, key, job)
    here = [url for url in urls if talk.same_origin(url)]
    there = [url for url in urls if talk.may_go(url)]
    return (here or there or urls)[0]


def _why_none(talk: Talk, key: str, job: str | None) -> FaultError:
    """Ask the job why it has no place for the bytes."""
    text = ""
    if job is not None:
        text = read_text(talk.try_to("GET", f"{job}/error", Asked(key)), _SMALL)
    context = f"a transfer of {key!a:.200}"
    text = text or "it offers no place for the bytes, and does not say why"
    return FaultError(fault_name(text), error_for(text, key, context=context))


def _request(uri: str, direction: str, *, is_secure: bool) -> bytes:
    word = _WORDS[direction]
    names = [f"https{word}"] if is_secure else [f"http{word}", f"https{word}"]
    protocols = "".join(f'<vos:protocol uri="{attribute(CORE + name)}"/>' for name in names)
    view = "defaultview" if direction == PULL else "anyview"
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        f'<vos:transfer xmlns:vos="{VOS}" version="2.1"><vos:target>{text_of(uri)}</vos:target>'
        f'<vos:direction>{direction}</vos:direction><vos:view uri="{CORE}{view}"/>'
        f"{protocols}</vos:transfer>"
    ).encode()
