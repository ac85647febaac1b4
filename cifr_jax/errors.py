"""The one exception that means: the user's input or configuration is at fault."""

_LONGEST = 1000  # characters of what is wrong


class UserError(Exception):
    """A fault in what the user gave us; `main` prints it as one line and exits with 2.

    Args:
      where: the file (and line), flag or config key at fault.
      what: what is wrong there; of a long text, the beginning and the end.
      mend: how to put it right.
    """

    def __init__(self, where: str, what: str, mend: str = ""):
        if len(what) > _LONGEST:  # it quotes the input: a name of a hundred megabytes
            what = f"{what[: _LONGEST // 2]} ... {what[-_LONGEST // 2 :]}"
        self.where, self.what, self.mend = where, what, mend
        text = f"{where}: {what}" + (f"; {mend}" if mend else "")
        # One line, and nothing a terminal would obey: input names end up in here.
        super().__init__("".join(c if c.isprintable() else repr(c)[1:-1] for c in text))
