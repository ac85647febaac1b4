"""A page as tests read it: tags in turn, attributes and text."""

from html.parser import HTMLParser

ATTACK = "</title></style>\"'><script>alert(1)</script><svg onload=alert(2)>{{ 7*7 }}&$x^"
_VOID = {"meta", "br", "link", "img", "input", "hr"}


class Page(HTMLParser):
    """Tags, attributes and text of a page; checks that every tag is closed in turn."""

    def __init__(self, html):
        super().__init__(convert_charrefs=True)
        self.html, self.open, self.tags, self.text = html, [], [], ""
        self.feed(html)
        self.close()
        assert self.open == []
        self.text = " ".join(self.text.split())

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        assert len(dict(attrs)) == len(attrs), f"an attribute twice in {tag}"
        if tag not in _VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open and self.open[-1] == tag, f"</{tag}> within {self.open[-3:]}"
        self.open.pop()

    def handle_data(self, data):
        if self.open and self.open[-1] != "style":
            self.text += data + " "

    def count(self, tag):
        """How many of a tag there are."""
        return sum(one == tag for one, _ in self.tags)

    def check(self):
        """What every page must hold: names, landmarks, nothing loaded, nothing run."""
        ids = [a["id"] for _, a in self.tags if "id" in a]
        assert len(ids) == len(set(ids))
        targets = [a[k] for _, a in self.tags for k in ("href", "xlink:href") if k in a]
        targets += [a["clip-path"][4:-1] for _, a in self.tags if "clip-path" in a]
        targets += [
            "#" + a["aria-labelledby"] for _, a in self.tags if "aria-labelledby" in a
        ]
        assert all(t.startswith("#") and t[1:] in ids for t in targets)
        assert {"header", "main", "footer"} <= {tag for tag, _ in self.tags}
        assert self.count("table") == self.count("caption")
        assert self.count("figure") == self.count("figcaption")
        assert not {"script", "link", "img", "iframe", "object", "embed"} & {
            tag for tag, _ in self.tags
        }
        assert not any(k.startswith("on") or k == "src" for _, a in self.tags for k in a)
        (policy,) = [a["content"] for _, a in self.tags if "http-equiv" in a]
        assert policy.startswith("default-src 'none';") and "script" not in policy
        assert "http:" not in self.html and "@import" not in self.html
        drawn = [a for tag, a in self.tags if tag == "svg" and "aria-hidden" not in a]
        assert all(a["role"] == "img" and a["aria-label"] for a in drawn)


def replaced(value, new, kept=()):
    """All texts of nested dicts and lists replaced, but for those under keys in `kept`."""
    if isinstance(value, dict):
        return {k: v if k in kept else replaced(v, new, kept) for k, v in value.items()}
    if isinstance(value, list):
        return [replaced(entry, new, kept) for entry in value]
    return new if isinstance(value, str) else value


def spoilt(value, gap):
    """All figures replaced by a gap: None, NaN or infinity."""
    if isinstance(value, dict):
        return {k: spoilt(v, gap) for k, v in value.items()}
    if isinstance(value, list):
        return [spoilt(v, gap) for v in value]
    return gap if isinstance(value, float) else value
