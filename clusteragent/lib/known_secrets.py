"""Secrets that are recognised by their form, whatever their key: key files, tokens of well-known vendors, URLs that work for
everybody who knows them, and arguments of commands and SQL statements. Each pattern takes time in proportion to the text.
"""

import re

# In lower case. Every text in which something is hidden here contains one of them, or is a bare key.
HINTS = (
    "-----begin", "putty-user-key", "ls0tls1crudjti", "uhvuvfktvxnlci", "hook", "/bot", "hc-ping", "logic.azure", "ifttt",
    "pagerduty", "victorops", "opsgenie", "incoming/", "catch/", "services/", "trigger", "integration", "heartbeat", "hash=",
    "ticket=", "sid=", "?st=", "&st=", "?k=", "&k=", "?t=", "&t=", "?p=", "&p=", ";st=", ";k=", ";t=", ";p=", "basic", "bearer",
    "negotiate", "splunk", "geniekey", "ssws", "identified", "eyj", "mysql", "maria", "sshpass", "redis-cli", "sqlcmd", "bcp",
    "isql", "tsql", "ipmitool", "mosquitto", "ldap", "mongo", "snmp", "smbclient", "unzip", "useradd", "usermod", "sqlplus",
    "sqlldr", "rman", "exp", "imp", "-u", "--proxy", "gho_", "ghp_", "ghr_", "ghs_", "ghu_", "github_pat_", "glpat-", "glptt-",
    "gldt-", "glrt-", "glcbt-", "glffct-", "glimt-", "glsoat-", "glagent-", "glft-", "xox", "xapp-", "sk_", "rk_", "pk_", "sk-",
    "whsec_", "npm_", "akia", "asia", "abia", "acca", "aiza", "ya29.", "pypi-", "dckr_", "hvs.", "hvb.", "hvr.", "sg.",
    "dop_v1_", "doo_v1_", "dor_v1_", "shpat_", "shpca_", "shppa_", "shpss_", "lin_api_", "figd_", "hf_", "r8_", "nrak-",
    "nrii-", "nrjs-", "pmak-", "sntrys_", "sntryu_", "sq0", "age-secret", "atatt3", "atctt3", "xkeysib-", "nvapi-", "glc_",
    "glsa_", "rubygems_", "tfp_", "gsk_", "ddp_", "$",
)  # fmt: skip

_PEM = re.compile(r"-----BEGIN (?P<what>[A-Z0-9 ]{1,60}+)-----.*?(?:-----END (?P=what)-----|\Z)", re.DOTALL)
_PUTTY = re.compile(r"PuTTY-User-Key-File-\d.*?(?:Private-(?:MAC|Hash):[ \t]*[0-9a-fA-F]*|\Z)", re.DOTALL)
# "-----BEGIN " and "PuTTY-User-Key" in Base64, whose lines may be wrapped.
_IN_BASE64 = re.compile(
    r"(?:LS0tLS1CRUdJTi|UHVUVFktVXNlci1LZXkt)[A-Za-z0-9+/_-]*+(?:\s{1,40}+[A-Za-z0-9+/_-]{16,}+)*+(?:\s{1,40}+[A-Za-z0-9+/_-]+=+)?=*"
)

# URLs that work for everybody who knows them.
_HOOK = re.compile(
    r"""(?<![\w.-])(?P<key>(?:
        hooks\.[\w.-]{1,200}+ | [\w.-]{1,200}\.webhook\.office(?:365)?\.com | [\w.-]{1,200}\.logic\.azure\.com
        | outlook\.office(?:365)?\.com/webhook | (?:[\w-]{1,60}\.)?discord(?:app)?\.com/api/(?:v\d{1,3}/)?webhooks
        | maker\.ifttt\.com/trigger | open\.(?:feishu\.cn|larksuite\.com)/open-apis/bot/v\d/hook
        | events\.pagerduty\.com/integration | alert\.victorops\.com/integrations | hc-ping\.com
        | webexapis\.com/v1/webhooks/incoming | api\.opsgenie\.com/v1/json
        )(?::\d{1,5})?/)[^\s"'<>?\#\\]++""",
    re.IGNORECASE | re.VERBOSE,
)
_BOT = re.compile(r"(?P<key>/bot\d{1,20}+:)[\w-]++", re.IGNORECASE)
# Other URLs in which a part of the path says that a secret follows.
_PART = re.compile(
    r"""(?P<key>https?://[^\s"'<>?\#]{1,300}?/(?:(?:web)?hooks?(?:b2)?|incoming|catch|services|triggers?|integrations?
    |heartbeats?|tokens?|keys?|secrets?|api[_-]?keys?)/)(?P<rest>[^\s"'<>?\#\\]{1,2000}+)""",
    re.IGNORECASE | re.VERBOSE,
)
_NO_WORD = re.compile(r"(?:\A|/)(?:(?=[^/\d]{0,99}\d)[^/]{8,}|[^/]{24,})")
_QUERY = re.compile(
    r"""(?<=[?&;])(?P<key>(?:key|code|hash|ticket|sid|st|k|t|p|pin|otp|hmac)=)[^\s&;"'<>\#\\]++""", re.IGNORECASE
)

_VALUE = r"""(?:"[^"\n]*+" | '[^'\n]*+' | [^\s"',\]]++)"""
_SCHEME = re.compile(r"""(?<!\w)(?P<key>bearer[ \t]++)[^\s"',\\]++""", re.IGNORECASE)
# "Basic dXNlcjpwYXNz" is a secret, "Basic authentication" is not.
_BASIC = re.compile(
    r"""(?<!\w)(?P<key>(?i:basic|negotiate|splunk|geniekey|ssws|apikey)[ \t]++)
    (?=[\w+/.~-]{0,999}(?:[0-9+/=]|[a-z][A-Z]))[\w+/.~-]{6,}+=*""",
    re.VERBOSE,
)
_CURL = re.compile(
    r"""(?<![\w-])(?P<key>(?:-[uU]|--(?:proxy-)?user)[ \t=]{0,9}["']?(?!\+)(?!\d+:\d+(?!\S))[^\s:"'%]{1,100}+[:%](?![/\s]))
    [^\s"']++""",
    re.VERBOSE,
)
_SQL = re.compile(
    rf"""(?<!\w)(?P<key>identified\s{{1,9}}(?:with\s{{1,9}}\S{{1,60}}\s{{1,9}})?(?:by|as)\s{{1,9}}(?:password\s{{1,9}})?
    (?:values\s{{1,9}})?){_VALUE} | (?<!\w)(?P<set>password(?:\s{{1,9}}\(?|\()\s{{0,9}})(?:"[^"\n]*+"|'[^'\n]*+')""",
    re.IGNORECASE | re.VERBOSE,
)
# `machine x login y password z` of a .netrc; "API key: …" as people write it.
_IN_WORDS = re.compile(
    rf"""(?<!\w)(?P<key>login\s{{1,9}}\S{{1,100}}\s{{1,9}}(?:account\s{{1,9}}\S{{1,100}}\s{{1,9}})?password\s{{1,9}}
    | (?:access|api|app|auth|encryption|license|private|secret|service|shared)[ ]key["']?[ \t]{{0,9}}[:=][ \t]{{0,9}}){_VALUE}""",
    re.IGNORECASE | re.VERBOSE,
)
# A password's hash, as in /etc/shadow and .htpasswd: a dictionary attack on it needs no server.
_CRYPT = re.compile(r"\$(?:1|2[abxy]?|5|6|7|y|gy|apr1|sha1|md5|argon2i?d?|scrypt|pbkdf2[\w-]{0,20})\$[\w./+$,=-]{8,}+")
# (command, flags whose argument is a secret, whether a space may stand between flag and argument)
COMMANDS = (
    ("mysql\\w*|mariadb[\\w-]*", "p", False),
    ("sshpass|mongo\\w*|useradd|usermod", "p", True),
    ("redis-cli", "a", True),
    ("sqlcmd|bcp|isql|tsql|ipmitool|mosquitto_\\w+|unzip", "P", True),
    ("ldap\\w+", "w", True),
    ("snmp\\w+", "cAX", True),
    ("(?:docker|podman|az|oc|cf|helm\\s{1,9}registry|crane\\s{1,9}auth)\\s{1,9}login", "p", True),
)
_APART = r"(?:[ \t]++)?"


def _command_patterns(names: str, flags: str, apart: bool) -> tuple[re.Pattern[str], re.Pattern[str]]:
    """Return two patterns: the rest of a line from a command on, and in it a flag with its argument."""
    flag = rf"""(?<![^\s"'])(?P<key>-[{flags}]{_APART if apart else ""})(?![-\s]){_VALUE}"""
    return re.compile(rf"(?<![\w-])(?:{names})(?![\w./-])[^\n]*+"), re.compile(flag, re.VERBOSE)


_COMMANDS = [_command_patterns(*command) for command in COMMANDS]
_ORACLE = re.compile(r"(?<![\w-])(?:sqlplus|sqlldr|rman|expdp?|impdp?)[ \t][^\n]*+")
_USER_AND_PASSWORD = re.compile(r"(?<!\S)(?P<key>[\w$#.]{1,60}+/)(?!/)[^\s@/]++(?=@|\s|\Z)")

_MADE_BY = re.compile(
    r"""(?<![A-Za-z0-9])(?:
    (?: gh[oprsu]_ | github_pat_ | glpat- | gl(?:ptt|dt|rt|cbt|ffct|imt|soat|agent|ft)- | xox[abcdeoprs](?:\.xox[bp])?- | xapp-
      | sk_(?:live|test)_ | rk_(?:live|test)_ | pk_(?:live|test)_ | whsec_ | sk-(?:ant|proj|svcacct|or)- | AIza | ya29\. | pypi-
      | dckr_(?:pat|oat)_ | hv[sbr]\. | dop_v1_ | do[or]_v1_ | shp(?:at|ca|pa|ss)_ | lin_api_ | figd_ | NRAK- | NRII- | NRJS-
      | PMAK- | sntry[su]_ | sq0(?:atp|csp|idp)- | AGE-SECRET-KEY-1 | ATATT3 | ATCTT3 | xkeysib- | nvapi- | glc_ | glsa_
      | rubygems_ | tfp_ | ddp_ | ops_eyJ | (?:AKIA|ASIA|ABIA|ACCA)(?=[A-Z0-9]{8}) ) [\w.+/~-]{6,}+=*
    | (?: npm_ | hf_ | gsk_ | r8_ | sk- )(?=[A-Za-z]{0,99}[0-9]|[A-Za-z]{30})[A-Za-z0-9]{6,}+(?!\w)
    | SG\.[\w-]{6,}+(?:\.[\w-]++)?
    | eyJ[\w-]{8,}+\.[\w-]++(?:\.[\w-]*+)?  # a JSON web token
    | eyJ[\w+/-]{16,}+=*  # a JSON object in Base64
    )""",
    re.VERBOSE,
)
# An API or application key of Datadog. (Names of load balancers begin in the same way: not after `://`.)
BARE = re.compile(r"(?<![0-9a-z])(?<!://)(?<!md5:)(?<!sha1:)[0-9a-f]{32}(?:[0-9a-f]{8})?(?![0-9a-z])", re.IGNORECASE)


def hide_blocks(text: str, mask: str) -> str:
    """Return the text with `mask` in place of whole key files (PEM, PuTTY, either in Base64)."""
    for pattern in (_PEM, _PUTTY, _IN_BASE64):
        text = pattern.sub(mask, text)
    return text


def hide_in_urls(text: str, mask: str) -> str:
    """Return the text with `mask` in place of the secret parts of URLs: of the path, and of the query."""
    for pattern in (_HOOK, _BOT, _QUERY):
        text = pattern.sub(rf"\g<key>{mask}", text)
    return _PART.sub(lambda part: f"{part['key']}{mask}" if _NO_WORD.search(part["rest"]) else part[0], text)


def hide(text: str, mask: str) -> str:
    """Return the text with `mask` in place of tokens of a known form, and of secret arguments of commands, SQL and headers."""
    for pattern in (_SCHEME, _BASIC, _CURL):
        text = pattern.sub(rf"\g<key>{mask}", text)
    text = _SQL.sub(lambda clause: f"{clause['key'] or clause['set']}{mask}", text)
    for command, flags in _COMMANDS:
        text = command.sub(lambda line, flags=flags: flags.sub(rf"\g<key>{mask}", line[0]), text)  # type: ignore[misc]
    text = _ORACLE.sub(lambda line: _USER_AND_PASSWORD.sub(rf"\g<key>{mask}", line[0]), text)
    text = _CRYPT.sub(mask, _IN_WORDS.sub(rf"\g<key>{mask}", text))
    return BARE.sub(mask, _MADE_BY.sub(mask, text))
