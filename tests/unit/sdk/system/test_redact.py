"""A secret that has the name or the form of one never survives; what merely looks similar is left alone."""

from __future__ import annotations

import base64
import json
import string

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from thalweg.system.redact import (
    REDACTED,
    is_secret_name,
    redact_argv,
    redact_mapping,
    redact_text,
    strip_url_credentials,
)

SECRET_NAMES = [
    "api-key", "api_key", "apiKey", "WANDB_API_KEY", "HF_TOKEN", "hftoken", "OPENAI_API_KEY2", "db.password",
    "AWS_SECRET_ACCESS_KEY", "PGPASSWORD", "MYSQL_PWD", "passwd", "client_secret", "clientSecret", "DB_PASS",
    "credentials", "auth", "Authorization", "oauth2", "access_tokens", "api-keys", "SLURM_JWT", "passphrase",
    "model.auth.key",
]  # fmt: skip
INNOCENT_NAMES = [
    "tokenizer", "max-tokens", "max_token", "keyframes", "monkey", "tokens_per_step", "loss_per_token", "",
    "pad_token", "eos-token", "padTokenId", "num_key_value_heads", "key_padding_mask", "token_type_ids",
    "n_tokens", "TOKENIZERS_PARALLELISM", "PWD", "OLDPWD", "turkey", "log_keys", "KeyError", "secretary_",
    "author", "pass", "compass", "sort_key", "query_key_value", "authority", "keyboard",
]  # fmt: skip


@pytest.mark.parametrize("name", SECRET_NAMES)
def test_names_of_secrets(name: str) -> None:
    assert is_secret_name(name)


@pytest.mark.parametrize("name", INNOCENT_NAMES)
def test_names_that_only_look_like_it(name: str) -> None:
    assert not is_secret_name(name)


@pytest.mark.parametrize(
    "argv",
    [
        ["train.py", "--tokenizer", "gpt2", "--max-tokens", "2048", "--keyframes", "3"],
        [
            "python",
            "-m",
            "train",
            "-p",
            "8080",
            "monkey=1",
            "tokens_per_step=5",
            "model.num_key_value_heads=8",
        ],
        ["--pad-token", "<pad>", "--data", "s3://bucket/path@v1", "--url", "http://127.0.0.1:7412/a@b"],
        ["git+https://github.com/a/b@v1.0", "user@host:/data", "risk-averse-reinforcement-learning-v1"],
        ["--commit", "9fceb02d0ae598e95dc970b74767f19372d61af8", "--name", "shelf_life_of_a_long_name_x"],
    ],
)
def test_innocent_command_lines_are_kept(argv: list[str]) -> None:
    assert redact_argv(argv) == argv


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        (["--api-key", "abc", "--lr", "1"], ["--api-key", REDACTED, "--lr", "1"]),
        (["--api-key=abc"], [f"--api-key={REDACTED}"]),
        (["--use-token", "--lr", "1"], ["--use-token", "--lr", "1"]),
        (["--use-token", "-v"], ["--use-token", "-v"]),
        (["--token", "-abc"], ["--token", REDACTED]),
        (["WANDB_API_KEY=abc"], [f"WANDB_API_KEY={REDACTED}"]),
        (["+model.auth.key=abc"], [f"+model.auth.key={REDACTED}"]),
        (["--env=API_KEY=a b"], [f"--env=API_KEY={REDACTED}"]),
        (["-H", "Authorization: Bearer abc"], ["-H", f"Authorization: {REDACTED}"]),
        (["Authorization:", "Bearer", "abc"], ["Authorization:", REDACTED, REDACTED]),
        (["--url", "https://u:p@h/x"], ["--url", f"https://{REDACTED}@h/x"]),
    ],
)
def test_command_lines(argv: list[str], expected: list[str]) -> None:
    assert redact_argv(argv) == expected


@pytest.mark.parametrize(
    "text",
    [
        "key = jax.random.PRNGKey(0)\nkey, sub = jax.random.split(key)",
        "self.token = tokenizer.decode(ids[0])",
        "for key, value in state.items():\n    if key == other:\n        pass",
        "def f(token: str, key: int = None) -> bool:",
        "sorted(items, key=lambda item: item[0]) or max(items, key=itemgetter(1))",
        "KeyError: 'x'\n--max-tokens 2048 --tokenizer gpt2",
        "index 9fceb02..a1b2c3d 100644\n--- a/train.py\n+++ b/train.py\n@@ -1,2 +1,2 @@",
        "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    ],
)
def test_innocent_text_is_kept(text: str) -> None:
    assert redact_text(text) == text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{"token": "a b", "x": 1}', f'{{"token": {REDACTED}, "x": 1}}'),
        ('{"auth": {\n  "password": "a"\n}}', f'{{"auth": {{\n  "password": {REDACTED}\n}}}}'),
        ('+api_key: str = "abc"  # mine', f"+api_key: str = {REDACTED}"),
        ('def f(api_key: str = "abc", n: int = 3):', f"def f(api_key: str = {REDACTED}, n: int = 3):"),
        ('if password == "abc":', f"if password == {REDACTED}:"),
        ('os.environ["HF_TOKEN"] = "abc"', f'os.environ["HF_TOKEN"] = {REDACTED}'),
        ('os.getenv("API_KEY", "abc")', f'os.getenv("API_KEY", {REDACTED})'),
        ("password: |\n  abc\n  def\nnext: 1", f"password: {REDACTED}\nnext: 1"),
        ('password = (\n    "abc"\n    "def"\n)', f"password = {REDACTED}\n)"),
        ('{"api_keys": ["a", "b"], "x": 1}', f'{{"api_keys": {REDACTED}], "x": 1}}'),
        ("api_keys:\n  - abc\n  - def\nnext: 1", f"api_keys:{REDACTED}\nnext: 1"),
        ('password:\n  "abc"\nnext: 1', f"password:{REDACTED}\nnext: 1"),
        ("run --api-key abc --lr 1", f"run --api-key {REDACTED} --lr 1"),
        ("run --api-key \\\n  abc", f"run --api-key \\\n  {REDACTED}"),
        ("https://h/p?x=1&sig=abc&y=2", f"https://h/p?x=1&sig={REDACTED}&y=2"),
        ("ssh://git@h/x and ssh://git:abc@h/x", f"ssh://git@h/x and ssh://git:{REDACTED}@h/x"),
    ],
)
def test_text(text: str, expected: str) -> None:
    assert redact_text(text) == expected
    assert redact_text(expected) == expected


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://user:pass@github.com/a/b.git", "https://github.com/a/b.git"),
        ("https://ghp_aaaaaaaaaaaaaaaaaaaaaaaa@github.com/a/b", "https://github.com/a/b"),
        ("https://u:p@ss/w#rd@host/a", "https://host/a"),
        ("git@github.com:a/b.git", "git@github.com:a/b.git"),
        ("ssh://git@host:22/a", "ssh://git@host:22/a"),
        ("ssh://git:pass@host/a", "ssh://git@host/a"),
        ("https://host:8080/a@b", "https://host:8080/a@b"),
        ("https://host/a?private_token=abc", f"https://host/a?private_token={REDACTED}"),
        ("/srv/git/a.git", "/srv/git/a.git"),
        ("", ""),
    ],
)
def test_url_credentials(url: str, expected: str) -> None:
    assert strip_url_credentials(url) == expected


def test_mapping_keeps_types_and_follows_nesting() -> None:
    mapping = {
        "HF_HOME": "/data",
        "HF_TOKEN": "abc",
        "pin_auth": 1234,
        "use_auth": True,
        "empty_token": "",
        "nested": {"password": "abc", "urls": ["https://u:p@h", 3]},
    }
    assert redact_mapping(mapping) == {
        "HF_HOME": "/data",
        "HF_TOKEN": REDACTED,
        "pin_auth": REDACTED,
        "use_auth": True,
        "empty_token": "",
        "nested": {"password": REDACTED, "urls": [f"https://{REDACTED}@h", 3]},
    }


# --- properties

_ALPHANUMERIC = string.ascii_letters + string.digits
# What the tests write around a secret: a secret that is a part of it cannot be told from it.
_SURROUNDINGS = " ".join([REDACTED, *SECRET_NAMES, "https://x-access-token:", "train.py", "Bearer"])


def _is_in_surroundings(secret: str) -> bool:
    return any(piece in _SURROUNDINGS for piece in _pieces(secret))


def _pieces(secret: str) -> list[str]:
    return [secret[i : i + 8] for i in range(len(secret) - 7)]


_secret_names = st.sampled_from(SECRET_NAMES)
# Unquoted values end at white space; `(` and `[` would make the value of a plain `key` or `token` look like
# code.
_plain_secrets = st.text(_ALPHANUMERIC + "-_.~+/=!$%^*#@|:;,", min_size=8, max_size=60).filter(
    lambda secret: secret[0] in _ALPHANUMERIC and not _is_in_surroundings(secret)
)
_printable_secrets = (
    st.text(_ALPHANUMERIC + string.punctuation + " \t", min_size=8, max_size=60)
    .map(str.strip)
    .filter(lambda secret: len(secret) >= 8 and not _is_in_surroundings(secret))
)


def _token(prefix: str, alphabet: str, size: int) -> st.SearchStrategy[str]:
    return st.text(alphabet, min_size=size, max_size=size).map(lambda body: prefix + body)


def _jwt(body: bytes) -> str:
    encoded = base64.urlsafe_b64encode(body).decode().rstrip("=")
    header = base64.urlsafe_b64encode(b'{"alg":"HS256","typ":"JWT"}').decode().rstrip("=")
    return f"{header}.{encoded}.{encoded}"


_known_tokens = st.one_of(
    _token("AKIA", string.ascii_uppercase + string.digits, 16),
    _token("hf_", _ALPHANUMERIC, 34),
    _token("ghp_", _ALPHANUMERIC, 36),
    _token("github_pat_", _ALPHANUMERIC + "_", 82),
    _token("sk-", _ALPHANUMERIC, 48),
    _token("sk-proj-", _ALPHANUMERIC + "_-", 60),
    _token("thalweg_", _ALPHANUMERIC + "_-", 43),
    _token("xoxb-", string.digits + "-", 40),
    st.binary(min_size=12, max_size=60).map(_jwt),
)


def _assert_gone(secret: str, redacted: str) -> None:
    """Neither the secret nor a piece of it that would help."""
    assert len(secret) >= 8
    assert not any(piece in redacted for piece in _pieces(secret)), redacted


@given(name=_secret_names, secret=_plain_secrets, head=st.sampled_from(["--", "-", "", "+", "++env."]))
def test_no_named_secret_survives_in_a_command_line(name: str, secret: str, head: str) -> None:
    _assert_gone(secret, " ".join(redact_argv(["train.py", f"{head}{name}={secret}", "--lr", "1"])))


@given(name=_secret_names, secret=_printable_secrets)
def test_no_value_of_a_secret_option_survives(name: str, secret: str) -> None:
    assume(not secret.startswith("-"))
    _assert_gone(secret, " ".join(redact_argv(["train.py", f"--{name}", secret, "--lr", "1"])))


@given(name=_secret_names, secret=st.text(min_size=8))
def test_no_named_secret_survives_in_a_mapping(name: str, secret: str) -> None:
    assert redact_mapping({name: secret, "a": {name: [secret]}}) == {name: REDACTED, "a": {name: REDACTED}}


@given(
    name=_secret_names,
    secret=_plain_secrets,
    carrier=st.sampled_from(
        [
            "docker run -e {0}={1} image",
            "call({0}={1})",
            "x; {0}={1}",
            "curl https://host/path?{0}={1}",
            "curl -H '{0}: {1}' https://host",
            "run --{0} {1} --lr 1",
            "run --{0}={1}",
            "see {0}:{1}",
            "if {0}=={1}",
        ]
    ),
)
def test_no_named_secret_survives_in_a_line(name: str, secret: str, carrier: str) -> None:
    _assert_gone(secret, redact_text(carrier.format(name, secret)))


@given(
    name=_secret_names,
    secret=_printable_secrets,
    carrier=st.sampled_from(
        ["{0}={1}", "+{0}={1}", "-export {0}={1}", "   {0}: {1}", " - {0}: {1}", "a = 1\n{0} = {1}\nb = 2"]
    ),
)
def test_nothing_survives_on_a_line_that_assigns_to_a_secret_name(name: str, secret: str, carrier: str) -> None:
    assume(secret[0] in _ALPHANUMERIC)
    assume("(" not in secret and "[" not in secret)  # see _plain_secrets
    _assert_gone(secret, redact_text(carrier.format(name, secret)))


@given(
    name=_secret_names,
    secret=_printable_secrets,
    carrier=st.sampled_from(
        [
            '{{"a": 1, "{0}": {1}, "b": 2}}',
            "f({0}={1}, b=2)",
            'os.environ["{0}"] = {1}',
            'os.environ.setdefault("{0}", {1})',
            '["--{0}", {1}]',
            "x = f({0}: str = {1})",
            "{0} = (\n    {1}\n)",
            "if {0} == {1}: pass",
        ]
    ),
)
def test_no_quoted_named_secret_survives(name: str, secret: str, carrier: str) -> None:
    quoted = json.dumps(secret)
    _assert_gone(quoted[1:-1], redact_text(carrier.format(name, quoted)))


@given(
    token=_known_tokens,
    carrier=st.sampled_from(
        [
            "{}",
            "x = '{}'",
            "-H {}",
            "https://host/{}/x",
            "a={}",
            "+foo({})",
            "[{}]",
            "({},1)",
            "see {}.",
            "Bearer {}",
        ]
    ),
)
def test_no_known_token_survives_under_any_name(token: str, carrier: str) -> None:
    text = carrier.format(token)
    _assert_gone(token, redact_text(text))
    _assert_gone(token, " ".join(redact_argv(["train.py", text, f"--data={text}"])))
    _assert_gone(token, str(redact_mapping({"data": text, "list": [text]})))


@given(
    secret=st.text(_ALPHANUMERIC + "-._~+/", min_size=8, max_size=60),
    word=st.sampled_from(["Bearer", "bearer"]),
)
def test_no_bearer_token_survives(secret: str, word: str) -> None:
    _assert_gone(secret, redact_text(f"x '{word} {secret}' y"))
    _assert_gone(secret, " ".join(redact_argv(["curl", word, secret])))


@given(
    password=st.text(_ALPHANUMERIC + "-._~+/=!$%^*#@?|:;,&([", min_size=8, max_size=40),
    scheme=st.sampled_from(["https", "postgres", "redis", "ssh", "git+https", "http"]),
    user=st.sampled_from(["", "user", "x-access-token", "a.b"]),
)
def test_no_password_in_a_url_survives(password: str, scheme: str, user: str) -> None:
    assume(not password[0].isdigit())  # host:1/... is a port
    assume(not _is_in_surroundings(password) and "://" not in password)
    url = f"{scheme}://{user}:{password}@host/path"
    _assert_gone(password, redact_text(f"clone {url} now"))
    _assert_gone(password, strip_url_credentials(url))
    _assert_gone(password, redact_argv([url])[0])


@given(
    key=st.binary(min_size=120, max_size=600),
    prefix=st.sampled_from(["", "+", "-", " ", "    "]),
    label=st.sampled_from(["RSA PRIVATE KEY", "PRIVATE KEY", "OPENSSH PRIVATE KEY", "CERTIFICATE"]),
)
def test_no_pem_block_survives_whole_or_in_part(key: bytes, prefix: str, label: str) -> None:
    body = base64.b64encode(key).decode()
    lines = [body[i : i + 64] for i in range(0, len(body), 64)]
    block = [f"-----BEGIN {label}-----", *lines, f"-----END {label}-----"]
    whole = "\n".join(prefix + line for line in ["def f():", *block, "x = 1"])
    tail = "\n".join(prefix + line for line in ["@@ -1 +1 @@", *block[2:], "x = 1"])
    head = "\n".join(prefix + line for line in block[:-1])
    one_line = json.dumps({"pem": "\n".join(block), "after": 1})
    for text in (whole, tail, head, one_line):
        redacted = redact_text(text)
        for line in lines if text != tail else lines[1:]:
            assert line not in redacted
    assert redact_text(whole).endswith(f"{prefix}x = 1")


@given(text=st.text())
def test_redaction_takes_any_text(text: str) -> None:
    assert isinstance(redact_text(text), str)
    assert len(redact_argv([text, text])) == 2
    assert isinstance(strip_url_credentials(text), str)
