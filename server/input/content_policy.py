"""Prohibited content (spec section 2): what a message and its attachment names may not carry. Pure functions.

The tree that a browser would build from the text as the body of a page decides, so what is escaped, commented
out or only looks like a tag passes. Refused in it, SVG and MathML included:

- `script` and `iframe` elements, `object` and `embed` with an attribute that loads something;
- an event handler that a browser knows, on any element;
- a URL that runs where it is followed (`javascript:`, `vbscript:`, `data:` of HTML or other XML markup), in
  an attribute that is followed: links, sources, form targets, animated links, a meta refresh.

What only changes how a page looks or where its links lead (`style`, `link`, `base`, `img`) runs nothing and
passes. So does `<object at 0x7f>`. Elements inside `template` count: a page clones them to use them.

Whether the policy is on, and what happens to a refused message, is decided elsewhere.
"""

import re
from collections.abc import Iterator, Mapping, Sequence

from selectolax.lexbor import LexborDocumentOptions, LexborHTMLParser

from vigil.server.input.validation import Problem

PROHIBITED_EXTENSIONS = frozenset(
    "exe com bat cmd msi scr ps1 vbs js jar sh hta lnk dll apk".split()  # noqa: SIM905 (reads as the spec)
)

_Attributes = Mapping[str, str | None]


def violations(content: str, attachment_names: Sequence[str] = ()) -> list[Problem]:
    """What is prohibited, each with its place (`content` or `attachments[0].name`) and what it is in words."""
    problems = [Problem(path="content", message=found) for found in _in_text(content)]
    for index, name in enumerate(attachment_names):
        path = f"attachments[{index}].name"
        problems.extend(Problem(path=path, message=found) for found in (*_in_text(name), *_in_name(name)))
    return problems


def _in_text(text: str) -> Iterator[str]:
    if _CONTROL.search(text):
        yield "must not contain control characters other than tab, newline and carriage return"
    if _INTERPRETER_LINE.match(text):
        yield "must not start with an interpreter line (#! and a path): it is an executable script"
    if _TAG.search(text) and (found := _in_markup(text)):
        yield f"must not contain {found}: a browser would run it"


def _in_name(name: str) -> Iterator[str]:
    _, _, extension = name.rpartition(".")
    if extension != name and extension.casefold() in PROHIBITED_EXTENSIONS:
        yield f"must not be the name of an executable file (.{extension.lower()})"


def _in_markup(text: str) -> str | None:
    """The first thing that a browser would run.

    A tag that the text leaves open ends at whatever quote or bracket follows in the page. Only for a name that
    is a word is that believed: `if (a<b) onclick = x` is a comparison until it has a bracket of its own.
    """
    for tag, attributes in _elements(text + _REST_OF_PAGE):
        found = _in_element(tag, attributes)
        if found and (_WORD.fullmatch(tag) or _is_closed(tag, text)):
            return found
    return None


def _is_closed(tag: str, text: str) -> bool:
    """Whether such an element runs something without the rest of the page."""
    return any(name == tag and _in_element(name, attributes) for name, attributes in _elements(text))


def _elements(text: str) -> Iterator[tuple[str, _Attributes]]:
    """Name and attributes of every element of the page, character references resolved."""
    page = LexborHTMLParser(_START_OF_PAGE + text, scripting=True, options=LexborDocumentOptions.WO_EVENTS)
    nodes = page.css("*")
    fragments = page.template_fragments()
    while fragments:
        fragment = fragments.pop()
        nodes.extend(fragment.css("*"))
        fragments.extend(fragment.template_fragments())
    for node in nodes:
        yield node.tag or "", node.attributes


def _in_element(tag: str, attributes: _Attributes) -> str | None:
    if tag in _RUNS:
        return _RUNS[tag]
    if _WATCHED.isdisjoint(attributes):
        return None
    if tag in _LOADS and not _LOADS[tag].isdisjoint(attributes):
        return f"an {tag} element that loads something"
    if handlers := EVENT_HANDLERS.intersection(attributes):
        return f"an event handler ({min(handlers)})"
    if any(_runs(url) for url in _followed(tag, attributes)):
        return "a URL that runs (such as javascript:)"
    return None


def _followed(tag: str, attributes: _Attributes) -> Iterator[str]:
    """The URLs that a browser may fetch or go to."""
    for name in _URL_ATTRIBUTES:
        yield attributes.get(name) or ""
    yield from (attributes.get("values") or "").split(";")  # of an animated link, one after the other
    if tag == "meta":
        yield _REFRESH_DELAY.sub("", attributes.get("content") or "", count=1)
    if tag == "param":
        yield attributes.get("value") or ""


def _runs(url: str) -> bool:
    """Whether following the URL runs code, once it is cleaned as the URL standard says."""
    cleaned = url.translate(_DROPPED_BY_URL_PARSERS).lstrip(_STRIPPED_BY_URL_PARSERS)
    return _RUNNING_URL.match(cleaned) is not None


_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f]")
_INTERPRETER_LINE = re.compile(r"#![ \t]*(?:/|\.{1,2}/|[A-Za-z]:[\\/])")
_TAG = re.compile(r"<[A-Za-z]")  # nothing else opens an element
_WORD = re.compile(r"[A-Za-z][\w:.-]*")

_START_OF_PAGE = "<!doctype html><html><head></head><body>"
_REST_OF_PAGE = " '\">"

_RUNS = {"script": "a script element", "iframe": "an iframe element"}
_LOADS = {"object": {"data", "classid", "codebase", "code", "archive"}, "embed": {"src", "code"}}

_URL_ATTRIBUTES = (
    *("href", "xlink:href", "src", "action", "formaction", "data", "poster", "background", "cite"),
    *("longdesc", "codebase", "manifest", "profile", "icon", "lowsrc", "dynsrc", "from", "to", "by"),
)
_REFRESH_DELAY = re.compile(r"[\s\d.]*[;,\s]\s*(?:url\s*=\s*)?['\"]?", re.IGNORECASE)
_DROPPED_BY_URL_PARSERS = str.maketrans("", "", "\t\n\r")
_STRIPPED_BY_URL_PARSERS = "".join(map(chr, range(0x21)))
_RUNNING_URL = re.compile(
    r"(?:javascript|vbscript):"
    r"|data:\s*(?:text/html|text/xml|text/xsl|application/xml|[^\s;,]+\+xml)\s*(?:[;,]|$)",
    re.IGNORECASE,
)

# HTML's global and body handlers, those of SVG animation, the clipboard, pointer, touch, animation and
# full-screen standards, and the vendors' own that browsers still serve.
EVENT_HANDLERS = frozenset(
    """
    onabort onactivate onafterprint onafterscriptexecute onanimationcancel onanimationend
    onanimationiteration onanimationstart onauxclick onbeforeactivate onbeforecopy onbeforecut
    onbeforedeactivate onbeforeinput onbeforeinstallprompt onbeforematch onbeforepaste onbeforeprint
    onbeforescriptexecute onbeforetoggle onbeforeunload onbeforexrselect onbegin onblur onbounce oncancel
    oncanplay oncanplaythrough onchange onclick onclose oncommand oncontentvisibilityautostatechange
    oncontextlost oncontextmenu oncontextrestored oncopy oncuechange oncut ondblclick ondeactivate
    ondevicemotion ondeviceorientation ondeviceorientationabsolute ondrag ondragend ondragenter ondragexit
    ondragleave ondragover ondragstart ondrop ondurationchange onemptied onencrypted onend onended onerror
    onfinish onfocus onfocusin onfocusout onformdata onfullscreenchange onfullscreenerror
    ongamepadconnected ongamepaddisconnected ongesturechange ongestureend ongesturestart
    ongotpointercapture onhashchange oninput oninvalid onkeydown onkeypress onkeyup onlanguagechange onload
    onloadeddata onloadedmetadata onloadend onloadstart onlocation onlostpointercapture onmessage
    onmessageerror onmousedown onmouseenter onmouseleave onmousemove onmouseout onmouseover onmouseup
    onmousewheel onmove onmozfullscreenchange onmozfullscreenerror onoffline ononline onorientationchange
    onpagehide onpagereveal onpageshow onpageswap onpaste onpause onplay onplaying onpointercancel
    onpointerdown onpointerenter onpointerleave onpointermove onpointerout onpointerover
    onpointerrawupdate onpointerup onpopstate onprogress onpromptaction onpromptdismiss onpropertychange
    onratechange onreadystatechange onrejectionhandled onrepeat onreset onresize onscroll onscrollend
    onscrollsnapchange onscrollsnapchanging onsearch onsecuritypolicyviolation onseeked onseeking onselect
    onselectionchange onselectstart onshow onslotchange onstalled onstart onstorage onsubmit onsuspend
    ontimeupdate ontoggle ontouchcancel ontouchend ontouchmove ontouchstart ontransitioncancel
    ontransitionend ontransitionrun ontransitionstart onunhandledrejection onunload
    onvalidationstatuschange onvolumechange onwaiting onwaitingforkey onwebkitanimationend
    onwebkitanimationiteration onwebkitanimationstart onwebkitfullscreenchange onwebkitfullscreenerror
    onwebkitmouseforcechanged onwebkitmouseforcedown onwebkitmouseforceup onwebkitmouseforcewillbegin
    onwebkitplaybacktargetavailabilitychanged onwebkitpresentationmodechanged onwebkittransitionend
    onwebkitwillrevealbottom onwheel onzoom
    """.split()  # noqa: SIM905 (two hundred names read better as words)
)

# An element without any of these attributes is harmless, whatever else it has.
_WATCHED = EVENT_HANDLERS.union(_URL_ATTRIBUTES, *_LOADS.values(), ("values", "content", "value"))
