# Copyright (c) 2026, the kvm.passthrough authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is wrong with the variables of CapiSuite, and the three files that they make. Pure: data in, text out.

The files are written whole. capisuite.conf is read by the daemon, line by line; fax.conf and answering_machine.conf by
its scripts with Python 2's RawConfigParser, as one: sections of the same name add up.
"""

from __future__ import annotations

import re
import typing as t

Settings = t.Mapping[str, t.Any]

SPOOL = "/var/spool/capisuite"
_HEADER = "# Written by the role kvm.passthrough.capisuite_guest. What is changed here is lost.\n"
# Sections that are no users.
_KNOWN = ("GLOBAL", "MailFaxReceived", "MailFaxSent", "MailFaxFailed", "MailVoiceReceived")


class _Rule(t.NamedTuple):
    """What a key takes: in words, as a test, and as the file has it."""

    takes: str
    test: t.Callable[[t.Any], bool]
    text: t.Callable[[t.Any], str] = str


def _pattern(takes: str, pattern: str) -> _Rule:
    return _Rule(takes, lambda value: isinstance(value, str) and re.fullmatch(pattern, value) is not None)


def _whole(least: int, most: int, what: str = "seconds") -> _Rule:
    def test(value: t.Any) -> bool:
        number = isinstance(value, (int, str)) and not isinstance(value, bool) and re.fullmatch(r"\d{1,9}", str(value))
        return bool(number) and least <= int(value) <= most

    return _Rule(f"{least} to {most} {what}", test, lambda value: str(int(value)))


def _choice(*words: str) -> _Rule:
    return _Rule(" or ".join(words), words.__contains__)


def _listed(value: t.Any) -> list[t.Any]:
    return value if isinstance(value, list) else [value]


def _comma(value: t.Any) -> str:
    return ",".join(str(item) for item in _listed(value))


def _is_numbers(value: t.Any) -> bool:
    if not isinstance(value, list) or not value:
        return False
    return value == ["*"] or all(isinstance(one, str) and re.fullmatch(r"[0-9]{1,20}|-", one) for one in value)


def _is_text(value: t.Any) -> bool:
    # RawConfigParser of Python 2 takes what follows a blank and a semicolon for a comment.
    return (
        isinstance(value, str) and re.fullmatch(r"[ -~]*", value) is not None and " ;" not in value and '"' not in value
    )


def _is_addresses(value: t.Any) -> bool:
    address = r'[^\s,;"<>@]+(@[^\s,;"<>@]+)?'
    return bool(_listed(value)) and all(isinstance(one, str) and re.fullmatch(address, one) for one in _listed(value))


_MOST = 999999
_NUMBERS = _Rule(
    "a list of numbers as text, digits only (in quotes, for YAML takes 012 for 10), with '-' for calls without a"
    " number, or ['*'] alone for all",
    _is_numbers,
    _comma,
)
_NUMBER = _pattern("digits, in quotes", r"[0-9]{1,20}")
_PREFIX = _pattern("digits, in quotes", r"[0-9+*#]{0,20}")
_STATION = _pattern("20 characters at most, of digits, blanks and +", r"[ +0-9]{1,20}")
_TEXT = _Rule("printable ASCII without a quotation mark, and no blank before a semicolon", _is_text)
_ADDRESSES = _Rule("an address, or a list of them; leave it out for the user's own mailbox", _is_addresses, _comma)
_DELAYS = _Rule(
    "a list of seconds",
    lambda value: isinstance(value, list) and bool(value) and all(map(_whole(1, _MOST).test, value)),
    _comma,
)
_SWITCH = _Rule("true or false", lambda value: isinstance(value, bool), lambda value: str(int(value)))

# What the files have for all, and what they have for one user. The names are CapiSuite's own.
FAX: dict[str, _Rule] = {
    "send_tries": _whole(1, 1000, "tries"),
    "send_delays": _DELAYS,
    "send_controller": _whole(1, 127, "as a controller of CAPI"),
    "outgoing_MSN": _NUMBER,
    "outgoing_timeout": _whole(1, 3600),
    "dial_prefix": _PREFIX,
    "fax_stationID": _STATION,
    "fax_headline": _TEXT,
    "fax_email_from": _TEXT,
}
VOICE: dict[str, _Rule] = {
    "user_audio_files": _SWITCH,
    "record_length": _whole(1, 36000),
    "record_silence_timeout": _whole(0, 3600),
    "voice_email_from": _TEXT,
    "voice_delay": _whole(0, 3600),
}
USER_FAX: dict[str, _Rule] = {
    "fax_numbers": _NUMBERS,
    "outgoing_MSN": FAX["outgoing_MSN"],
    "outgoing_timeout": FAX["outgoing_timeout"],
    "fax_stationID": FAX["fax_stationID"],
    "fax_headline": _TEXT,
    "fax_email": _ADDRESSES,
    "fax_email_from": _TEXT,
    "fax_action": _choice("MailAndSave", "SaveOnly"),
}
USER_VOICE: dict[str, _Rule] = {
    "voice_numbers": _NUMBERS,
    "voice_delay": VOICE["voice_delay"],
    "record_length": VOICE["record_length"],
    "record_silence_timeout": VOICE["record_silence_timeout"],
    "voice_email": _ADDRESSES,
    "voice_email_from": _TEXT,
    "pin": _pattern("digits, * and #, in quotes", r"[0-9*#]{1,32}"),
    "voice_action": _choice("MailAndSave", "SaveOnly", "None"),
}
_USER: dict[str, _Rule] = {
    "name": _pattern("the name of a system user", r"[a-z_][a-z0-9_-]{0,31}"),
    "announcement": _pattern("the absolute path of a .wav file on the controller", r"/.*\.wav"),
    **USER_FAX,
    **USER_VOICE,
}
_DEFAULTS_FAX: Settings = {
    "send_tries": 10,
    "send_delays": [60, 60, 60, 300, 300, 3600, 3600, 18000, 36000],
    "send_controller": 1,
    "outgoing_timeout": 60,
    "fax_email_from": "capisuite daemon <root>",
}
_DEFAULTS_VOICE: Settings = {
    "user_audio_files": False,
    "record_length": 60,
    "record_silence_timeout": 5,
    "voice_email_from": "capisuite daemon <root>",
    "voice_delay": 15,
}
_MAILS: dict[str, tuple[str, str]] = {
    "MailFaxReceived": (
        "Fax from %(call_from)s to %(call_to)s",
        "A fax of %(numPages)s page(s) from %(call_from)s (%(stationID)s) to %(call_to)s is attached.\n"
        "It is kept on %(hostname)s as %(filename)s.",
    ),
    "MailFaxSent": (
        "Fax to %(dialstring)s was sent",
        "The fax to %(dialstring)s was sent.\nAddressee: %(addressee)s\nSubject: %(subject)s\nTries: %(tries)s\n"
        "It is kept on %(hostname)s as %(filename)s.",
    ),
    "MailFaxFailed": (
        "Fax to %(dialstring)s was NOT sent",
        "The fax to %(dialstring)s was given up.\nAddressee: %(addressee)s\nSubject: %(subject)s\nTries: %(tries)s\n"
        "CAPI's last results: 0x%(result)x and 0x%(resultB3)x\nIt is kept on %(hostname)s as %(filename)s.",
    ),
    "MailVoiceReceived": (
        "Call from %(call_from)s to %(call_to)s",
        "A message of %(msg_length)s seconds from %(call_from)s to %(call_to)s of %(date)s is attached.\n"
        "It is kept on %(hostname)s as %(filename)s.",
    ),
}


# Where the packages come from: a name is for apt.
_PACKAGE_NAME = _pattern("a name", r"[a-z0-9][a-z0-9+.-]+")
_FILE = {"file": _pattern("the absolute path of a .deb file of the controller", r"/\S+\.deb")}
_URL = {
    "url": _pattern("an https URL of a .deb file", r"https://\S+\.deb"),
    "checksum": _pattern("sha256:… or sha512:…", r"sha256:[0-9a-fA-F]{64}|sha512:[0-9a-fA-F]{128}"),
}
_REPOSITORY = {
    "url": _pattern("a URL", r"https?://\S+"),
    "suite": _pattern("a word", r"\S+"),
    "components": _pattern("words", r"\S+( \S+)*"),
    "key": _pattern("the absolute path of a file of the controller, .asc if it is text, or .gpg", r"/\S+\.(asc|gpg)"),
}


def judge(settings: Settings) -> list[str]:
    """What is wrong with the settings, a sentence each; the keys are described in the filter capisuite_files."""
    users: list[Settings] = settings["users"]
    faults = _unfit("capisuite_guest_fax", settings["fax"], FAX) + _unfit(
        "capisuite_guest_voice", settings["voice"], VOICE
    )
    if not users:
        faults.append("capisuite_guest_users is empty: name a system user with fax_numbers or voice_numbers")
    for place, user in enumerate(users, 1):
        called = f"capisuite_guest_users, {user.get('name') or f'entry {place}'}"
        own = _unfit(called, user, _USER)
        faults += own or _incomplete(called, user, settings)
    return faults + _twice(users) + _extensions(settings) + _sources(settings)


def _sources(settings: Settings) -> list[str]:
    """Packages and a repository that nothing could be installed from."""
    faults = []
    for package in settings["packages"]:
        if not isinstance(package, dict):
            fits = _PACKAGE_NAME.test(package)
        else:
            rules = _URL if "url" in package else _FILE
            fits = set(package) == set(rules) and all(rule.test(package[key]) for key, rule in rules.items())
        if not fits:
            faults.append(
                f"capisuite_guest_packages has {package!r}; an entry is a name, or file with {_FILE['file'].takes}, or"
                f" url with {_URL['url'].takes} and checksum with {_URL['checksum'].takes}"
            )
    repository = settings["repository"]
    faults += _unfit("capisuite_guest_repository", repository, _REPOSITORY)
    lacking = [key for key in _REPOSITORY if repository and key not in repository]
    return faults + ([f"capisuite_guest_repository lacks {', '.join(lacking)}"] if lacking else [])


def _unfit(place: str, given: Settings, rules: t.Mapping[str, _Rule]) -> list[str]:
    """Keys that nobody knows, and values that do not fit."""
    unknown = [f"{place}: {key} is no key of it; it takes {', '.join(rules)}" for key in given if key not in rules]
    return unknown + [
        f"{place}: {key} is {given[key]!r}; it takes {rule.takes}"
        for key, rule in rules.items()
        if key in given and not rule.test(given[key])
    ]


def _incomplete(place: str, user: Settings, settings: Settings) -> list[str]:
    """What a user lacks, or has in vain; each value by itself fits."""
    faults = []
    if "name" not in user:
        faults.append(f"{place} has no name; it takes {_USER['name'].takes}")
    elif user["name"] in _KNOWN:
        faults.append(f"{place} is the name of a section of CapiSuite's own")
    if not {"fax_numbers", "voice_numbers", "outgoing_MSN"} & set(user):
        faults.append(f"{place} has neither fax_numbers nor voice_numbers, so that no call would be for this user")
    if "fax_stationID" not in user and "fax_stationID" not in settings["fax"]:
        faults.append(
            f"{place} has no fax_stationID, and capisuite_guest_fax has none for all: it is what the other fax machine"
            " shows"
        )
    own = user.get("outgoing_MSN") or settings["fax"].get("outgoing_MSN")
    if user.get("fax_numbers", ["0"])[0] in ("*", "-") and not own:
        faults.append(
            f"{place} would call others as '{user['fax_numbers'][0]}', the first of fax_numbers: set outgoing_MSN, or"
            " begin with a number"
        )
    if "voice_numbers" not in user:
        useless = [key for key in ("announcement", *USER_VOICE) if key in user]
        if useless:
            faults.append(f"{place} has {', '.join(useless)}, but no voice_numbers to be called at")
    return faults


def _twice(users: t.Sequence[Settings]) -> list[str]:
    """A name that is there twice; a number of two users, of whom CapiSuite takes whoever is first in the file."""
    names = [user.get("name") for user in users]
    faults = [
        f"capisuite_guest_users has {name} twice" for name in sorted({str(n) for n in names if names.count(n) > 1})
    ]
    owners: dict[str, set[str]] = {}
    for user in users:
        for key in ("fax_numbers", "voice_numbers"):
            for number in user[key] if _is_numbers(user.get(key)) else []:
                owners.setdefault(number, set()).add(str(user.get("name")))
    return faults + [
        f"capisuite_guest_users: {' and '.join(sorted(named))} both have the number {number}; a call is for one of them"
        for number, named in sorted(owners.items())
        if len(named) > 1
    ]


def _extensions(settings: Settings) -> list[str]:
    """On a point-to-point line a call comes with its extension alone."""
    length, base, stops = settings["ddi_length"], settings["ddi_base_length"], settings["ddi_stop_numbers"]
    if min(length, base) < 0:
        return [f"capisuite_guest_ddi_length is {length} and capisuite_guest_ddi_base_length {base}; they count digits"]
    if not length:
        faults = ["capisuite_guest_ddi_stop_numbers needs a capisuite_guest_ddi_length"] if stops else []
        return faults + (["capisuite_guest_ddi_base_length needs a capisuite_guest_ddi_length"] if base else [])
    faults = [
        f"capisuite_guest_ddi_stop_numbers: {stop!r} is no extension that ends before its {length} digits; write it in"
        " quotes"
        for stop in stops
        if not isinstance(stop, str) or not re.fullmatch(r"[0-9]+", stop) or len(stop) >= length
    ]
    for user in settings["users"]:
        for key in ("fax_numbers", "voice_numbers"):
            for number in user[key] if _is_numbers(user.get(key)) else []:
                if number not in ("*", "-", *stops) and len(number) != length:
                    faults.append(
                        f"capisuite_guest_users, {user.get('name')}: {key} has {number}, which is neither an extension"
                        f" of {length} digits (capisuite_guest_ddi_length) nor one of capisuite_guest_ddi_stop_numbers"
                    )
    return faults


def render(settings: Settings) -> dict[str, str]:
    """The text of each file by its name, of settings that are without a fault."""
    # Who takes all numbers comes last, or nobody behind would be called.
    users = sorted(settings["users"], key=lambda user: ["*"] in (user.get("fax_numbers"), user.get("voice_numbers")))
    return {
        "capisuite.conf": _daemon(settings),
        "fax.conf": _fax(settings, users),
        "answering_machine.conf": _voice(settings, users),
    }


def _daemon(settings: Settings) -> str:
    lines = {
        "incoming_script": f"{settings['scripts']}/incoming.py",
        "idle_script": f"{settings['scripts']}/idle.py",
        "idle_script_interval": settings["idle_interval"],
        "log_file": "/var/log/capisuite.log",
        "log_level": settings["log_level"],
        "log_error": "/var/log/capisuite.error",
        "DDI_length": settings["ddi_length"],
        "DDI_base_length": settings["ddi_base_length"],
        "DDI_stop_numbers": ",".join(settings["ddi_stop_numbers"]),
    }
    return _HEADER + "".join(f'{key}="{value}"\n' for key, value in lines.items())


def _fax(settings: Settings, users: t.Sequence[Settings]) -> str:
    folders = {"spool_dir": f"{SPOOL}/", "fax_user_dir": f"{SPOOL}/users/"}
    common = {**_DEFAULTS_FAX, **settings["fax"]}
    text = _section("GLOBAL", folders, common, FAX)
    text += "".join(_mail(name) for name in ("MailFaxReceived", "MailFaxSent", "MailFaxFailed"))
    # Every user, for a fax that calls an answering machine is taken as well. CapiSuite stumbles over an action it
    # does not know, so that there always is one.
    for user in users:
        text += _section(user["name"], {}, {"fax_action": "MailAndSave", **user}, USER_FAX)
    return _HEADER + text


def _voice(settings: Settings, users: t.Sequence[Settings]) -> str:
    folders = {"audio_dir": f"{settings['sounds']}/", "voice_user_dir": f"{SPOOL}/users/"}
    common = {**_DEFAULTS_VOICE, **settings["voice"]}
    text = _section("GLOBAL", folders, common, VOICE) + _mail("MailVoiceReceived")
    for user in users:
        if "voice_numbers" in user:
            # CapiSuite looks for the delay in the user's section alone, and turns every call away if it is not there.
            own = {"voice_delay": common["voice_delay"], "voice_action": "MailAndSave", **user}
            sound = settings["announcements"].get(user["name"])
            text += _section(user["name"], {"announcement": sound} if sound else {}, own, USER_VOICE)
    return _HEADER + text


def _section(name: str, first: Settings, values: Settings, rules: t.Mapping[str, _Rule]) -> str:
    lines = {**first, **{key: rule.text(values[key]) for key, rule in rules.items() if key in values}}
    return f"\n[{name}]\n" + "".join(f'{key}="{value}"\n' for key, value in lines.items())


def _mail(name: str) -> str:
    subject, text = _MAILS[name]
    return f"\n[{name}]\nsubject = {subject}\ntext =\n" + "".join(f"  {line}\n" for line in text.splitlines())
