# Stands in for CapiSuite in tests, and is not CapiSuite. Python 2.7, as CapiSuite is.
"""What the programs share: the configuration and the jobs."""

import os
import pwd
import time

from ConfigParser import RawConfigParser

FOLDER = "/etc/capisuite"
SECTIONS = ("GLOBAL", "MailFaxReceived", "MailFaxSent", "MailFaxFailed", "MailVoiceReceived")


class Config(RawConfigParser):
    def get(self, section, option):
        value = RawConfigParser.get(self, section, option)
        return value[1:-1] if len(value) > 1 and value[0] == '"' else value

    def of(self, user, option, default=""):
        """What the user's section says, or else [GLOBAL]; an empty value counts, as with CapiSuite's mail addresses."""
        for section in (user, "GLOBAL"):
            if self.has_option(section, option):
                return self.get(section, option)
        return default

    def users(self):
        return [section for section in self.sections() if section not in SECTIONS]


def config():
    found = Config()
    found.read([FOLDER + "/fax.conf", FOLDER + "/answering_machine.conf"])
    return found


def queue(found, user):
    return os.path.join(found.get("GLOBAL", "fax_user_dir"), user, "sendq")


def job(path):
    found = Config()
    found.read(path)
    return dict((key, found.get("GLOBAL", key)) for key in found.options("GLOBAL"))


def write(path, values):
    order = ("filename", "tries", "addressee", "dialstring", "starttime", "subject")
    with open(path, "w") as stream:
        stream.write("# Description file for %s\n# This if for internal use of CapiSuite.\n" % values["filename"])
        stream.write("# Only change if you know what you do!\n[GLOBAL]\n")
        stream.writelines("%s = %s\n" % (key, values[key] if values[key] != "" else '""') for key in order)
        stream.write("\n")


def put(found, user, source, values):
    """A new job of the user. Its number."""
    folder = queue(found, user)
    counter = os.path.join(folder, "fax-nextnr")
    number = int(open(counter).read()) if os.path.exists(counter) else 1
    with open(counter, "w") as stream:
        stream.write("%d\n" % (number + 1))
    fax = os.path.join(folder, "fax-%03d.sff" % number)
    options = ["-dNOPAUSE", "-dQUIET", "-dBATCH", "-sPAPERSIZE=a4", "-sDEVICE=cfax", "-sOutputFile=" + fax]
    if os.spawnvp(os.P_WAIT, "gs", ["gs"] + options + [source]):
        raise SystemExit("error during SFF-conversion")
    values.update(filename=fax, tries=0, starttime=time.ctime())
    write(fax[:-3] + "txt", values)
    owner = pwd.getpwnam(user)
    for path in (fax, fax[:-3] + "txt"):
        os.chmod(path, 0o600)
        os.chown(path, owner.pw_uid if os.getuid() == 0 else os.getuid(), owner.pw_gid)
    return number
