# Stands in for CapiSuite's script in tests. Python 2.7, as CapiSuite is.
import os
import pwd
import re
import subprocess
import time

import standin

SENT = (0, 0x3400, 0x3480, 0x3490, 0x349F)


def result(number):
    """How a call to the number ends: that is what the tests say by it."""
    cause = re.match("99(33[0-9a-f]{2}|[0-9]+)$", number)
    if not cause:
        return 0x3490
    return int(cause.group(1), 16) if len(cause.group(1)) == 4 else 0x3480 | int(cause.group(1))


def mail(config, user, section, values):
    text = "From: %s\nTo: %s\nSubject: %s\n\n%s\n" % (
        config.of(user, "fax_email_from", user),
        config.of(user, "fax_email", user),
        config.get(section, "subject") % values,
        config.get(section, "text") % values,
    )
    program = subprocess.Popen(["/usr/sbin/sendmail", "-t"], stdin=subprocess.PIPE)
    program.communicate(text)
    return program.returncode


def idle(log, error):
    config = standin.config()
    spool = config.get("GLOBAL", "spool_dir")
    tries, delays = config.getint("GLOBAL", "send_tries"), config.get("GLOBAL", "send_delays").split(",")
    for user in config.users():
        folder = standin.queue(config, user)
        for name in sorted(os.listdir(folder)):
            number = re.match(r"fax-([0-9]+)\.txt$", name)
            if not number:
                continue
            path = os.path.join(folder, name)
            job = standin.job(path)
            if os.stat(path).st_uid != pwd.getpwnam(user).pw_uid:
                error("job %s seems to be manipulated (wrong uid)! Ignoring..." % path)
                continue
            if time.mktime(time.strptime(job["starttime"])) > time.time():
                continue
            called = int(number.group(1))
            log("job %d from %s to %s initiated" % (called, user, job["dialstring"]), 1)
            time.sleep(1)
            cause = result(job["dialstring"])
            log("job %d: result was 0x%x, 0x%x" % (called, cause, 0), 1)
            job["tries"] = int(job["tries"]) + 1
            if cause in SENT or job["tries"] >= tries:
                end = "done" if cause in SENT else "failed"
                log("job %d: %s" % (called, "finished successfully" if cause in SENT else "failed finally"), 1)
                base = os.path.join(spool, end, "%s-fax-%03d." % (user, called))
                os.rename(job["filename"], base + "sff")
                os.rename(path, base + "txt")
                job["filename"] = base + "sff"
                standin.write(base + "txt", job)
                section = "MailFaxSent" if cause in SENT else "MailFaxFailed"
                if mail(config, user, section, dict(job, result=cause, resultB3=0, hostname=os.uname()[1])):
                    error("sendmail failed for job %d of %s" % (called, user))
            else:
                delay = int(delays[min(len(delays), job["tries"]) - 1])
                log("job %d: delayed for %d seconds" % (called, delay), 2)
                job["starttime"] = time.ctime(time.time() + delay)
                standin.write(path, job)
