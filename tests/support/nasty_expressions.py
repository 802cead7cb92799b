"""Names and texts that try to break out of the expression language, or out of the SQL that is made of it."""

from __future__ import annotations

from typing import Final

NASTY_NAMES: Final = (
    "a'b", 'a"b', "a`b", "``", "`", "'; DROP TABLE points; --", '"; SELECT 1', "a\\", "\\'", "\\`", "a\\nb", "\n",
    "a\tb", "--", "-- x", "/* x */", "/*", "*/", "#", "a;b", "a)", "(a", "))", "a,b", "{x:UInt64}",
    "{name:String}", "{}", "{{x}}", "%s", "%(name)s", "%", "%%", "$1", "?", ":name", "@x", "${x}", "\x00",
    "a\x00b", "\x1b[31m", "\r\n", " ", "  a  ", "\u00a0", "\u200b", "\u202eabc", "\ufeff", "\ufffd", "\uffff",
    "é", "e\u0301", "損失", "ударения", "😀", "👩\u200d👩", "SELECT", "select", "FROM", "NULL", "null", "and", "or",
    "not", "true", "false", "nan", "inf", "if", "status", "config.lr", "env.x", "run.id", "run", "config",
    "value", "step", "v0", "t0", "run_id", "None", "True", "1", "1e5", "-1", "train/loss", "a b", "a=b",
    "toString(1)", "sleep(3)", "url('http://x')", "file('/etc/passwd')", "x" * 1024, "é" * 512, "`" * 512,
    "'" * 1024, "1 UNION ALL SELECT * FROM system.users", "a' OR '1'='1", "\\x27", "\\u0027", "&#39;", "%27",
    "\u02bc", "\u2019", "\uff07", "__proto__", "../../x", "C:\\x", "\\N", "\\0", "FORMAT Null", "SETTINGS x=1",
)  # fmt: skip
"""Names of metrics, each of 1 to 1,024 bytes."""

NASTY_TEXTS: Final = (
    "", " ", "\n", "'", '"', "`", "``", "`a", "'a", '"a', "'a\\'", '"\\"', "'\\", "a'b'", "a`b`", "'a''b'",
    "`a``b", "a; b", "a -- b", "a --b", "--", "/* a */ b", "a /* b */", "a # b", "a // b", "a \\ b", "a\x00b",
    "\x00", "a\u00a0b", "a\u200bb", "\u202ea", "\ufeffa", "é", "損失 + 1", "😀", "\ud800", "'\ud800'", "'\\ud800'",
    "'\\ud83d\\ude00'", "'\\uZZZZ'", "'\\x27'", "'\\0'", "{x:UInt64}", "a{", "}", "%s", "a % s", "a %% b", "$1",
    "?", "a ? b : c", ":x", "@a", "a[0]", "[a]", "a.b().c", "a..b", ".", "..", "1.2.3", "1e", "1e+", "0x10",
    "1_000", "1e400", "9" * 400, "1" * 4096, "SELECT 1", "SELECT * FROM points", "a UNION SELECT b", "NULL",
    "a IS NULL", "a = 1", "a := 1", "a == 1; --", "1' OR '1'='1", "last(a) == '1' or '1'=='1'", "sleep(3)",
    "file('/etc/passwd')", "url('x')", "toString(a)", "__import__('os')", "a.__class__", "eval('1')", "lambda: 1",
    "(lambda: a)()", "f'{a}'", "b'a'", "run('\\'', a)", "run('a\\nb', a)", "run('', a)", "has_tag('\\'; --')",
    "config('')", "config('a..b')", "config('/')", "config.", "config..a", "config.a.", "env.", "run.", "run.x",
    "metric('')", "metric(1)", "metric(a)", "metric()", "matches(run.name, '(')",
    "matches(run.name, '" + "(a*)*" * 200 + "')", "contains(run.name, '%')", "lag(a, 1e308)", "lag(a, -1)",
    "lag(a, nan)", "lag(a, inf)", "rolling_mean(a, 0)", "rolling_mean(a, 1e9)", "at(a, inf)", "rank(a, -1)",
    "rank(a, 1e9)", "rank(a, 1.5)", "ema(a, 1)", "quantile(a, 2)", "ema(a, b)", "rank(rank(a, 1), 2)",
    "max_over_ranks(max_over_ranks(a))", "run('a', run('b', c))", "run('a', 1)", "rank(1, 2)", "(" * 4000,
    ")" * 4000, "-" * 4000, "-" * 4000 + "a", "not " * 1000, "not " * 1000 + "true",
    "(" * 2000 + "a" + ")" * 2000, "a**" * 1000 + "a", "a+" * 2000 + "a", "a<" * 2000 + "a", "abs(" * 1000,
    "abs(" * 800 + "a" + ")" * 800, "if(true," * 400, "a or " * 800 + "a", "min(" + "a," * 2000 + "a)", ",",
    "f(,)", "f(a,)", "f(,a)", "()", "(,)", "`" * 4096, "`" * 4095, "'" * 4096, '"' * 4095, "\\" * 4096,
    "'" + "\\'" * 2000, "'" + "\\\\" * 2000 + "'", "a" * 4096, "a" * 4097, " " * 4097, "`" + "a" * 2000 + "`",
    " + ".join(f"m{number}" for number in range(40)), "and", "or", "not", "a and", "and a", "a not b",
    "a or or b", "not not true", "nan nan", "true false", "status status", "a b", "2a", "2 a", "a 2", "2(a)",
    "(a)(b)", "'a' 'b'", "a 'b'", "a`b", "+", "-", "*", "**", "a ** ** b", "+a", "a++", "a <> b", "a === b",
    "a !== b", "a => b", "a =< b", "a =! b", "!a", "~a", "a && b", "a & b", "a || b", "a | b", "a ^ b", "\u2264",
    "a \u2264 b", "a \u2212 b", "\u201ca\u201d", "a\u00d7b",
)  # fmt: skip
"""Whole expressions. Some are right; the others are refused."""
