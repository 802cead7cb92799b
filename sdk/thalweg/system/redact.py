"""Removes secrets from command lines, variables and text before they are recorded.

Owns the rules for what a secret is: a *name* that says so (`--api-key`, `DB_PASSWORD`), or a *value* in the
form of a known token (`hf_...`, `AKIA...`, a JWT, a PEM block, `user:password@` in a URL). It errs on the
side of removing too much: a damaged line of a diff is a nuisance, a published key is an incident. It cannot
know a secret that has neither such a name nor such a form.

Pure: no I/O, no clock, no state but a cache of names. Any thread. Every function is idempotent.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

__all__ = [
    "REDACTED",
    "is_secret_name",
    "redact_argv",
    "redact_mapping",
    "redact_text",
    "strip_url_credentials",
]

REDACTED = "[redacted]"

# --- names

_WORD_BREAK = re.compile(r"[^A-Za-z0-9]+|(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")

# fmt: off
_SECRET_WORDS = frozenset({
    "secret", "secrets", "password", "passwords", "passwd", "passphrase", "credential", "credentials", "auth",
    "oauth", "authorization", "apikey", "apikeys", "accesskey", "secretkey", "privatekey", "jwt", "sas",
    "cookie",
})
# A name may be glued together: WANDBAPIKEY, PGPASSWORD, hftoken. Not `key` or `auth`: monkey, turkey.
_SECRET_ENDINGS = (
    "password", "passwd", "passphrase", "secret", "token", "apikey", "credential", "credentials",
)
# `key` and `token` are everyday words of machine learning. Beside one of these words they are not secrets.
_INNOCENT_BEFORE = frozenset({
    "pad", "eos", "bos", "unk", "sep", "cls", "mask", "special", "per", "num", "max", "min", "sort", "query",
    "image", "text", "label", "metric", "rng", "prng",
})
_INNOCENT_AFTER = frozenset({
    "count", "counts", "budget", "limit", "length", "len", "size", "dim", "dims", "type", "types", "per",
    "embedding", "embeddings", "dropout", "frame", "frames", "padding", "mask", "norm", "scale", "error",
    "errors",
})
# Plurals count things (max_tokens, log_keys) unless the word before says otherwise.
_SECRET_BEFORE_PLURAL = frozenset({
    "api", "access", "secret", "private", "auth", "refresh", "ssh", "signing", "encryption", "session",
})
_SECRET_BEFORE_PASS = frozenset({
    "db", "database", "user", "smtp", "mail", "ssh", "ftp", "admin", "root", "redis", "mysql", "postgres",
    "pg", "proxy",
})
# fmt: on


@lru_cache(maxsize=4096)
def _words(name: str) -> tuple[str, ...]:
    """`--hfToken2` -> ("hf", "token"). Trailing digits of a word say nothing: `API_KEY2`."""
    words = (word.lower().rstrip("0123456789") for word in _WORD_BREAK.split(name))
    return tuple(word for word in words if word)


@lru_cache(maxsize=4096)
def is_secret_name(name: str) -> bool:
    """Whether a variable or option so named holds a secret, by its words (snake, kebab, camel, dotted)."""
    words = ("", *_words(name), "")
    return any(_is_secret_word(*words[i - 1 : i + 2]) for i in range(1, len(words) - 1))


def _is_secret_word(before: str, word: str, after: str) -> bool:
    if word in ("key", "token"):
        return before not in _INNOCENT_BEFORE and after not in _INNOCENT_AFTER
    if word in ("keys", "tokens"):
        return before in _SECRET_BEFORE_PLURAL
    if word == "pwd":  # PWD alone is the working directory
        return before != "" or after != ""
    if word == "pass":
        return before in _SECRET_BEFORE_PASS
    return word in _SECRET_WORDS or word.endswith(_SECRET_ENDINGS)


def _is_everyday_name(name: str) -> bool:
    """A lower-case name, secret only for the word `key` or `token`: in source code, rarely a secret."""
    return name == name.lower() and not any(_is_telling(word) for word in _words(name))


def _is_telling(word: str) -> bool:
    return (
        word in _SECRET_WORDS
        or word in ("pwd", "pass", "api", "access", "private", "keys", "tokens")
        or (word != "token" and word.endswith(_SECRET_ENDINGS))
    )


# --- values

# A PEM block, its end cut off or not. The body stops at the first character that a PEM block cannot hold, so
# that `startswith("-----BEGIN PRIVATE KEY-----")` in a source file does not swallow the rest of the file.
# Quotes, backslashes, `+` and `-` are let in for keys in JSON, in string literals and in diffs.
_PEM_BODY = r"[A-Za-z0-9+/=\s\\,:.\"'-]*"
_PEM_END = r"-----END [A-Z0-9 ]{1,60}-----"
_PEM = re.compile(rf"-----BEGIN [A-Z0-9 ]{{1,60}}-----(?:{_PEM_BODY}?{_PEM_END}|{_PEM_BODY})")
# The rest of a PEM block whose first lines are outside the context of a diff: what precedes an END line, and
# lines of 64 base64 characters (not a SHA-256, which is hexadecimal).
_PEM_ORPHAN_END = re.compile(rf"(?m)^[ +\-]?[ \t]*{_PEM_END}")
_PEM_ORPHAN_LINE = re.compile(r"(?m)^[ +\-]?[ \t]*(?=[0-9a-fA-F]*[G-Zg-z+/])[A-Za-z0-9+/]{64}\r?$")
_BASE64_LINE = re.compile(r"[ +\-]?[ \t]*[A-Za-z0-9+/]{1,76}={0,2}\r?")

_TOKEN = re.compile(
    r"(?:A3T[A-Z0-9]|AKIA|ASIA|AGPA|AIDA|AROA|ABIA|ACCA)[A-Z0-9]{16,}"  # AWS
    r"|AIza[A-Za-z0-9_-]{35,}"  # Google
    r"|gh[pousr]_[A-Za-z0-9]{16,}|github_pat_[A-Za-z0-9_]{16,}|glpat-[A-Za-z0-9_-]{16,}"
    r"|xox[a-z]-[A-Za-z0-9-]{8,}|xapp-[A-Za-z0-9-]{16,}"  # Slack
    r"|thalweg_[A-Za-z0-9_-]{40,}"  # our own
    r"|npm_[A-Za-z0-9]{30,}|pypi-[A-Za-z0-9_-]{30,}|dckr_pat_[A-Za-z0-9_-]{16,}|nvapi-[A-Za-z0-9_-]{16,}"
    # The prefixes below end ordinary words (shelf_, risk-), hence the look-behind.
    r"|(?<![A-Za-z0-9])hf_[A-Za-z0-9]{16,}|(?<![A-Za-z0-9])api_org_[A-Za-z0-9]{16,}"
    r"|(?<![A-Za-z0-9])sk-[A-Za-z0-9_-]{16,}|(?<![A-Za-z0-9])[sr]k_(?:live|test)_[A-Za-z0-9]{10,}"
    r"|(?<![A-Za-z0-9])eyJ[A-Za-z0-9_-]{10,}={0,2}(?:\.[A-Za-z0-9_=-]*)*"  # JWT, and base64 of a JSON object
)
_BEARER = re.compile(r"(?i)\b(bearer(?:[ \t]+|%20|\+))[A-Za-z0-9._~+/=-]{6,}")

# The password of a URL should be percent-encoded, but often is not: the first form lets it hold / ? # and @,
# if what follows the colon is no port. It reaches to the last @ of the word: of `u:p@host/a@v1` only `v1` is
# left, which is better than half a password. Stopping at "://" keeps the search linear.
_URL_USERINFO = re.compile(
    r"://(?:(?P<odd>[^\s/?#:@\"'<>]{0,256}:(?!\d{1,5}(?:[/?#]|$))(?:(?!://)[^\s\"'<>]){0,4096})"
    r"|(?P<plain>[^\s/?#\"'<>]{0,4096}))@"
)
_URL_SIGNATURE = re.compile(r"(?i)([?&](?:x-amz-signature|x-goog-signature|signature|sig)=)[^&\s\"'<>]+")

# --- assignments in text

# `name=`, `"name": `, `environ["NAME"] = `, `name: str = `, `getenv("NAME", `.
# The look-behind keeps it linear: a run of word characters is tried once, from its start.
_ASSIGNMENT = re.compile(
    r"(?<![\w.-])(?P<name>[\w.-]+)(?:\\?[\"']\]?(?P<comma>[ \t]*,[ \t]*(?=[rbfu]?[\"']))?)?"
    r"(?(comma)|[ \t]*(?P<op>"
    r":[ \t]*(?:str|bytes|SecretStr|Any|Optional\[str\])(?:[ \t]*\|[ \t]*None)?[ \t]*=(?!=)"
    r"|:=|=>|={1,3}|!=|:)[ \t]*)"
)
# `--name value`; in a diff a single dash at the start of a line is a removed line, hence the blank before it.
_OPTION = re.compile(
    r"(?:(?<=[ \t])-|(?<![\w-])--)(?P<name>[A-Za-z][\w.-]+)[ \t]+(?:\\\r?\n[ +\-]?[ \t]*)?(?!--?[A-Za-z])"
)
_LINE_HEAD = re.compile(r"[ +\-]?[ \t]*(?:-[ \t]+)?(?:(?:export|set|const|let|var|ENV|ARG)[ \t]+)?\\?[\"']?")
_QUOTED = re.compile(
    r"[rbfuRBFU]{0,2}(?:\"\"\"(?:.|\n)*?(?:\"\"\"|\Z)|'''(?:.|\n)*?(?:'''|\Z)"
    r"|\"(?:\\.|[^\"\\\n])*(?:\"|(?=\n)|\Z)|'(?:\\.|[^'\\\n])*(?:'|(?=\n)|\Z))"
)
_ARGUMENT_NAME = re.compile(r"(?:^|(?<==))([^\s=\"'?&;,]+)=(?=[\s\S])")
_YAML_BLOCK = re.compile(r"[|>][-+]?[0-9]?[ \t]*(?:\r?\n[ +\-]?[ \t]+\S[^\n]*)+")
# ("a", "b"] over one or many lines; a string on the line after the sign; a YAML list.
_QUOTED_LIST = re.compile(rf"[(\[\\][\s+-]*{_QUOTED.pattern}(?:[\s,+-]*{_QUOTED.pattern})*")
_NEXT_LINE = re.compile(rf"\r?\n[ +\-]?[ \t]+{_QUOTED.pattern}(?![ \t]*:)")
_YAML_LIST = re.compile(r"(?:\r?\n[ +\-]?[ \t]*-[ \t]+\S[^\n]*)+")
_UNQUOTED = re.compile(r"(?:(?i:basic|bearer|token|digest)[ \t]+)?\S+")
_REST_OF_LINE = re.compile(r"[^\r\n]*")
_ALREADY = re.compile(re.escape(REDACTED) + r"(?=[\s,;:)\]}\"'&]|$)")
_CODE = re.compile(r"[A-Za-z_][\w.]*[(\[][^\"']*")
_HARMLESS = frozenset(
    {"none", "null", "true", "false", "str", "bytes", "int", "float", "bool", "lambda", "..."}
    | {"", "(", "[", "{", "\\"}  # the value is on the next lines
)
_LINE_HEAD_LIMIT = 200


def redact_argv(argv: Sequence[str]) -> list[str]:
    """The command line without secrets; as many arguments as before, in the same order.

    The argument after a secret option is removed unless it is itself an option (`--name`, `-x`).
    """
    redacted: list[str] = []
    announced = "never"
    for argument in argv:
        if announced == "always" or (announced == "unless_option" and not _looks_like_option(argument)):
            redacted.append(REDACTED)
        else:
            redacted.append(_redact_argument(argument))
        announced = _announces_secret(argument)
    return redacted


def _looks_like_option(argument: str) -> bool:
    return re.fullmatch(r"-[A-Za-z]|--[A-Za-z][\w.-]*(=.*)?", argument, re.DOTALL) is not None


def _announces_secret(argument: str) -> str:
    """Whether the next argument is the secret: "always" after `Authorization:` and `Bearer`, "unless_option"
    after `--api-key` and `-token`, else "never"."""
    if re.search(r"(?i)\b(bearer|authorization:[ \t]*(basic|token|digest)?)[ \t]*$", argument):
        return "always"
    named = re.fullmatch(r"(?:--?([A-Za-z][\w.-]+)|([\w.-]+):)", argument)
    return "unless_option" if named and is_secret_name(named[1] or named[2]) else "never"


def _redact_argument(argument: str) -> str:
    """Everything after the first `name=` with a secret name goes, also in `--env=API_KEY=...`."""
    for found in _ARGUMENT_NAME.finditer(argument):
        if "://" not in found[1] and is_secret_name(found[1]):
            return argument[: found.end()] + REDACTED
    return redact_text(argument)


def redact_mapping(mapping: Mapping[str, Any]) -> dict[str, Any]:
    """A copy without secrets: by name, else by the form of the value. Nested mappings and lists are followed.

    Under a secret name only None, booleans and the empty string survive.
    """
    return {key: _redact_value(key, value) for key, value in mapping.items()}


def _redact_value(name: str, value: Any) -> Any:
    if value is None or isinstance(value, bool) or value == "":
        return value
    if is_secret_name(name):
        return REDACTED
    if isinstance(value, str):
        return redact_text(value)
    if isinstance(value, Mapping):
        return redact_mapping(value)
    if isinstance(value, (list, tuple)):
        return [_redact_value("", item) for item in value]
    return value


def strip_url_credentials(url: str) -> str:
    """The URL without its user information, and with secret query parameters redacted.

    A user name without password stays where it is part of the address: `git@host:path`, `ssh://git@host/path`.
    """
    stripped = _URL_USERINFO.sub(lambda found: _userinfo(found, mark=""), url)
    if "://" not in stripped:
        stripped = re.sub(r"^([^:@/\s]+):[^@\s]*@", r"\1@", stripped)
    return redact_text(stripped)


def _userinfo(found: re.Match[str], mark: str) -> str:
    scheme = found.string[max(0, found.start() - 12) : found.start()].lower()
    user, colon, _ = (found["plain"] if found["plain"] is not None else found["odd"]).partition(":")
    if scheme.endswith(("ssh", "sftp", "rsync", "scp")):
        if not colon:
            return found[0]
        mark = f"{user}:{mark}" if mark else user
    return f"://{mark}@" if mark else "://"


def redact_text(text: str) -> str:
    """Free text (a diff, a script, a log line) without secrets. Time is linear in the text.

    A line that begins by assigning to a secret name loses all that follows the sign; elsewhere one value
    goes. Kept: calls and subscripts without string literals assigned to a plain `key` or `token`, as in
    `key = jax.random.PRNGKey(0)`, and words such as None, True or str.
    """
    if "-----" in text:
        text = _redact_pem(text)
    text = _PEM_ORPHAN_LINE.sub(REDACTED, text)
    # Names come before forms: a password that contains something like a token must go as a whole.
    text = _redact_named(text, _ASSIGNMENT, _assigned_value_span)
    text = _redact_named(text, _OPTION, _option_value_span)
    if "://" in text:
        text = _URL_USERINFO.sub(lambda found: _userinfo(found, mark=REDACTED), text)
    text = _URL_SIGNATURE.sub(rf"\g<1>{REDACTED}", text)
    text = _TOKEN.sub(REDACTED, text)
    return _BEARER.sub(rf"\g<1>{REDACTED}", text)


def _redact_pem(text: str) -> str:
    text = _PEM.sub(REDACTED, text)
    kept: list[str] = []
    copied_to = 0
    for end in _PEM_ORPHAN_END.finditer(text):
        start = end.start()
        while start > copied_to:
            line_start = text.rfind("\n", copied_to, start - 1) + 1 or copied_to
            if not _BASE64_LINE.fullmatch(text, line_start, start - 1):
                break
            start = line_start
        kept += (text[copied_to:start], REDACTED)
        copied_to = end.end()
    return "".join((*kept, text[copied_to:]))


def _redact_named(text: str, pattern: re.Pattern[str], value_span: Any) -> str:
    """Replaces the values which `value_span(match)` finds for matches whose `name` is secret."""
    kept: list[str] = []
    position = copied_to = 0
    while (found := pattern.search(text, position)) is not None:
        position = found.end()
        if not is_secret_name(found["name"]):
            # The value may itself be an assignment: `env: TOKEN=...`. Go on right behind the sign.
            continue
        if _ALREADY.match(text, found.end()):
            continue
        start, end = value_span(found)
        if end > start:
            kept += (text[copied_to:start], REDACTED)
            position = copied_to = end
    return "".join((*kept, text[copied_to:]))


def _option_value_span(found: re.Match[str]) -> tuple[int, int]:
    value = _QUOTED.match(found.string, found.end()) or _UNQUOTED.match(found.string, found.end())
    return value.span() if value else (found.end(), found.end())


def _assigned_value_span(found: re.Match[str]) -> tuple[int, int]:
    """Where the value of an assignment lies; an empty span where it is no secret."""
    text, start = found.string, found.end()
    for pattern in (_YAML_BLOCK, _YAML_LIST, _NEXT_LINE):
        long_value = pattern.match(text, start)
        if long_value:
            return long_value.span()
    quoted = _QUOTED.match(text, start) or _QUOTED_LIST.match(text, start)
    if found["op"] in ("==", "===", "!="):  # a comparison tells a secret only by a literal
        return quoted.span() if quoted else _comparison_span(found, start)
    heads_line = _heads_line(text, found.start())
    if quoted and (not heads_line or "\n" in quoted[0]):
        return quoted.span()
    value = (_REST_OF_LINE if heads_line and found["comma"] is None else _UNQUOTED).match(text, start)
    if value is None or _is_harmless(found["name"], value[0]):
        return start, start
    return value.span()


def _heads_line(text: str, position: int) -> bool:
    """Whether only indentation, a diff mark, `export` or the like stand before the position in its line."""
    floor = max(0, position - _LINE_HEAD_LIMIT)
    newline = text.rfind("\n", floor, position)
    if newline < 0 and floor > 0:
        return False
    return _LINE_HEAD.fullmatch(text, newline + 1, position) is not None


def _comparison_span(found: re.Match[str], start: int) -> tuple[int, int]:
    """`PASSWORD==abc` without blanks is an assignment of `=abc`; `key == other` is code."""
    if found[0].endswith("="):
        value = _UNQUOTED.match(found.string, start)
        return value.span() if value else (start, start)
    return start, start


def _is_harmless(name: str, value: str) -> bool:
    bare = value.strip().rstrip(",;:)}]")
    if bare.lower() in _HARMLESS:
        return True
    return _is_everyday_name(name) and _CODE.fullmatch(value.strip()) is not None
