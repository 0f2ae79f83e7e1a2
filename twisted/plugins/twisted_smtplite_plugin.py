"""Shows ``smtplite`` to ``twistd`` and ``twist``. Nothing else belongs here: Twisted imports every plugin module."""

from twisted.application.service import ServiceMaker

smtplite = ServiceMaker(
    "twisted-smtplite",
    "twisted_smtplite.app.tap",
    "An SMTP server that receives mail into a Maildir or any other delivery",
    "smtplite",
)
