# Copyright (c) 2026, the kvm.passthrough authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import configparser
import typing as t

import pytest

from ansible_collections.kvm.passthrough.plugins.module_utils._capisuite import judge, render

GERNOT: dict[str, t.Any] = {"name": "gernot", "fax_numbers": ["11", "12"], "fax_stationID": "+49 89 123456"}
ANNA: dict[str, t.Any] = {"name": "anna", "voice_numbers": ["13"], "fax_stationID": "+49 89 123457", "pin": "99*45"}

FILE = {"file": "/srv/capisuite_0.5_amd64.deb"}
URL = {"url": "https://example.org/misdn_2.0_amd64.deb", "checksum": f"sha256:{'0' * 64}"}
REPOSITORY = {"url": "https://example.org", "suite": "bullseye", "components": "main", "key": "/srv/key.asc"}


def settings(**given: t.Any) -> dict[str, t.Any]:
    return {
        "users": [GERNOT],
        "fax": {},
        "voice": {},
        "ddi_length": 0,
        "ddi_base_length": 0,
        "ddi_stop_numbers": [],
        "idle_interval": 30,
        "log_level": 2,
        "scripts": "/usr/share/capisuite",
        "sounds": "/usr/share/capisuite",
        "announcements": {},
        "packages": ["capisuite"],
        "repository": {},
        **given,
    }


def without(user: dict[str, t.Any], *keys: str) -> dict[str, t.Any]:
    return {key: value for key, value in user.items() if key not in keys}


# ---------------------------------------------------------------------------------------------------------------------
# What is wrong


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"users": [GERNOT, ANNA]},
        {"users": [without(GERNOT, "fax_stationID")], "fax": {"fax_stationID": "+49 30 1"}},
        {"users": [{**GERNOT, "voice_numbers": ["11"]}]},  # an answering machine and a fax on one number
        {"users": [{**GERNOT, "fax_numbers": ["*"], "outgoing_MSN": "11"}]},
        {"users": [{**GERNOT, "fax_numbers": ["11", "-"]}]},
        {"users": [{"name": "send", "outgoing_MSN": "11", "fax_stationID": "1"}]},
        {"users": [{**GERNOT, "fax_email": ["a@example.org", "root"], "fax_headline": "Sent by us; really"}]},
        {"users": [{**GERNOT, "fax_numbers": ["11", "0"]}], "ddi_length": 2, "ddi_stop_numbers": ["0"]},
        {"users": [{**ANNA, "announcement": "/srv/a.wav"}]},
        {"fax": {"send_delays": [60, 60], "dial_prefix": "0", "outgoing_timeout": "90"}},
        {"packages": []},
        {"packages": ["misdncapid", FILE, URL]},
        {"repository": REPOSITORY},
        {"voice": {"user_audio_files": True, "record_silence_timeout": 0, "voice_delay": 0}},
    ],
)
def test_settings_without_a_fault(given: dict[str, t.Any]) -> None:
    assert judge(settings(**given)) == []


@pytest.mark.parametrize(
    ("key", "value", "takes"),
    [
        ("name", "Gernot Hillier", "the name of a system user"),
        ("fax_numbers", "11", "a list of numbers as text"),
        ("fax_numbers", [11], "in quotes, for YAML takes 012 for 10"),
        ("fax_numbers", [], "a list of numbers"),
        ("fax_numbers", ["*", "11"], "['*'] alone for all"),
        ("fax_numbers", ["+4989123"], "digits only"),
        ("voice_numbers", ["1 2"], "digits only"),
        ("outgoing_MSN", "", "digits, in quotes"),
        ("outgoing_MSN", 11, "digits, in quotes"),
        ("outgoing_timeout", 0, "1 to 3600 seconds"),
        ("outgoing_timeout", True, "1 to 3600 seconds"),
        ("fax_stationID", "+49 (89) 123456", "digits, blanks and +"),
        ("fax_stationID", "+49 89 1234567 8901234", "20 characters at most"),
        ("fax_stationID", "", "20 characters at most"),
        ("fax_headline", "Bäckerei", "printable ASCII"),
        ("fax_headline", "one ; two", "no blank before a semicolon"),
        ("fax_headline", 'the "A" team', "without a quotation mark"),
        ("fax_email", "", "leave it out for the user's own mailbox"),
        ("fax_email", [], "leave it out for the user's own mailbox"),
        ("fax_email", "a@example.org, b@example.org", "an address, or a list of them"),
        ("fax_action", "mail", "MailAndSave or SaveOnly"),
        ("fax_action", "None", "MailAndSave or SaveOnly"),
        ("voice_action", None, "MailAndSave or SaveOnly or None"),
        ("voice_delay", -1, "0 to 3600 seconds"),
        ("pin", 9945, "digits, * and #, in quotes"),
        ("announcement", "hello.wav", "the absolute path of a .wav file on the controller"),
        ("announcement", "/srv/hello.mp3", "the absolute path of a .wav file on the controller"),
    ],
)
def test_a_value_that_does_not_fit(key: str, value: t.Any, takes: str) -> None:
    (fault,) = judge(settings(users=[{**GERNOT, key: value}]))
    assert f": {key} is {value!r}; it takes " in fault
    assert takes in fault


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"users": []}, "capisuite_guest_users is empty"),
        (
            {"users": [{**GERNOT, "fax_number": "11"}]},
            "gernot: fax_number is no key of it; it takes name, announcement",
        ),
        ({"fax": {"send_controller": 0}}, "capisuite_guest_fax: send_controller is 0; it takes 1 to 127"),
        ({"fax": {"send_delays": ["x"]}}, "send_delays is ['x']; it takes a list of seconds"),
        ({"fax": {"spool_dir": "/srv"}}, "capisuite_guest_fax: spool_dir is no key of it"),
        (
            {"voice": {"user_audio_files": "yes"}},
            "capisuite_guest_voice: user_audio_files is 'yes'; it takes true or false",
        ),
        ({"users": [without(GERNOT, "name")]}, "entry 1 has no name"),
        ({"users": [without(GERNOT, "fax_numbers")]}, "gernot has neither fax_numbers nor voice_numbers"),
        (
            {"users": [without(GERNOT, "fax_stationID")]},
            "gernot has no fax_stationID, and capisuite_guest_fax has none",
        ),
        ({"users": [{**GERNOT, "fax_numbers": ["*"]}]}, "would call others as '*', the first of fax_numbers"),
        ({"users": [{**GERNOT, "fax_numbers": ["-", "11"]}]}, "would call others as '-'"),
        ({"users": [{**GERNOT, "pin": "1", "voice_delay": 5}]}, "gernot has voice_delay, pin, but no voice_numbers"),
        ({"users": [GERNOT, {**GERNOT, "fax_numbers": ["14"]}]}, "capisuite_guest_users has gernot twice"),
        ({"users": [GERNOT, {**ANNA, "voice_numbers": ["11"]}]}, "anna and gernot both have the number 11"),
        ({"packages": ["Capi Suite"]}, "capisuite_guest_packages has 'Capi Suite'; an entry is a name, or file"),
        ({"packages": [11]}, "capisuite_guest_packages has 11; an entry is a name"),
        ({"packages": [{"file": "capisuite.deb"}]}, "file with the absolute path of a .deb file of the controller"),
        ({"packages": [{**FILE, **URL}]}, "checksum with sha256:… or sha512:…"),
        ({"packages": [{**URL, "checksum": "md5:1"}]}, "checksum with sha256:… or sha512:…"),
        ({"packages": [without(URL, "checksum")]}, "checksum with sha256:… or sha512:…"),
        ({"packages": [{**URL, "url": "http://example.org/a.deb"}]}, "url with an https URL of a .deb file"),
        ({"repository": without(REPOSITORY, "key", "suite")}, "capisuite_guest_repository lacks suite, key"),
        (
            {"repository": {**REPOSITORY, "key": "key.asc"}},
            "capisuite_guest_repository: key is 'key.asc'",
        ),
        ({"ddi_stop_numbers": ["0"]}, "capisuite_guest_ddi_stop_numbers needs a capisuite_guest_ddi_length"),
        ({"ddi_base_length": 6}, "capisuite_guest_ddi_base_length needs a capisuite_guest_ddi_length"),
        ({"ddi_length": -1}, "they count digits"),
        ({"ddi_length": 2, "ddi_stop_numbers": ["123"]}, "'123' is no extension that ends before its 2 digits"),
        ({"ddi_length": 2, "ddi_stop_numbers": [0]}, "write it in quotes"),
        (
            {"users": [{**GERNOT, "fax_numbers": ["11", "123"]}], "ddi_length": 2},
            "gernot: fax_numbers has 123, which is neither an extension of 2 digits",
        ),
    ],
)
def test_what_does_not_go_together(given: dict[str, t.Any], words: str) -> None:
    (fault,) = judge(settings(**given))
    assert words in fault


def test_all_faults_are_said_at_once() -> None:
    found = judge(settings(users=[{**GERNOT, "fax_action": "x"}, {**ANNA, "pin": "x"}], fax={"send_tries": 0}))
    assert len(found) == 3


def test_a_user_called_like_a_section() -> None:
    # Names of users are in small letters, so that this one does not get so far.
    (fault,) = judge(settings(users=[{**GERNOT, "name": "GLOBAL"}]))
    assert "name is 'GLOBAL'" in fault


# ---------------------------------------------------------------------------------------------------------------------
# The files


def read(given: dict[str, t.Any]) -> configparser.RawConfigParser:
    """Both files, as CapiSuite reads them: into one parser, and without the quotation marks."""
    assert judge(given) == []
    files = render(given)
    parser = configparser.RawConfigParser(strict=False)
    for name in ("fax.conf", "answering_machine.conf"):
        parser.read_string(files[name])
    for section in parser.sections():
        for key, value in parser.items(section):
            if value.startswith('"'):
                parser.set(section, key, value[1:-1])
    return parser


def test_the_daemon_s_file() -> None:
    text = render(settings(ddi_length=2, ddi_base_length=6, ddi_stop_numbers=["0", "9"], scripts="/opt/cs"))[
        "capisuite.conf"
    ]
    assert text.splitlines()[1:] == [
        'incoming_script="/opt/cs/incoming.py"',
        'idle_script="/opt/cs/idle.py"',
        'idle_script_interval="30"',
        'log_file="/var/log/capisuite.log"',
        'log_level="2"',
        'log_error="/var/log/capisuite.error"',
        'DDI_length="2"',
        'DDI_base_length="6"',
        'DDI_stop_numbers="0,9"',
    ]


def test_what_is_written_for_all() -> None:
    parser = read(settings(fax={"send_tries": 3, "send_delays": [60, "300"], "fax_stationID": "+49 30 1"}))
    assert dict(parser.items("GLOBAL")) == {
        "spool_dir": "/var/spool/capisuite/",
        "fax_user_dir": "/var/spool/capisuite/users/",
        "send_tries": "3",
        "send_delays": "60,300",
        "send_controller": "1",
        "outgoing_timeout": "60",
        "fax_stationid": "+49 30 1",
        "fax_email_from": "capisuite daemon <root>",
        "audio_dir": "/usr/share/capisuite/",
        "voice_user_dir": "/var/spool/capisuite/users/",
        "user_audio_files": "0",
        "record_length": "60",
        "record_silence_timeout": "5",
        "voice_email_from": "capisuite daemon <root>",
        "voice_delay": "15",
    }


def test_what_is_written_for_a_user() -> None:
    both = {
        **GERNOT,
        "voice_numbers": ["13", "14"],
        "fax_email": ["a@example.org", "b@example.org"],
        "voice_action": "None",
    }
    parser = read(settings(users=[both], voice={"voice_delay": 7}, announcements={"gernot": "announcement-1.la"}))
    assert dict(parser.items("gernot")) == {
        "fax_numbers": "11,12",
        "fax_stationid": "+49 89 123456",
        "fax_email": "a@example.org,b@example.org",
        "fax_action": "MailAndSave",
        "announcement": "announcement-1.la",
        "voice_numbers": "13,14",
        "voice_delay": "7",  # in GLOBAL alone it would not count
        "voice_action": "None",
    }


def test_an_answering_machine_takes_a_fax_that_calls_it() -> None:
    files = render(settings(users=[ANNA]))
    assert '[anna]\nfax_stationID="+49 89 123457"\nfax_action="MailAndSave"\n' in files["fax.conf"]
    assert "fax_numbers" not in files["fax.conf"]


def test_who_only_faxes_is_not_in_the_answering_machine_s_file() -> None:
    assert "[gernot]" not in render(settings())["answering_machine.conf"]


def test_an_address_that_is_not_given_has_no_line() -> None:
    files = render(settings(users=[GERNOT, ANNA]))
    assert "fax_email=" not in files["fax.conf"]
    assert "voice_email=" not in files["answering_machine.conf"]


def test_who_takes_all_numbers_comes_last() -> None:
    rest = {**ANNA, "voice_numbers": ["*"]}
    parser = read(settings(users=[rest, GERNOT]))
    assert [name for name in parser.sections() if name.islower()] == ["gernot", "anna"]


@pytest.mark.parametrize("section", ["MailFaxReceived", "MailFaxSent", "MailFaxFailed", "MailVoiceReceived"])
def test_mails_say_only_what_capisuite_knows(section: str) -> None:
    known = {
        "MailFaxReceived": "call_from call_to stationID bitRate resolution color numPages filename hostname",
        "MailFaxSent": "addressee dialstring subject filename tries result resultB3 hostname",
        "MailFaxFailed": "addressee dialstring subject filename tries result resultB3 hostname",
        "MailVoiceReceived": "call_from call_to date msg_length filename hostname",
    }[section]
    values = {key: 0x3491 if key.startswith("result") else key for key in known.split()}
    parser = read(settings())
    text = parser.get(section, "text") % values
    assert "%" not in parser.get(section, "subject") % values + text
    assert len(text.strip().splitlines()) > 1
